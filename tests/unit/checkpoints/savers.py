"""What tests of the saver begin with: one on a database, and short words for what is done to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.events import EventLog
from checkpoints.graph_tables import GRAPH_TABLES
from checkpoints.leases import FENCE
from checkpoints.opening import open_database
from checkpoints.sql_saver import SqlCheckpointSaver
from checkpoints.tables import threads
from tests.databases import Place

LONG = [{"text": f"{number} " + "x" * 300} for number in range(200)]


class Saver(SqlCheckpointSaver):
    """The saver, with the database below it in reach."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = EventLog(database)
        super().__init__(database, self.log, serde=JsonPlusSerializer(allowed_msgpack_modules=None))

    async def save(
        self,
        config: RunnableConfig,
        values: dict[str, Any],
        versions: dict[str, str] | None = None,
        **metadata: Any,
    ) -> RunnableConfig:
        """Store a checkpoint in which all these values are new."""
        moved = versions or {channel: self.get_next_version(None, None) for channel in values}
        checkpoint: Checkpoint = {
            "v": 4,
            "id": str(uuid6()),
            "ts": "2026-01-01T00:00:00+00:00",
            "channel_values": values,
            "channel_versions": dict(moved),
            "versions_seen": {},
            "updated_channels": None,
        }
        details: Any = {"source": "loop", "step": 0, **metadata}
        return await self.aput(config, checkpoint, details, dict(moved))

    async def value(self, config: RunnableConfig, channel: str = "c") -> Any:
        """What a channel holds there."""
        found = await self.aget_tuple(config)
        assert found is not None
        return found.checkpoint["channel_values"].get(channel)

    async def pending(self, config: RunnableConfig) -> list[tuple[str, str, Any]]:
        """What the tasks of a checkpoint have written."""
        found = await self.aget_tuple(config)
        assert found is not None and found.pending_writes is not None
        return found.pending_writes

    async def history(self, config: RunnableConfig) -> list[str]:
        """The ids of the checkpoints, newest first."""
        return [id_of(each.config) async for each in self.alist(config)]

    async def rows(self, thread_id: str | None = None) -> dict[str, int]:
        """How many rows each table of the graph has (of a thread)."""
        found = {}
        async with self.database.read() as connection:
            for table in GRAPH_TABLES:
                query = select(func.count()).select_from(table)
                if thread_id is not None:
                    query = query.where(table.c.thread_id == thread_id)
                found[table.name] = (await connection.execute(query)).scalar_one()
        return found

    async def perform(self, *statements: Any) -> None:
        """Do something to the database behind the saver's back."""

        async def operation(connection: AsyncConnection) -> None:
            for each in statements:
                await connection.execute(text(each) if isinstance(each, str) else each)

        await self.database.write(operation)

    async def claim(self, thread_id: str, fence: int) -> None:
        """Somebody holds the thread from now on, under that fence."""
        row = {"principal": "p", "title": "", "status": "running", "created_at": 0, "updated_at": 0}
        if fence == 1:
            await self.perform(insert(threads).values(thread_id=thread_id, fence=1, **row))
        await self.perform(update(threads).where(threads.c.thread_id == thread_id).values(fence=fence))


def with_saver(place: Place, scenario: Callable[[Saver], Awaitable[None]]) -> None:
    """Play a scenario on a saver on that database."""

    async def run() -> None:
        async with open_database(place) as database:
            await scenario(Saver(database))

    asyncio.run(run())


def at(
    thread_id: str = "t", namespace: str = "", checkpoint_id: str | None = None, fence: int | None = None
) -> RunnableConfig:
    """The config of a place in a thread; `fence`: of the run that writes there."""
    key: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": namespace}
    if checkpoint_id is not None:
        key["checkpoint_id"] = checkpoint_id
    return {"configurable": key if fence is None else key | {FENCE: fence}}


def id_of(config: RunnableConfig) -> str:
    """The checkpoint's id."""
    return str(config["configurable"]["checkpoint_id"])
