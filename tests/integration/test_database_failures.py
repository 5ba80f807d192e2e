"""A database that fails for a while: clients are told which failure it is, and nothing needs a restart."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from checkpoints import sqlite
from checkpoints.owner import this_process
from tests.databases import PostgresqlServer
from tests.service import MODEL, RunningService, provider_row, wait_until
from tests.upstream import ScriptedUpstream, calls, wait


def assert_unavailable(answer: httpx.Response, message: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (503, "database_unavailable", "api_error")
    assert int(answer.headers["Retry-After"]) >= 1
    assert message in error["message"]
    assert not any(word in error["message"] for word in ("INSERT", "UPDATE", "SELECT", "secret"))


def state_file(service: RunningService) -> Path:
    [found] = service.data.rglob("state.db")
    return found


DAMAGED = "The database is damaged; restore it from a backup."


def overwrite(path: Path, table: str) -> None:
    """Damage the first page of the table."""
    with closing(sqlite3.connect(path)) as connection:
        [size] = connection.execute("PRAGMA page_size").fetchone()
        [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def taken_away(path: Path) -> Iterator[None]:
    away = path.with_name("away.db")
    path.rename(away)
    yield
    away.rename(path)


def test_a_locked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 100)
    with ScriptedUpstream(["One.", "Two."]) as upstream, RunningService(tmp_path, upstream) as service:
        first = service.invoke("one")
        assert first.status_code == 200
        with locked(state_file(service)):
            assert_unavailable(service.invoke("two"), "locked by another program")
            assert service.thread(first.json()["thread_id"])["status"] == "idle"  # reading goes on
            health = service.client.get("/health").json()
            assert health["status"] == "degraded"
            assert "locked by another program" in health["problems"][0]
        assert service.client.get("/health").json()["status"] == "ok", "it is seen that it takes writes again"
        assert service.invoke("two").json()["explanation"] == "Two."


def test_a_file_that_is_gone_for_a_while(tmp_path: Path) -> None:
    with ScriptedUpstream(["One.", "Two."]) as upstream, RunningService(tmp_path, upstream) as service:
        thread_id = service.invoke("one").json()["thread_id"]
        with taken_away(state_file(service)):
            assert_unavailable(service.invoke("two"), "Put it back")
            health = service.client.get("/health").json()
            assert health["status"] == "degraded"
            assert health["problems"]
            assert_unavailable(service.client.get(f"/v1/agents/threads/{thread_id}"), "Put it back")
        assert service.invoke("two", thread_id=thread_id).json()["explanation"] == "Two."


def test_a_file_that_goes_while_a_run_is_under_way(tmp_path: Path) -> None:
    away = tmp_path / "away.db"

    def lose_the_file(_: dict[str, Any]) -> str:
        state_file(service).rename(away)
        return "Too late."

    with (
        ScriptedUpstream([lose_the_file, "In time."]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        path = state_file(service)
        assert_unavailable(service.invoke("one"), "Put it back")
        away.rename(path)
        [thread] = service.client.get("/v1/agents/threads").json()["threads"]
        wait_until(lambda: service.thread(thread["thread_id"])["status"] == "idle")


def test_a_stream_whose_budget_cannot_be_asked_for_more_ends_in_an_error_event(tmp_path: Path) -> None:
    away = tmp_path / "away.db"

    def lose_the_file(_: dict[str, Any]) -> str:  # its beginning was set money aside for
        state_file(service).rename(away)
        return "word " * 4000

    priced = {**MODEL, "input_price": 1, "output_price": 1}
    with (
        ScriptedUpstream([lose_the_file]) as upstream,
        RunningService(
            tmp_path,
            providers={"up1": provider_row(upstream, tier="paid", models=[priced])},
            budgets={"per_day_usd": 5},
        ) as service,
    ):
        path = state_file(service)
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        answer = service.client.post("/v1/chat/completions", json=body)
        away.rename(path)
        *chunks, last = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
        assert answer.status_code == 200 and len(chunks) > 100
        error = json.loads(last)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["code"], error["type"]) == ("database_unavailable", "api_error")
        assert "Put it back" in error["message"]


def test_a_server_that_is_down_for_a_while(
    tmp_path: Path, postgresql: PostgresqlServer, postgresql_url: str
) -> None:
    with (
        ScriptedUpstream(["One.", "Two."]) as upstream,
        RunningService(tmp_path, upstream, state={"url": postgresql_url}) as service,
    ):
        thread_id = service.invoke("one").json()["thread_id"]
        with postgresql.stopped():
            assert_unavailable(service.invoke("two"), "server cannot be reached")
            health = service.client.get("/health").json()
            assert health["status"] == "degraded"
            assert "server cannot be reached" in health["problems"][0]
            assert_unavailable(service.client.get(f"/v1/agents/threads/{thread_id}"), "cannot be reached")
        assert service.invoke("two", thread_id=thread_id).json()["explanation"] == "Two."


def test_a_lock_in_the_middle_of_a_run_costs_one_more_answer_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 100)
    held = threading.Event()
    with (
        ScriptedUpstream([wait(held, "One."), "One.", "One again."]) as upstream,
        RunningService(tmp_path, upstream) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(service.invoke, "one", thread_id="thread-01")
        wait_until(lambda: upstream.requests)
        with locked(state_file(service)):
            held.set()
            assert_unavailable(running.result(), "locked by another program")
            time.sleep(4)
            assert len(upstream.requests) == 1
        wait_until(lambda: service.thread("thread-01")["status"] == "idle")
        assert service.thread("thread-01")["last_response"]["explanation"] == "One."
        assert len(upstream.requests) == 2


def test_a_run_that_waits_for_the_database_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 100)
    held = threading.Event()
    with (
        ScriptedUpstream([wait(held, "One."), "One.", "Two."]) as upstream,
        RunningService(tmp_path, upstream) as service,
        ThreadPoolExecutor(2) as pool,
    ):
        running = pool.submit(service.invoke, "one", thread_id="thread-01")
        wait_until(lambda: upstream.requests)
        with locked(state_file(service)):
            held.set()
            assert running.result().status_code == 503
            cancelling = pool.submit(service.client.post, "/v1/agents/threads/thread-01/cancel", json={})
            time.sleep(1)
        cancelled = cancelling.result()
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "idle")
        assert len(upstream.requests) == 1
        assert service.invoke("two", thread_id="thread-01").json()["agent_status"] == "completed"


def test_a_claim_that_was_not_heard_of_is_taken_up(tmp_path: Path) -> None:
    with ScriptedUpstream(["One.", "Two."]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke("one", thread_id="thread-01")
        with closing(sqlite3.connect(state_file(service))) as connection:  # as if its commit had failed
            connection.execute(
                "UPDATE threads SET status = 'running', holder = ?, fence = fence + 1, lease_until = 1.0",
                (this_process(),),
            )
            connection.execute("UPDATE runs SET response = NULL, finished_at = NULL")
            connection.commit()
        wait_until(lambda: service.thread("thread-01")["status"] == "idle")
        assert service.thread("thread-01")["agent_status"] == "completed"


def test_who_lacks_the_keys_of_providers_takes_up_no_run(tmp_path: Path) -> None:
    with ScriptedUpstream(["One.", "Two."]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke("one", thread_id="thread-01")
        with closing(sqlite3.connect(state_file(service))) as connection:
            connection.execute(
                "UPDATE threads SET status = 'running', holder = 'other-boot:1:1:1', lease_until = 1.0"
            )
            connection.execute("UPDATE runs SET response = NULL, finished_at = NULL")
            connection.commit()
        with RunningService(tmp_path, needs_keys=False) as service:
            time.sleep(1.0)  # it would look at once
            assert service.thread("thread-01")["status"] == "running"
        with RunningService(tmp_path, upstream) as service:
            wait_until(lambda: service.thread("thread-01")["status"] == "idle")
            assert service.thread("thread-01")["agent_status"] == "completed"


def test_a_run_whose_project_went_meanwhile_comes_to_rest(tmp_path: Path, project: Path) -> None:
    with ScriptedUpstream(["One."]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke("one", thread_id="thread-01", project_directory=str(project))
        project.rmdir()
        with closing(sqlite3.connect(state_file(service))) as connection:
            connection.execute(
                "UPDATE threads SET status = 'running', holder = 'other-boot:1:1:1', lease_until = 1.0"
            )
            connection.execute("UPDATE runs SET response = NULL, finished_at = NULL")
            connection.commit()
        wait_until(lambda: service.thread("thread-01")["status"] == "error")
        assert "put it back" in service.thread("thread-01")["error_details"]


def test_a_lost_content_is_told_and_does_not_hold_the_thread_for_ever(tmp_path: Path, project: Path) -> None:
    write = calls(("write_file", {"filepath": "a.txt", "content": "1\n"}, "w1"))
    with (
        ScriptedUpstream([write, "One.", "Two.", "Three."]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke("one", thread_id="thread-01", project_directory=str(project))
        with closing(sqlite3.connect(state_file(service))) as connection:
            connection.execute("DELETE FROM blobs")
            connection.commit()
        refused = service.client.get("/v1/agents/threads/thread-01/diff")
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "state_damaged")
        assert service.invoke("two", thread_id="thread-01").json()["agent_status"] == "completed"
        assert service.invoke("else").status_code == 200


def test_damage_is_told_at_once_by_health_and_by_the_run_that_met_it(tmp_path: Path) -> None:
    with ScriptedUpstream(["One.", "Two."]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke("one", thread_id="thread-01")
            path = state_file(service)
        overwrite(path, "checkpoints")
        with RunningService(tmp_path, upstream) as service:
            assert service.client.get("/health").json()["problems"] == [], "nothing met it yet"
            ended = service.invoke("two").json()
            assert (ended["agent_status"], ended["error_code"]) == ("error", "state_damaged")
            assert ended["error_details"] == DAMAGED
            health = service.client.get("/health").json()
            assert (health["status"], health["problems"]) == ("degraded", [DAMAGED])


@pytest.mark.parametrize("table", ["threads", "runs"])
def test_who_asks_a_damaged_database_is_not_told_to_try_again(tmp_path: Path, table: str) -> None:
    with ScriptedUpstream(["One."]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke("one", thread_id="thread-01")
            path = state_file(service)
        overwrite(path, table)
        with RunningService(tmp_path, upstream) as service:
            refused = service.invoke("two")
            assert (refused.status_code, refused.json()["error"]["message"]) == (503, DAMAGED)
            assert "Retry-After" not in refused.headers
            assert service.client.get("/health").json()["problems"] == [DAMAGED]


def test_a_run_whose_end_cannot_be_stored_for_damage_says_so(tmp_path: Path) -> None:
    def damage(_: dict[str, Any]) -> str:
        with closing(sqlite3.connect(state_file(service))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        overwrite(state_file(service), "runs")
        return "Too late."

    with ScriptedUpstream([damage]) as upstream, RunningService(tmp_path, upstream) as service:
        refused = service.invoke("one")
        assert (refused.status_code, refused.json()["error"]["message"]) == (503, DAMAGED)
