"""What people are told when a database refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from checkpoints.database import Database
from checkpoints.diagnosis import diagnose, trouble_with
from checkpoints.errors import DatabaseUnusable, ThreadBusy
from checkpoints.opening import open_database
from checkpoints.tables import router_memory
from tests.databases import Place

OF_SQLSTATES = {
    "22012": "log says why",
    "25006": "standby",
    "28P01": "user or password",
    "40P01": "try again",
    "42501": "grant",
    "53100": "disk of the database is full",
    "53300": "max_connections",
    "55P03": "locked",
    "57014": "log says why",
    "57P03": "stopped or started",
    "58030": "disk of the database server fails",
    "XX001": "damaged",
}


def test_what_a_server_says(postgresql_url: str) -> None:
    async def scenario() -> None:
        async with open_database(postgresql_url) as database:
            for state, told in OF_SQLSTATES.items():
                fail = text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
                with pytest.raises(DBAPIError) as caught:
                    async with database.read() as connection:
                        await connection.execute(fail)
                assert told in diagnose(caught.value), state

    asyncio.run(scenario())


def test_what_is_no_error_of_the_database_itself() -> None:
    assert "no connection free" in diagnose(PoolExhausted())
    assert "log says why" in diagnose(SQLAlchemyError("a mistake of ours"))


def test_a_refused_write_is_told_until_one_succeeds(place: Place) -> None:
    async def scenario() -> None:
        async with open_database(place) as database:
            assert await trouble_with(database) is None
            database.refused(ThreadBusy())
            assert database.refusal is None, "a matter of that write alone"
            database.refused(DatabaseUnusable("The disk is full."))
            assert database.refusal is not None
            assert await trouble_with(database) is None, "it was tried again"
            assert database.refusal is None
            async with database.read() as connection:
                assert (await connection.execute(select(router_memory))).all() == []

    asyncio.run(scenario())


def test_a_full_disk_is_trouble_until_there_is_room(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_database(tmp_path / "state.db") as database:
            await database.write(lambda connection: connection.execute(text("PRAGMA max_page_count = 1")))
            pages = text("INSERT INTO router_memory VALUES ('k', zeroblob(100000), 0.0)")
            with pytest.raises(DBAPIError):
                await database.write(lambda connection: connection.execute(pages))
            assert "is full" in (diagnose_refusal(database) or "")
            await database.write(lambda connection: connection.execute(text("PRAGMA max_page_count = 9999")))
            assert await trouble_with(database) is None

    asyncio.run(scenario())


def diagnose_refusal(database: Database) -> str | None:
    return diagnose(database.refusal) if isinstance(database.refusal, SQLAlchemyError) else None
