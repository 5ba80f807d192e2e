"""`agent-service run` and its questions, in a pipe and on a terminal."""

from __future__ import annotations

import json
import re
import threading

from tests.e2e.desk import DIFF, EDIT, QUESTION, TASK, Desk, Screen
from tests.upstream import ScriptedUpstream, wait


def test_a_piped_answer_leads_to_the_changed_file_in_plain_text(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    upstream.then(*TASK)
    done = desk.call("run", "Greet someone", stdin="1\n")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "Question: Which name?\n  1) Orion\n  2) Vega\nAnswer: Orion\n" in done.stdout
    assert "edit_file(greet.py)  +1 -1\n" in done.stdout
    assert done.stdout.endswith("\n" + DIFF)
    assert (desk.project / "greet.py").read_text() == 'print("Hello, Orion!")\n'
    assert upstream.refusals == []


def test_json_goes_to_standard_output_alone(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(*TASK)
    done = desk.call("run", "Greet someone", "--json", stdin="Orion\n")
    response = json.loads(done.stdout)
    assert response["agent_status"] == "completed"
    assert response["files_changed"][0]["path"] == "greet.py"
    assert "edit_file(greet.py)" in done.stderr


def test_without_anybody_to_ask_the_thread_waits_and_is_answered_by_the_command_shown(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    upstream.then(*TASK)
    left = desk.call("run", "Greet someone")
    assert left.returncode == 3
    shown = re.search(r'with: .+ threads answer (\S+) (\S+) "ANSWER" --config (\S+)', left.stdout)
    assert shown is not None, left.stdout
    thread_id, call_id, config = shown.groups()
    assert config == str(desk.config)
    assert "\trequires_human_input\t" in desk.call("threads", "list").stdout
    assert "Which name?" in desk.call("threads", "show", thread_id).stdout
    done = desk.call("threads", "answer", thread_id, call_id, "Orion")
    assert done.returncode == 0, done.stderr
    assert desk.call("threads", "diff", thread_id).stdout == DIFF
    again = desk.call("threads", "answer", thread_id, "Orion")
    assert again.returncode == 1
    assert again.stderr.startswith("agent-service: The thread does not wait for an answer; ")


def test_yes_answers_approvals_and_leaves_questions_open(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.configure(upstream, agent="agent: {approvals: {edit_file: ask}}")
    upstream.then(EDIT, *TASK[:1])
    done = desk.call("run", "Greet someone", "--yes", "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["human_input_request"]["kind"] == "question"
    assert "Orion" in (desk.project / "greet.py").read_text()


def test_a_thread_is_continued_in_its_own_project(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then("First.", "Second.")
    first = json.loads(desk.call("run", "One", "--json").stdout)
    second = desk.call("run", "Two", "--json", "--thread", first["thread_id"])
    assert json.loads(second.stdout)["thread_id"] == first["thread_id"]
    assert len(upstream.bodies[1]["messages"]) > len(upstream.bodies[0]["messages"])


def test_a_person_is_shown_the_question_and_picks_an_option(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(*TASK)
    screen = Screen(desk.command("run", "Greet someone"), desk.project, desk.environ)
    screen.until("your own words")
    assert "╭─ Question" in screen.text
    screen.type("1\n")
    assert screen.end() == 0
    assert "✓ Done" in screen.text
    assert "\x1b[32m+print" in screen.raw
    assert (desk.project / "greet.py").read_text() == 'print("Hello, Orion!")\n'


def test_no_color_is_respected(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(EDIT, "Done.")
    screen = Screen(desk.command("run", "Greet Orion"), desk.project, {**desk.environ, "NO_COLOR": "1"})
    assert screen.end() == 0
    assert not re.search(r"\x1b\[(\d+;)*3\d", screen.raw)


def test_what_a_model_writes_cannot_command_the_terminal(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then("safe \x1b]0;owned\x07\x1b[2J text")
    screen = Screen(desk.command("run", "Say something"), desk.project, desk.environ)
    assert screen.end() == 0
    assert "owned" in screen.raw
    assert "\x1b]0;" not in screen.raw
    assert "\x1b[2J" not in screen.raw


def test_ctrl_c_at_the_prompt_leaves_the_question_open(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(*TASK)
    screen = Screen(desk.command("run", "Greet someone"), desk.project, desk.environ)
    screen.until("your own words")
    screen.press_until("\x03", "threads answer")
    assert screen.end() == 3


def test_ctrl_c_during_a_run_cancels_it(desk: Desk, upstream: ScriptedUpstream) -> None:
    held = threading.Event()
    upstream.then(wait(held))
    screen = Screen(desk.command("run", "Take long"), desk.project, desk.environ)
    screen.until("working")
    screen.wait_for(lambda: upstream.requests)
    screen.type("\x03")
    screen.until("■ Cancelled")
    held.set()
    assert screen.end() == 130
    assert "Failed" not in screen.text
    assert "connection" not in screen.text


def test_what_cannot_be_is_wrong_usage_and_told_to_programs_too(desk: Desk) -> None:
    for words in (("run", " "), ("run", "x", "--thread", "a b"), ("run", "x", "--project", "/")):
        refused = desk.call(*words, "--json")
        assert refused.returncode == 2, refused.stderr
        error = json.loads(refused.stdout)["error"]
        assert error["message"].splitlines()[0] in refused.stderr
        assert error["code"]


def test_an_approval_is_answered_later_with_yes(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.configure(upstream, agent="agent: {approvals: {edit_file: ask}}")
    upstream.then(EDIT)
    left = desk.call("run", "Greet someone")
    assert left.returncode == 3
    assert re.search(r"threads answer \S+ \S+ YES_OR_NO --config \S+", left.stdout)


def test_a_person_at_a_prompt_is_told_of_the_answer_that_somebody_else_gave(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    upstream.then(*TASK)
    desk.serve()
    screen = Screen(desk.command("run", "Greet someone"), desk.project, desk.environ)
    screen.until("or your own words ›")
    [thread] = json.loads(desk.call("threads", "list", "--json").stdout)["threads"]
    assert desk.call("threads", "answer", thread["thread_id"], "Orion").returncode == 0
    assert "Answered: Orion" in screen.until("✓ Done")
    assert screen.end() == 0
    again = desk.call("threads", "follow", thread["thread_id"])
    told = again.stdout
    assert again.returncode == 0
    assert (
        told.index("Question: Which name?")
        < told.index("Answered: Orion")
        < told.index("edit_file(greet.py)")
    )
    [summary] = [line for line in told.splitlines() if line.startswith("✓ Done")]
    assert summary.endswith(" tokens"), "nobody knows how long the run took"


def test_a_withdrawn_question_is_not_asked_any_more(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(QUESTION)
    desk.serve()
    screen = Screen(desk.command("run", "Greet someone"), desk.project, desk.environ)
    screen.until("or your own words ›")
    [thread] = json.loads(desk.call("threads", "list", "--json").stdout)["threads"]
    desk.call("threads", "cancel", thread["thread_id"])
    screen.until("The question was withdrawn.")
    assert screen.end() == 130
    followed = desk.call("threads", "follow", thread["thread_id"], stdin="Orion\n")
    assert followed.returncode == 130
    assert "The question was withdrawn." in followed.stdout
    assert "Answer: " not in followed.stdout


def test_an_expired_question_is_called_that(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(QUESTION)
    desk.configure(upstream, agent="agent: {question_expiry_seconds: 1}")
    screen = Screen(desk.command("run", "Greet someone"), desk.project, desk.environ)
    screen.until("the question expired, and nothing was agreed to.")
    assert screen.end() == 1
    assert "Somebody else" not in screen.text


def test_markdown_is_laid_out_on_a_terminal_and_as_it_is_elsewhere(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    text = "# Done\n\nA `List<String>` of **two**: List<int>.\n\n- one\n- two &#x202e;\n"
    upstream.then(text, text)
    assert text in desk.call("run", "Anything").stdout
    screen = Screen(desk.command("run", "Anything"), desk.project, desk.environ)
    assert screen.end() == 0
    assert "A List<String> of two: List<int>." in screen.text
    assert " • one" in screen.text
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in screen.text
