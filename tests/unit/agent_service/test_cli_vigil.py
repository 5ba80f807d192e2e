"""A person who thinks is told when the question is not open any more."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from agent_service.cli.vigil import Overtaken, vigil


def test_whoever_waits_is_interrupted() -> None:
    answered = threading.Event()
    tries = iter([None, {"kind": "question.answered"}])

    def fate() -> dict[str, str] | None:
        answered.wait()
        return next(tries)

    with pytest.raises(Overtaken) as overtaken, vigil(fate):
        answered.set()
        time.sleep(30)
    assert overtaken.value.event == {"kind": "question.answered"}


def test_what_comes_too_late_disturbs_nobody() -> None:
    over, told = threading.Event(), threading.Event()

    def fate() -> dict[str, str]:
        over.wait()
        told.set()
        return {"kind": "question.answered"}

    before = signal.getsignal(signal.SIGURG)
    with vigil(fate):
        pass
    over.set()
    assert told.wait(5)
    time.sleep(0.05)
    assert signal.getsignal(signal.SIGURG) == before
