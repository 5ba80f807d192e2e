"""Checkpoint ids ascend within a thread, whatever the clocks of the processes say that made them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from langgraph.checkpoint.base import id as ids

from checkpoints.clock import keep_ahead_of, made_at


def behind(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Be another process, whose clock is that far behind."""
    real = time.time_ns
    monkeypatch.setattr(ids, "_last_v6_timestamp", None)
    monkeypatch.setattr(time, "time_ns", lambda: real() - int(seconds * 1e9))


def test_a_clock_that_is_behind_is_helped_along(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = str(ids.uuid6())
    behind(monkeypatch, 60)
    assert str(ids.uuid6()) < newest
    keep_ahead_of(newest)
    later = [str(ids.uuid6()) for _ in range(3)]
    assert [newest, *later] == sorted([newest, *later])


def test_a_clock_that_is_ahead_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    old = str(ids.uuid6())
    behind(monkeypatch, -60)
    ahead = str(ids.uuid6())
    keep_ahead_of(old)
    assert str(ids.uuid6()) > ahead


@pytest.mark.parametrize("name", ["", "1", "not-an-id", "00000000-0000-4000-8000-000000000000"])
def test_other_ids_say_nothing(name: str) -> None:
    before = str(ids.uuid6())
    keep_ahead_of(name)
    assert str(ids.uuid6()) > before


def test_an_id_tells_when_it_was_made() -> None:
    keep_ahead_of(str(ids.uuid6()))
    before = datetime.now(UTC)
    assert abs(made_at(str(ids.uuid6())) - before) < timedelta(minutes=5), "others may have moved the clock"
    assert made_at("no id at all").year == 1582
