"""`agent-service threads` as people and scripts use it."""

from __future__ import annotations

import json
import re

from tests.e2e.desk import DIFF, EDIT, QUESTION, Desk, Screen
from tests.upstream import ScriptedUpstream


def test_threads_are_named_by_the_beginning_of_their_id(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(QUESTION)
    desk.serve()
    thread_id = desk.waiting_thread()["thread_id"]
    assert thread_id in desk.call("threads", "list").stdout
    narrow = {**desk.environ, "COLUMNS": "60"}
    screen = Screen(desk.command("threads", "list"), desk.project, narrow)
    assert screen.end() == 0
    assert thread_id[:8] in screen.text
    assert thread_id not in screen.text
    assert "waits for an answer" in screen.text
    piped = desk.call("threads", "list", "--status", "requires_human_input").stdout.splitlines()
    assert piped[0].split("\t") == ["thread", "status", "changed", "instruction"]
    assert piped[1].split("\t")[:2] == [thread_id, "requires_human_input"]
    assert piped[1].endswith("\tGreet someone")
    assert "Which name?" in desk.call("threads", "show", thread_id[:4]).stdout
    assert desk.call("threads", "cancel", thread_id[:8]).stdout == "The question was withdrawn.\n"
    assert desk.call("threads", "cancel", thread_id[:8]).stdout == "There was nothing to cancel.\n"
    assert desk.call("threads", "delete", thread_id[:8]).returncode == 1
    assert desk.call("threads", "delete", thread_id[:8], "--yes").returncode == 0
    assert desk.call("threads", "show", thread_id).returncode == 2


def test_a_thread_is_taken_back_and_forked(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(EDIT, "Done.", QUESTION)
    desk.serve()
    thread_id = json.loads(desk.call("run", "Greet Orion", "--json").stdout)["thread_id"]
    assert desk.call("threads", "diff", thread_id).stdout == DIFF
    shown = desk.call("threads", "history", thread_id)
    assert "edit_file(greet.py)" in shown.stdout
    found = json.loads(desk.call("threads", "history", thread_id, "--json").stdout)["checkpoints"]
    first = next(each["checkpoint_id"] for each in found if each["messages"] == 1)
    assert first in shown.stdout
    unknown = desk.call("threads", "rewind", thread_id, "no-such")
    assert unknown.returncode == 2
    assert "threads history THREAD" in unknown.stderr
    assert "/v1/" not in unknown.stderr
    refused = desk.call("threads", "rewind", thread_id, first, "--files")
    assert (refused.returncode, "Nothing was changed" in refused.stdout) == (1, True)
    forked = desk.call("threads", "fork", thread_id, "--at", first)
    fork_id = forked.stdout.splitlines()[0].split()[-1]
    assert f"--thread {fork_id}" in forked.stdout
    assert desk.call("run", "Ask now", "--thread", fork_id).returncode == 3
    waiting = desk.call("run", "More", "--thread", fork_id)
    assert (waiting.returncode, "  2) Vega\n" in waiting.stdout) == (3, True)
    assert re.search(rf'\n  \S.* threads answer {fork_id} \S+ "ANSWER" --config \S+\n', waiting.stderr)
    again = desk.call("threads", "fork", fork_id)
    assert "Which name?" in again.stdout
    waits = json.loads(desk.call("threads", "history", fork_id, "--json").stdout)["checkpoints"][0]
    asked = desk.call("threads", "rewind", fork_id, waits["checkpoint_id"])
    assert "The question that was open is withdrawn." in asked.stdout
    assert "not asked again by itself" in asked.stdout
    back = desk.call("threads", "rewind", thread_id, first, "--files", "--yes")
    assert back.returncode == 0, back.stderr
    assert "restored  greet.py" in back.stdout, back.stdout
    assert (desk.project / "greet.py").read_text() == 'print("Hello, World!")\n'
    moments = desk.call("threads", "history", thread_id).stdout.splitlines()
    assert "\t[went back to 4] [now] Greet Orion" in moments[1], moments
    assert [line.split("\t")[0] for line in moments[1:]] == ["0", "1", "2", "3", "4", "5"]
    for wanted, messages in (("1", 4), (moments[3].split("\t")[1][:23], 3)):
        assert desk.call("threads", "rewind", thread_id, wanted).returncode == 0
        newest = json.loads(desk.call("threads", "history", thread_id, "--json").stdout)["checkpoints"][0]
        assert (newest["messages"], newest["rewound"]) == (messages, True)
    before = desk.call("threads", "history", thread_id, "--json").stdout
    stayed = [desk.call("threads", "rewind", thread_id, "0", *more) for more in ((), ("--json",))]
    assert stayed[0].stdout == stayed[1].stderr == "The thread is there already; nothing was changed.\n"
    assert [each.returncode for each in stayed] == [0, 0]
    assert json.loads(stayed[1].stdout)["restored"] == []
    assert desk.call("threads", "history", thread_id, "--json").stdout == before
    far = desk.call("threads", "rewind", thread_id, "99")
    assert (far.returncode, "goes back 7 moments, not 99" in far.stderr) == (2, True)


def test_the_number_of_an_option_is_that_option(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(QUESTION, QUESTION, "Done.")
    desk.serve()
    asked = desk.waiting_thread()
    picked = desk.call("threads", "answer", asked["thread_id"], "2", "--json")
    assert (picked.returncode, "Answer: Vega\n" in picked.stderr) == (3, True), picked.stderr
    call_id = json.loads(picked.stdout)["human_input_request"]["tool_call_id"]
    assert desk.call("threads", "answer", asked["thread_id"], call_id, "9").returncode == 0
    answers = [each["content"] for each in upstream.bodies[-1]["messages"] if each["role"] == "tool"]
    assert answers == ["Vega", "9"]


def test_a_rewind_names_what_it_left_alone(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(EDIT, "Done.")
    thread_id = json.loads(desk.call("run", "Greet Orion", "--json").stdout)["thread_id"]
    found = json.loads(desk.call("threads", "history", thread_id, "--json").stdout)["checkpoints"]
    (desk.project / "greet.py").write_text("mine\n")
    back = desk.call("threads", "rewind", thread_id, found[-1]["checkpoint_id"], "--files", "--yes")
    assert "kept      greet.py  changed since by somebody else" in back.stdout
    assert (desk.project / "greet.py").read_text() == "mine\n"


def test_finished_threads_are_cleared_away(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then("Done.", "Done.", QUESTION)
    desk.serve()
    desk.call("run", "One")
    desk.call("run", "Two")
    desk.waiting_thread()
    assert desk.call("threads", "prune").returncode == 2
    assert desk.call("threads", "prune", "--delete").returncode == 2
    keep = ("threads", "prune", "--keep", "2")
    shown = desk.call(*keep, "--dry-run").stdout.splitlines()
    assert [line.split("\t")[1:] for line in shown[1:]] == [["2", "One"], ["2", "Two"]]
    assert desk.call(*keep).returncode == 1, "nobody is there to be asked"
    screen = Screen(desk.command(*keep), desk.project, desk.environ)
    assert "4 checkpoints of 2 threads can be deleted." in screen.until("[y/N]")
    screen.type("y\n")
    assert screen.end() == 0
    assert "4 checkpoints of 2 threads deleted." in screen.text
    old = ("threads", "prune", "--delete", "--older-than", "0")
    assert desk.call(*old).returncode == 1
    assert desk.call(*old, "--yes").stdout == "2 threads deleted.\n"
    assert "\trequires_human_input\t" in desk.call("threads", "list").stdout
