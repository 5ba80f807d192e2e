"""How a run looks."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agent_service.cli.answers import chosen
from agent_service.cli.render import RunView, diff_text, print_diff, was_cancelled
from agent_service.cli.terminal import Terminal, ago, printable
from tools.diff import unified_diff


@given(st.text())
def test_what_is_shown_holds_no_command_for_the_terminal(text: str) -> None:
    shown = printable(text)
    assert all(each in "\n\t" or each.isprintable() or ord(each) > 0x9F for each in shown)
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in shown


def test_lines_of_a_diff_get_their_colours_also_when_they_look_like_headers() -> None:
    before, after = b"-- a comment\nkept\n", b"++ a comment\nkept\n"
    lines = list(diff_text(unified_diff("q.sql", before, after)))
    assert [(line.plain, str(line.style)) for line in lines] == [
        ("--- a/q.sql", "bold"),
        ("+++ b/q.sql", "bold"),
        ("@@ -1,2 +1,2 @@", "cyan"),
        ("--- a comment", "red"),
        ("+++ a comment", "green"),
        (" kept", ""),
    ]


def test_a_missing_line_end_is_no_change() -> None:
    lines = list(diff_text(unified_diff("a", b"one", b"two\n") + unified_diff("b", None, b"x\n")))
    styles = {line.plain: str(line.style) for line in lines}
    assert styles["\\ No newline at end of file"] == "dim"
    assert styles["+++ b/b"] == "bold"


def test_another_program_gets_the_diff_byte_by_byte() -> None:
    file = io.StringIO()
    print_diff(Console(file=file), "+\x1b[1m\r\n" + "long " * 100, live=False)
    assert file.getvalue() == "+\x1b[1m\r\n" + "long " * 100


@pytest.mark.parametrize(
    ("text", "answer"),
    [("1", "Orion"), ("2", "Vega"), ("3", "3"), ("0", "0"), ("Sirius", "Sirius"), ("²", "²")],
)
def test_a_number_chooses_an_option_and_everything_else_is_the_answer(text: str, answer: str) -> None:
    assert chosen(text, {"options": ["Orion", "Vega"]}) == answer
    assert chosen("1", {"options": None}) == "1"


@pytest.mark.parametrize(
    ("text", "answer"), [("2", "2"), ("1", "3"), ("3", "3"), (" 1 ", "3"), ("9" * 5000,) * 2]
)
def test_an_option_that_is_itself_a_number_means_itself(text: str, answer: str) -> None:
    assert chosen(text, {"options": ["3", "4", "2"]}) == answer


def ended(**fields: Any) -> dict[str, Any]:
    usage = {"model_calls": 2, "prompt_tokens": 10, "completion_tokens": 5, "cost_usd": None}
    given = {"agent_status": "completed", "error_details": None, "error_code": None, "usage": usage}
    return {**given, "model_used": "a/b", "models_used": ["a/b"], "files_changed": [], **fields}


@pytest.mark.parametrize(("timed", "end"), [(True, r" · \d+\.\d s"), (False, "")])
def test_the_time_is_told_of_a_run_that_was_seen_from_its_beginning(
    capsys: pytest.CaptureFixture[str], timed: bool, end: str
) -> None:
    RunView(Terminal(), timed=timed).summary(ended())
    summary = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(rf"✓ Done  a/b · 2 model calls · 10 \+ 5 tokens{end}", summary)


def test_who_cancelled_is_told_by_the_code_and_not_by_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    quoted = "The model said: cancelled by the user."
    assert was_cancelled(ended(agent_status="error", error_details="Stopped.", error_code="cancelled"))
    failed = ended(agent_status="error", error_details=quoted, error_code="provider_error")
    assert not was_cancelled(failed)
    RunView(Terminal()).summary(failed)
    assert quoted in capsys.readouterr().out


def test_a_run_without_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    view = RunView(Terminal())
    ids = {"thread_id": "t", "run_id": "r", "tool_call_id": "c"}
    happened: list[dict[str, Any]] = [
        {"kind": "run.started", "instruction": "x"},
        {"kind": "token", "text": "I will "},
        {"kind": "message", "role": "assistant", "text": "I will look.", "model": "m"},
        {"kind": "tool.started", **ids, "name": "write_file", "summary": "write_file(a.py)"},
        {
            "kind": "tool.finished",
            **ids,
            "name": "write_file",
            "ok": True,
            "summary": "written",
            "files_changed": [{"path": "a.py", "additions": 3, "deletions": 1}],
        },
        {"kind": "model.switched", "from": "a/b", "to": "c/d", "reason": "its quota ended"},
        {"kind": "error", "message": "It broke off. Asking again.", "code": "stream_cut"},
        {"kind": "one that is not known yet"},
    ]
    for event in happened:
        view.show(event)
    assert capsys.readouterr().out.splitlines() == [
        "I will look.",
        "  ✓ write_file(a.py)  +3 -1",
        "  · a/b → c/d: its quota ended",
        "  · It broke off. Asking again.",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (2e5, "2 d")]
)
def test_spans_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert ago(seconds) == words
