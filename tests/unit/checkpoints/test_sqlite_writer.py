"""The one writer of a SQLite file: shared commits, and what fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints import sqlite
from checkpoints.database import Database
from checkpoints.errors import CheckpointError, DatabaseUnusable
from checkpoints.opening import open_database
from tests.unit.checkpoints.notes import ADD, adding, execute, held_up, notes, together, with_notes


@contextmanager
def counted_commits() -> Iterator[list[Any]]:
    commits: list[Any] = []
    count = commits.append
    event.listen(Engine, "commit", count)
    try:
        yield commits
    finally:
        event.remove(Engine, "commit", count)


def test_what_waits_shares_a_commit_in_its_order(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        names = [f"{n}" for n in range(sqlite.SHARED + 10)]
        with counted_commits() as commits:
            results = await together(database, *map(adding, names))
        assert results == [None] * len(names)
        assert await notes(database) == names
        assert len(commits) == 3  # of what held the writer up, of as many as share one, of the rest

    with_notes(tmp_path / "state.db", scenario)


class Refused(CheckpointError):
    """An operation's own error."""


async def refusing(connection: AsyncConnection) -> None:
    await connection.execute(ADD, {"note": "refused"})
    raise Refused


async def mistaken(connection: AsyncConnection) -> None:
    await connection.execute(ADD, {"note": "mistaken"})
    await connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")


def test_an_operation_that_refuses_takes_only_itself_back(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        before, refused, after = await together(database, adding("a"), refusing, adding("b"))
        assert (before, type(refused), after) == (None, Refused, None)
        assert await notes(database) == ["a", "b"]
        with pytest.raises(Refused):
            await database.write(refusing)
        assert await notes(database) == ["a", "b"]

    with_notes(tmp_path / "state.db", scenario)


def test_a_database_error_does_not_fail_the_neighbours(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        results = await together(database, adding("a"), mistaken, refusing, adding("b"))
        assert [type(each) for each in results] == [type(None), OperationalError, Refused, type(None)]
        assert await notes(database) == ["a", "b"]

    with_notes(tmp_path / "state.db", scenario)


def test_whoever_stops_waiting_does_not_stop_the_operation(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        async with held_up(database):
            alone = asyncio.create_task(database.write(adding("a")))
            await asyncio.sleep(0)
            alone.cancel()
        assert (await together(database, adding("b"), adding("c"))) == [None, None]
        assert alone.cancelled()
        assert await notes(database) == ["a", "b", "c"]

    with_notes(tmp_path / "state.db", scenario)


def test_a_reader_that_stops_waiting_takes_no_connection_along(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        await execute(database, "INSERT INTO notes VALUES ('a')")
        for turns in range(6 * sqlite.READERS):
            reading = asyncio.create_task(notes(database))
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        async with asyncio.timeout(10):
            assert await asyncio.gather(*(notes(database) for _ in range(9))) == [["a"]] * 9

    with_notes(tmp_path / "state.db", scenario)


def test_a_reading_sees_one_moment(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        async with database.read() as connection:
            query = text("SELECT count(*) FROM notes")
            assert (await connection.execute(query)).scalar_one() == 0
            await database.write(adding("a"))
            assert (await connection.execute(query)).scalar_one() == 0
        assert await notes(database) == ["a"]

    with_notes(tmp_path / "state.db", scenario)


def test_closing_writes_what_was_asked_for_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_database(tmp_path / "state.db") as database, held_up(database):
            tasks = [asyncio.create_task(database.write(adding(f"{n}"))) for n in range(100)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [None] * 100
        with pytest.raises(DatabaseUnusable, match="was closed"):
            await database.write(adding("late"))
        async with open_database(tmp_path / "state.db") as database:
            assert await notes(database) == [f"{n}" for n in range(100)]

    with_notes(tmp_path / "state.db", lambda _: asyncio.sleep(0))
    asyncio.run(scenario())
