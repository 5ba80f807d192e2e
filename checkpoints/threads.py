"""Threads: who owns them, what they are about, and what they are doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.errors import ThreadNotFound
from checkpoints.graph_tables import GRAPH_TABLES
from checkpoints.tables import blobs, idempotency, questions, runs, threads

ThreadStatus = Literal["idle", "running", "requires_human_input", "error"]


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """One conversation."""

    thread_id: str
    principal: str
    title: str
    project_directory: str | None
    project_identity: str | None
    status: ThreadStatus
    holder: str | None
    fence: int
    run_id: str | None
    created_at: float
    updated_at: float


async def find_thread(connection: AsyncConnection, thread_id: str) -> ThreadRecord | None:
    """The thread of that id, whoever owns it."""
    row = (await connection.execute(select(threads).where(threads.c.thread_id == thread_id))).one_or_none()
    return None if row is None else _record(row)


def _record(row: Row[Any]) -> ThreadRecord:
    return ThreadRecord(**row._mapping)


class ThreadStore:
    """Looks threads up, always by id and principal together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: str, thread_id: str) -> ThreadRecord:
        """The principal's thread. Raises ThreadNotFound, also for another principal's."""
        async with self._database.read() as connection:
            record = await find_thread(connection, thread_id)
        if record is None or record.principal != principal:
            raise ThreadNotFound(thread_id)
        return record

    async def list(
        self,
        principal: str,
        *,
        status: str | None = None,
        limit: int = 50,
        after: tuple[float, str] | None = None,
    ) -> list[ThreadRecord]:
        """The principal's threads, latest first; `after` = (updated_at, thread_id) of the last one seen."""
        query = select(threads).where(threads.c.principal == principal)
        if status is not None:
            query = query.where(threads.c.status == status)
        if after is not None:
            moment, thread_id = after
            query = query.where(
                or_(
                    threads.c.updated_at < moment,
                    and_(threads.c.updated_at == moment, threads.c.thread_id < thread_id),
                )
            )
        query = query.order_by(threads.c.updated_at.desc(), threads.c.thread_id.desc()).limit(limit)
        async with self._database.read() as connection:
            return [_record(row) for row in await connection.execute(query)]


async def forget_thread(connection: AsyncConnection, thread_id: str) -> None:
    """Delete every row of the thread, the graph's own checkpoints among them."""
    of_thread = select(runs.c.run_id).where(runs.c.thread_id == thread_id)
    await connection.execute(delete(idempotency).where(idempotency.c.run_id.in_(of_thread)))
    # All in the caller's transaction: between two, somebody else could take the name and find the history.
    for table in (*GRAPH_TABLES, questions, runs, blobs, threads):  # effects go with their thread
        await connection.execute(delete(table).where(table.c.thread_id == thread_id))
