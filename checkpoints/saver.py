"""Where the graph's own state is kept. Nobody outside this room knows which saver it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiosqlite
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import BUSY_TIMEOUT_MS, Database

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


async def forget_checkpoints(connection: AsyncConnection, thread_id: str) -> None:
    """Delete what the saver keeps of a thread, in the caller's transaction.

    Between two transactions somebody else could take the thread's name and find its history.
    """
    tables = text("SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('checkpoints', 'writes')")
    for name in (await connection.execute(tables)).scalars().all():
        await connection.execute(text(f"DELETE FROM {name} WHERE thread_id = :id"), {"id": thread_id})


@asynccontextmanager
async def open_saver(database: Database) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """The checkpoint saver, in the same file as everything else; strict msgpack, no pickle."""
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer  # a second to import: only when used
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with aiosqlite.connect(database.path) as connection:
        await connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        await connection.execute("PRAGMA synchronous = FULL")
        saver = AsyncSqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        await saver.setup()
        yield saver
