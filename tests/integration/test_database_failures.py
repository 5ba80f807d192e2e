"""A database that fails for a while: clients are told which failure it is, and nothing needs a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from checkpoints import sqlite
from tests.databases import PostgresqlServer
from tests.service import RunningService, wait_until
from tests.upstream import ScriptedUpstream


def assert_unavailable(answer: httpx.Response, message: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (503, "database_unavailable", "api_error")
    assert int(answer.headers["Retry-After"]) >= 1
    assert message in error["message"]
    assert not any(word in error["message"] for word in ("INSERT", "UPDATE", "SELECT", "secret"))


def state_file(service: RunningService) -> Path:
    [found] = service.data.rglob("state.db")
    return found


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
        assert service.invoke("two").json()["explanation"] == "Two."


def test_a_file_that_is_gone_for_a_while(tmp_path: Path) -> None:
    with ScriptedUpstream(["One.", "Two."]) as upstream, RunningService(tmp_path, upstream) as service:
        thread_id = service.invoke("one").json()["thread_id"]
        with taken_away(state_file(service)):
            assert_unavailable(service.invoke("two"), "Put it back")
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
            assert_unavailable(service.client.get(f"/v1/agents/threads/{thread_id}"), "cannot be reached")
        assert service.invoke("two", thread_id=thread_id).json()["explanation"] == "Two."
