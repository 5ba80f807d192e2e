"""Closing a database while somebody reads in it."""

from __future__ import annotations

import asyncio
import gc

import pytest
from sqlalchemy import text

from checkpoints.database import Database, Readers
from checkpoints.opening import open_database
from tests.databases import Place


async def _read(database: Database, begun: asyncio.Event) -> None:
    async with database.read() as connection:
        await connection.execute(text("SELECT 1"))
        begun.set()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_connection_that_is_read_from_is_closed_too(place: Place, cancelled: bool) -> None:
    async def scenario() -> None:
        begun = asyncio.Event()
        async with open_database(place) as database:
            reading = asyncio.create_task(_read(database, begun))
            await begun.wait()
            if cancelled:
                reading.cancel()
        (end,) = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError) == cancelled

    asyncio.run(scenario())
    gc.collect()  # a connection that was left open warns now, and warnings are errors


def test_who_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        readers = Readers()
        monkeypatch.setattr(Readers, "PATIENCE", 0.01)
        with readers.another():
            async with asyncio.timeout(5):
                await readers.gone()

    asyncio.run(scenario())
