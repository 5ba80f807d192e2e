"""What people are told when a database refuses."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from checkpoints.diagnosis import diagnose
from checkpoints.opening import open_database

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
