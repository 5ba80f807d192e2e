"""A SQLite file that fails for a while: locked, full, read-only, taken away; and one that never was right."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints import sqlite
from checkpoints.database import Database
from checkpoints.diagnosis import diagnose
from checkpoints.errors import DatabaseUnusable
from tests.unit.checkpoints.notes import adding, execute, notes, together, with_notes


def test_a_file_locked_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "state.db"

    async def scenario(database: Database) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(OperationalError) as caught:
                await database.write(adding("a"))
            assert "locked by another program" in diagnose(caught.value)
            holding = database.write(adding("b")), database.write(adding("c"))
            refused = await asyncio.gather(*holding, return_exceptions=True)
            assert [type(each) for each in refused] == [OperationalError] * 2
            assert await notes(database) == []  # reading goes on
            other.execute("COMMIT")
        await database.write(adding("d"))
        assert await notes(database) == ["d"]

    with_notes(path, scenario)


def test_a_file_that_is_locked_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseUnusable, match="database is locked"):
            with_notes(path, lambda _: asyncio.sleep(0))
    with_notes(path, lambda _: asyncio.sleep(0))


def test_a_full_disk(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        async with database.read() as connection:
            pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await execute(database, f"PRAGMA max_page_count = {pages + 4}")
        thick = "x" * 100_000
        before, full, after = await together(database, adding("a"), adding(thick), adding("b"))
        assert (before, type(full), after) == (None, OperationalError, None)
        assert "disk of the database is full" in diagnose(full)
        with pytest.raises(OperationalError):
            await database.write(adding(thick))
        assert await notes(database) == ["a", "b"]
        await execute(database, "PRAGMA max_page_count = 100000")
        await database.write(adding(thick))
        assert await notes(database) == ["a", "b", thick]

    with_notes(tmp_path / "state.db", scenario)


async def driver_connection(connection: AsyncConnection) -> aiosqlite.Connection:
    found = (await connection.get_raw_connection()).driver_connection
    assert isinstance(found, aiosqlite.Connection)
    return found


def test_a_database_that_takes_no_writes(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        driver = await database.write(driver_connection)
        await driver.execute("PRAGMA query_only = ON")
        tries = database.write(adding("a")), database.write(adding("b"))
        refused = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(each) for each in refused] == [OperationalError] * 2
        with pytest.raises(OperationalError) as caught:
            await database.write(adding("c"))
        assert "read-only" in diagnose(caught.value)
        await driver.execute("PRAGMA query_only = OFF")
        await database.write(adding("d"))
        assert await notes(database) == ["d"]

    with_notes(tmp_path / "state.db", scenario)


@pytest.mark.parametrize("instead", ["nothing", "another database", "a folder"])
def test_a_file_that_is_taken_away_and_put_back(tmp_path: Path, instead: str) -> None:
    path, away = tmp_path / "state.db", tmp_path / "away.db"

    async def scenario(database: Database) -> None:
        await database.write(adding("a"))
        path.rename(away)
        if instead == "another database":
            shutil.copyfile(away, path)
        elif instead == "a folder":
            path.mkdir()
        refused = await all_tries(database)
        assert [type(each) for each in refused] == [sqlite.FileReplaced] * 3
        assert isinstance(refused[0], DatabaseUnusable) and isinstance(refused[0], SQLAlchemyError)
        assert "Put it back" in str(refused[0])
        assert path.exists() == (instead != "nothing")  # nobody has made a new one
        if instead == "a folder":
            path.rmdir()
        away.replace(path)
        await database.write(adding("b"))
        assert await notes(database) == ["a", "b"]

    async def all_tries(database: Database) -> list[Any]:
        tries: list[Awaitable[Any]] = [
            database.write(adding("x")),
            database.write(adding("y")),
            notes(database),
        ]
        return await asyncio.gather(*tries, return_exceptions=True)

    with_notes(path, scenario)
    with_notes(path, lambda _: asyncio.sleep(0))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT note FROM notes").fetchall() == [("a",), ("b",)]


def test_damage_fails_whoever_meets_it_and_not_the_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with_notes(path, lambda database: execute(database, "CREATE TABLE damaged (note TEXT)"))
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'damaged'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * 100)

    async def meeting_it(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("INSERT INTO damaged VALUES ('x')")

    async def scenario(database: Database) -> None:
        before, met, after = await together(database, adding("a"), meeting_it, adding("b"))
        assert (before, after) == (None, None)
        assert isinstance(met, DBAPIError) and "damaged" in diagnose(met)
        assert await notes(database) == ["a", "b"]

    with_notes(path, scenario)


def test_a_compacted_file_is_smaller(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def scenario(database: Database) -> None:
        await database.write(adding("x" * 1_000_000))
        await execute(database, "DELETE FROM notes")
        writes = [asyncio.create_task(database.write(adding(f"{n}"))) for n in range(5)]
        await database.compact()
        await asyncio.gather(*writes)
        assert path.stat().st_size < 500_000
        assert len(await notes(database)) == 5

    with_notes(path, scenario)


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "50%25#1.db", "ümläut.db", "back\\slash.db"])
def test_files_of_every_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "what?mode=ro#"
    folder.mkdir()

    async def scenario(database: Database) -> None:
        await database.write(adding("a"))
        assert await notes(database) == ["a"]

    with_notes(folder / name, scenario)
    assert name in {each.name for each in folder.iterdir()}


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(DatabaseUnusable, match="cannot be used as the database: file is not a database"):
        with_notes(path, lambda _: asyncio.sleep(0))
    with pytest.raises(DatabaseUnusable, match="unable to open database file"):
        with_notes(tmp_path / "nowhere" / "state.db", lambda _: asyncio.sleep(0))
