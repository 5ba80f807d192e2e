"""Threads whose rows were damaged: each says so by itself, and the service does its chores for the others."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.service import RunningService, wait_until
from tests.upstream import ScriptedUpstream, calls

ASK = calls(("ask_human_for_input", {"question": "Which name?"}))
DAMAGED, SOUND = "thread-01", "thread-02"


@contextmanager
def rows(service: RunningService) -> Iterator[sqlite3.Connection]:
    """The service's database, for somebody who means it harm."""
    with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database, database:
        yield database


def test_a_run_whose_row_is_gone_does_not_keep_others_from_being_taken_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedUpstream(["one", "two", "three"]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            for thread_id in (DAMAGED, SOUND):
                service.invoke(thread_id=thread_id)
        with rows(service) as database:
            database.execute("UPDATE threads SET status = 'running', holder = 'b:1:1:1', lease_until = 1.0")
            database.execute("UPDATE runs SET response = NULL, finished_at = NULL")
            database.execute("DELETE FROM runs WHERE thread_id = ?", (DAMAGED,))
        with caplog.at_level(logging.ERROR), RunningService(tmp_path, upstream) as service:
            wait_until(lambda: service.thread(SOUND)["status"] == "idle")
            assert service.thread(SOUND)["agent_status"] == "completed"
            assert service.client.delete(f"/v1/agents/threads/{DAMAGED}").status_code == 204
    assert DAMAGED in caplog.text
    assert "its latest run is missing" in caplog.text
    assert "waits for the database" not in caplog.text


def test_a_response_that_cannot_be_read_does_not_keep_other_questions_from_expiring(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedUpstream([ASK, ASK]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            for thread_id in (DAMAGED, SOUND):
                service.invoke(thread_id=thread_id)
        with rows(service) as database:
            database.execute("UPDATE questions SET expires_at = 1.0")
            database.execute("UPDATE runs SET response = x'7b' WHERE thread_id = ?", (DAMAGED,))
        with caplog.at_level(logging.ERROR), RunningService(tmp_path, upstream) as service:
            wait_until(lambda: service.thread(SOUND)["status"] == "idle")
            refused = service.client.post(f"/v1/agents/threads/{DAMAGED}/cancel")
            assert (refused.status_code, refused.json()["error"]["code"]) == (500, "state_damaged")
    assert DAMAGED in caplog.text


def test_pruning_leaves_out_what_is_damaged_and_says_so(tmp_path: Path) -> None:
    with ScriptedUpstream(["one", "two"]) as upstream, RunningService(tmp_path, upstream) as service:
        for thread_id in (DAMAGED, SOUND):
            service.invoke(thread_id=thread_id)
        with rows(service) as database:
            database.execute("UPDATE checkpoints SET metadata = '{' WHERE thread_id = ?", (DAMAGED,))
        for dry_run in (True, False):
            wanted = {"keep_checkpoints": 1, "dry_run": dry_run}
            response = service.client.post("/v1/agents/threads/prune", json=wanted)
            pruned = response.raise_for_status().json()
            assert [(t["thread_id"], t["checkpoints_deleted"]) for t in pruned["threads"]] == [(SOUND, 3)]
            assert (pruned["threads_pruned"], pruned["checkpoints_deleted"]) == (1, 3)
            [skipped] = pruned["skipped"]
            assert skipped["thread_id"] == DAMAGED
            assert "cannot be used" in skipped["reason"]
