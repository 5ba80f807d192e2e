"""Threads whose rows were damaged: each says so by itself, and the service does its chores for the others."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from checkpoints.opening import open_database
from checkpoints.tables import threads
from tests.service import RunningService, SseEvent, sse, wait_until
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


NEWEST_MESSAGES = """UPDATE channel_values SET data = x'ff00ff' WHERE thread_id = :thread_id
    AND channel = 'messages' AND version = (SELECT max(version) FROM channel_values
    WHERE thread_id = :thread_id AND channel = 'messages')"""
NEWEST_CHECKPOINT = """UPDATE checkpoints SET body = x'c1c1' WHERE thread_id = :thread_id
    AND checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = :thread_id)"""


def checkpoints_of(service: RunningService, query: str = "") -> list[dict[str, Any]]:
    answer = service.client.get(f"/v1/agents/threads/{DAMAGED}/history{query}").raise_for_status()
    found: list[dict[str, Any]] = answer.json()["checkpoints"]
    return found


@pytest.mark.parametrize("damage", [NEWEST_MESSAGES, NEWEST_CHECKPOINT])
def test_a_thread_damaged_at_its_end_shows_where_to_go_back_to(tmp_path: Path, damage: str) -> None:
    with (
        ScriptedUpstream(["one", "two", "three"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        for _ in range(2):
            service.invoke(thread_id=DAMAGED)
        intact = checkpoints_of(service)
        with rows(service) as database:
            database.execute(damage, {"thread_id": DAMAGED})
        for dry_run in (True, False):
            wanted = {"keep_checkpoints": 1, "dry_run": dry_run}
            pruned = service.client.post("/v1/agents/threads/prune", json=wanted).raise_for_status().json()
            assert (pruned["threads"], pruned["checkpoints_deleted"]) == ([], 0)
            assert [each["thread_id"] for each in pruned["skipped"]] == [DAMAGED]
        assert service.invoke(thread_id=DAMAGED).json()["error_code"] == "state_damaged"
        shown = checkpoints_of(service)
        assert [each["checkpoint_id"] for each in shown] == [each["checkpoint_id"] for each in intact]
        damaged = [each["damaged"] for each in shown]
        assert damaged[0] and damaged == sorted(damaged, reverse=True), "the newest ones"
        sound = damaged.index(False)
        assert shown[sound:] == intact[sound:]
        assert checkpoints_of(service, "?limit=1") == shown[:1]
        back = {"checkpoint_id": shown[sound]["checkpoint_id"], "files": False}
        service.client.post(f"/v1/agents/threads/{DAMAGED}/rewind", json=back).raise_for_status()
        assert service.invoke(thread_id=DAMAGED).json()["agent_status"] == "completed"


def test_old_checkpoints_stay_when_a_run_fails_on_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedUpstream(["one", "two"]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            for _ in range(2):
                service.invoke(thread_id=DAMAGED)
            intact = checkpoints_of(service)
        with rows(service) as database:
            database.execute(NEWEST_MESSAGES, {"thread_id": DAMAGED})
        settings = {"keep_checkpoints": 1}
        with caplog.at_level(logging.ERROR), RunningService(tmp_path, upstream, state=settings) as service:
            assert service.invoke(thread_id=DAMAGED).json()["error_code"] == "state_damaged"
            told = f"old checkpoints of thread {DAMAGED} could not be deleted"
            wait_until(lambda: told in caplog.text)
            assert [each["checkpoint_id"] for each in checkpoints_of(service)] == [
                each["checkpoint_id"] for each in intact
            ]


NO_TEXT = "CAST(x'ff41' AS TEXT)"


def as_if_killed(database: sqlite3.Connection) -> None:
    """The process died in the middle of the runs."""
    database.execute("UPDATE threads SET status = 'running', holder = 'b:1:1:1', lease_until = 1.0")
    database.execute("UPDATE runs SET response = NULL, finished_at = NULL")


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("column", ["title", "project_directory", "holder"])
def test_a_row_that_cannot_be_read_stops_neither_the_list_nor_other_runs(tmp_path: Path, column: str) -> None:
    with ScriptedUpstream(["one", "two", "three", "four"]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            for thread_id in (DAMAGED, SOUND):
                service.invoke(thread_id=thread_id)
        with rows(service) as database:
            as_if_killed(database)
            database.execute(f"UPDATE threads SET {column} = {NO_TEXT} WHERE thread_id = ?", (DAMAGED,))
        with RunningService(tmp_path, upstream) as service:
            wait_until(lambda: service.thread(SOUND)["status"] == "idle")
            if column == "holder":  # replaced when the run is settled
                wait_until(lambda: listed(service)[DAMAGED]["status"] == "error")
                assert "`holder`" in service.thread(DAMAGED)["error_details"]
            else:
                shown = listed(service)[DAMAGED]
                assert (shown["title"], shown["status"]) == ("(damaged)", "error")
                assert f"`{column}`" in shown["error_details"] and DAMAGED in shown["error_details"]
                assert refusal(service.client.get(f"/v1/agents/threads/{DAMAGED}")) == (500, "state_damaged")
                assert refusal(service.invoke(thread_id=DAMAGED)) == (500, "state_damaged")
            assert listed(service)[SOUND]["error_details"] is None
            assert service.client.delete(f"/v1/agents/threads/{DAMAGED}").status_code == 204
            assert listed(service).keys() == {SOUND}


def listed(service: RunningService) -> dict[str, dict[str, Any]]:
    found = service.client.get("/v1/agents/threads").raise_for_status().json()["threads"]
    return {each["thread_id"]: each for each in found}


def last_event(service: RunningService) -> int:
    with rows(service) as database:
        [last] = database.execute("SELECT max(seq) FROM events").fetchone()
    return int(last)


def told(service: RunningService, count: int) -> list[SseEvent]:
    """The first events of the damaged thread."""
    with service.client.stream("GET", f"/v1/agents/threads/{DAMAGED}/events?after=0") as response:
        return list(islice(sse(response), count))


def test_a_run_that_cannot_be_taken_up_comes_to_rest(tmp_path: Path) -> None:
    with ScriptedUpstream(["one", "two", "three"]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke(thread_id=DAMAGED)
        with rows(service) as database:
            as_if_killed(database)
            database.execute(f"UPDATE runs SET instruction = {NO_TEXT}")
        with RunningService(tmp_path, upstream) as service:
            wait_until(lambda: service.thread(DAMAGED)["status"] == "error")
            shown = service.thread(DAMAGED)
            assert shown["agent_status"] == "error"
            assert "`instruction`" in shown["error_details"]
            assert shown["last_response"]["error_code"] == "state_damaged"
            assert [each.kind for each in told(service, last_event(service))][-2:] == [
                "error",
                "run.finished",
            ]
            cancelled = service.client.post(f"/v1/agents/threads/{DAMAGED}/cancel")
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "error")
            assert service.client.post(f"/v1/agents/threads/{DAMAGED}/fork", json={}).status_code == 201
            assert service.invoke(thread_id=DAMAGED).json()["agent_status"] == "completed"


@pytest.mark.parametrize("request_kept", ["x'00'", "x'7b7d'", "'[]'"])
def test_a_run_whose_request_cannot_be_read_comes_to_rest(tmp_path: Path, request_kept: str) -> None:
    with ScriptedUpstream(["one", "two"]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke(thread_id=DAMAGED)
        with rows(service) as database:
            as_if_killed(database)
            database.execute(f"UPDATE runs SET request = {request_kept}")
        with RunningService(tmp_path, upstream) as service:
            wait_until(lambda: service.thread(DAMAGED)["status"] == "error")
            assert service.thread(DAMAGED)["last_response"]["error_code"] == "state_damaged"
            assert len(upstream.requests) == 1


def test_a_response_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with ScriptedUpstream(["one"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id=DAMAGED)
        for kept in ("x'7b'", "x'7b7d'", "x'ff'", "'{'", "x''"):
            with rows(service) as database:
                database.execute(f"UPDATE runs SET response = {kept}")
            shown = service.client.get(f"/v1/agents/threads/{DAMAGED}")
            assert refusal(shown) == (500, "state_damaged"), kept
            assert "its latest response cannot be read" in shown.json()["error"]["message"]


@pytest.mark.parametrize("change", ["options = '{not json'", f"question = {NO_TEXT}", "kind = 'other'"])
def test_a_damaged_question_is_told_and_can_be_cancelled(tmp_path: Path, change: str) -> None:
    with ScriptedUpstream([ASK, "two"]) as upstream, RunningService(tmp_path, upstream) as service:
        asked = service.invoke(thread_id=DAMAGED).json()["human_input_request"]["tool_call_id"]
        with rows(service) as database:
            database.execute(f"UPDATE questions SET {change}")
        assert refusal(service.resume(DAMAGED, asked, "a")) == (500, "state_damaged")
        assert refusal(service.invoke(thread_id=DAMAGED)) == (500, "state_damaged")
        cancelled = service.client.post(f"/v1/agents/threads/{DAMAGED}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "idle")
        assert service.client.delete(f"/v1/agents/threads/{DAMAGED}").status_code == 204


def test_a_damaged_event_is_told_as_an_error_in_its_place(tmp_path: Path) -> None:
    with ScriptedUpstream(["one", "two"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id=DAMAGED)
        last = last_event(service)
        with rows(service) as database:
            database.execute("UPDATE events SET data = x'ff' WHERE seq = 1")
            database.execute("UPDATE events SET data = '{' WHERE seq = 2")
            database.execute(f"UPDATE events SET kind = {NO_TEXT} WHERE seq = 3")
            database.execute("UPDATE events SET data = x'7b7d' WHERE seq = ?", (last,))
        service.invoke(thread_id=DAMAGED)
        *shown, begun = told(service, last + 1)
        assert begun.kind == "run.started"
        codes = [each.data.get("code") for each in shown]
        assert codes == ["state_damaged" if each in (1, 2, 3, last) else None for each in range(1, last + 1)]
        assert [each.data["seq"] for each in shown] == list(range(1, last + 1))


def test_a_foreign_status_is_one_threads_matter(tmp_path: Path, postgresql_url: str) -> None:
    with (
        ScriptedUpstream(["one", "two"]) as upstream,
        RunningService(tmp_path, upstream, state={"url": postgresql_url}) as service,
    ):
        for thread_id in (DAMAGED, SOUND):
            service.invoke(thread_id=thread_id)

        async def spoil() -> None:
            async with open_database(postgresql_url) as database:
                change = update(threads).where(threads.c.thread_id == DAMAGED).values(status="weird")
                await database.write(lambda connection: connection.execute(change))

        asyncio.run(spoil())
        shown = listed(service)
        assert (shown[DAMAGED]["status"], shown[SOUND]["status"]) == ("error", "idle")
        assert "'weird'" in shown[DAMAGED]["error_details"]
        assert refusal(service.client.get(f"/v1/agents/threads/{DAMAGED}")) == (500, "state_damaged")
        pruned = service.client.post("/v1/agents/threads/prune", json={"keep_checkpoints": 1})
        assert pruned.status_code == 200
        assert service.client.delete(f"/v1/agents/threads/{DAMAGED}").status_code == 204


def test_pruning_by_age_takes_damaged_threads_along(tmp_path: Path) -> None:
    with ScriptedUpstream(["one", "two"]) as upstream, RunningService(tmp_path, upstream) as service:
        for thread_id in (DAMAGED, SOUND):
            service.invoke(thread_id=thread_id)
        with rows(service) as database:
            database.execute(f"UPDATE threads SET title = {NO_TEXT} WHERE thread_id = ?", (DAMAGED,))
        kept = service.client.post("/v1/agents/threads/prune", json={"keep_checkpoints": 1}).json()
        assert [each["thread_id"] for each in kept["skipped"]] == [DAMAGED]
        assert [each["thread_id"] for each in kept["threads"]] == [SOUND]
        with rows(service) as database:
            database.execute("UPDATE threads SET updated_at = 1.0")
        wanted = {"delete": True, "older_than_days": 1}
        gone = service.client.post("/v1/agents/threads/prune", json=wanted).raise_for_status().json()
        assert gone["threads_deleted"] == 2
        assert listed(service) == {}


def test_a_repeat_does_not_perform_a_deleted_threads_instruction_again(tmp_path: Path) -> None:
    with ScriptedUpstream(["one", "two"]) as upstream, RunningService(tmp_path, upstream) as service:
        key = {"Idempotency-Key": "pay"}
        secret = "pay 4711"
        assert service.invoke(secret, thread_id=SOUND, headers=key).status_code == 200
        assert service.client.delete(f"/v1/agents/threads/{SOUND}").status_code == 204
        for fields in ({}, {"stream": True}):
            answer = service.invoke(secret, thread_id=SOUND, headers=key, **fields)
            expected = (422, "idempotency_key_reused") if fields else (404, "thread_not_found")
            assert refusal(answer) == expected
        repeated = service.invoke(secret, thread_id=SOUND, headers=key).json()["error"]
        assert "its thread was deleted" in repeated["message"]
        assert repeated["param"] == "Idempotency-Key"
        assert len(upstream.requests) == 1
        with rows(service) as database:
            kept = database.execute("SELECT * FROM idempotency").fetchall()
        assert len(kept) == 1 and secret not in repr(kept)
