"""Answers from pipes."""

from __future__ import annotations

import os

import pytest

from agent_service.cli import answers
from agent_service.cli.answers import ConsentingAnswers, PipedAnswers
from agent_service.cli.terminal import Terminal

QUESTION = {"kind": "question", "options": ["Orion", "Vega"]}
APPROVAL = {"kind": "approval"}


def test_each_question_gets_a_line_and_blank_ones_are_passed_over() -> None:
    reading, writing = os.pipe()
    os.write(writing, "\n1\nSirius é\nunfinished".encode())
    os.close(writing)
    piped = PipedAnswers(Terminal(), reading)
    assert [piped.answer(QUESTION) for _ in range(4)] == ["Orion", "Sirius é", "unfinished", None]
    os.close(reading)


def test_a_pipe_that_stays_silent_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PIPE_SECONDS", 0.05)
    reading, writing = os.pipe()
    assert PipedAnswers(Terminal(), reading).answer(QUESTION) is None
    os.close(reading)
    os.close(writing)


def test_consent_is_for_approvals_only() -> None:
    with open(os.devnull) as nobody:  # noqa: PTH123 - its descriptor is wanted
        consenting = ConsentingAnswers(PipedAnswers(Terminal(), nobody.fileno()), Terminal())
        assert consenting.answer(APPROVAL) == "yes"
        assert consenting.answer(QUESTION) is None
