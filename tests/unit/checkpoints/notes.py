"""What tests of a SQLite file begin with: a table of notes, and a writer that is kept busy for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database, Operation
from checkpoints.opening import open_database

ADD = text("INSERT INTO notes VALUES (:note)")


def with_notes(path: Path, scenario: Callable[[Database], Awaitable[None]]) -> None:
    """Play a scenario on a database with a table of notes."""

    async def run() -> None:
        async with open_database(path) as database:
            await execute(database, "CREATE TABLE IF NOT EXISTS notes (note TEXT)")
            await scenario(database)

    asyncio.run(run())


def adding(note: str) -> Operation[None]:
    async def operation(connection: AsyncConnection) -> None:
        await connection.execute(ADD, {"note": note})

    return operation


async def execute(database: Database, statement: str) -> None:
    await database.write(lambda connection: connection.exec_driver_sql(statement))


async def notes(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.execute(text("SELECT note FROM notes ORDER BY rowid"))).scalars())


@asynccontextmanager
async def held_up(database: Database) -> AsyncIterator[None]:
    """The writer is in the middle of a transaction for the block; what is asked for meanwhile waits."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def operation(connection: AsyncConnection) -> None:
        begun.set()
        await go_on.wait()

    holding = asyncio.create_task(database.write(operation))
    await begun.wait()
    try:
        yield
    finally:
        go_on.set()
        await holding


async def together(database: Database, *operations: Operation[Any]) -> list[Any]:
    """What operations come to that find the writer busy, in the order in which they were asked for."""
    async with held_up(database):
        tasks = [asyncio.create_task(database.write(operation)) for operation in operations]
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)
