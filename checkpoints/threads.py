"""Threads: who owns them, what they are about, and what they are doing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from sqlalchemy import Row, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.errors import LeaseLost, ThreadBusy, ThreadNotFound
from checkpoints.graph_tables import GRAPH_TABLES
from checkpoints.owner import condition
from checkpoints.tables import blobs, events, idempotency, questions, runs, threads

STRANDED_SECONDS = 600.0
"""After so long a run is not kept any more for the machine that has its project; see `is_stranded`."""

ThreadStatus = Literal["idle", "running", "requires_human_input", "error"]
FINISHED: tuple[ThreadStatus, ...] = ("idle", "error")
"""Of threads on which nothing goes on and nothing waits."""
_FINISHED = threads.c.status.in_(FINISHED)


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """One conversation."""

    thread_id: str
    principal: str
    title: str
    project_directory: str | None
    project_identity: str | None
    status: ThreadStatus
    run_id: str | None
    created_at: float
    updated_at: float
    holder: str | None = None
    fence: int = 0
    lease_until: float | None = None
    cancel_requested: bool = False
    last_event: int = 0

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row of the table."""
        return cls(**row._mapping)

    def row(self) -> dict[str, Any]:
        """For the table."""
        return asdict(self)

    def is_stranded(self, now: float) -> bool:
        """Whether nobody has performed its run for so long that nobody will."""
        return self.is_abandoned(now) and (self.lease_until or 0.0) < now - STRANDED_SECONDS

    def is_abandoned(self, now: float) -> bool:
        """Whether nobody performs its run: the holder died, or did not renew its lease in time."""
        if self.status != "running":
            return False
        return condition(self.holder) == "dead" or (self.lease_until or 0.0) < now


async def find_thread(
    connection: AsyncConnection, thread_id: str, *, lock: bool = False
) -> ThreadRecord | None:
    """The thread of that id, whoever owns it; with `lock` it stays as it is until the transaction ends."""
    query = select(threads).where(threads.c.thread_id == thread_id)
    if lock:  # SQLite has one writer and needs none; SQLAlchemy leaves it out there
        query = query.with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else ThreadRecord.of(row)


async def own_thread(connection: AsyncConnection, principal: str, thread_id: str) -> ThreadRecord:
    """The principal's thread, locked. Raises ThreadNotFound, also for another principal's."""
    thread = await find_thread(connection, thread_id, lock=True)
    if thread is None or thread.principal != principal:
        raise ThreadNotFound(thread_id)
    return thread


class ThreadStore:
    """Threads, always by id and principal together."""

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
            return [ThreadRecord.of(row) for row in await connection.execute(query)]

    async def finished(self, principal: str, *, before: float | None = None) -> Sequence[ThreadRecord]:
        """The principal's threads that neither run nor wait, untouched since `before`; the oldest first."""
        query = select(threads).where(threads.c.principal == principal, _FINISHED)
        if before is not None:
            query = query.where(threads.c.updated_at < before)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(threads.c.updated_at))
            return [ThreadRecord.of(row) for row in rows]

    async def accept_project(self, thread_id: str, fence: int, identity: str) -> None:
        """The folder that stands at the project's path now is the thread's project from now on.

        `fence`: of the run that accepts it. Raises LeaseLost.
        """
        held = (threads.c.thread_id == thread_id, threads.c.fence == fence)
        change = update(threads).where(*held).values(project_identity=identity)
        done = await self._database.write(lambda connection: connection.execute(change))
        if done.rowcount != 1:
            raise LeaseLost(thread_id)

    async def request_cancel(self, principal: str, thread_id: str, run_id: str | None) -> None:
        """Ask whichever process runs the thread to stop; it sees to it when it renews its lease."""
        change = (
            update(threads)
            .where(threads.c.thread_id == thread_id, threads.c.principal == principal)
            .where(threads.c.status == "running", threads.c.run_id == run_id)
            .values(cancel_requested=True)
        )
        await self._database.write(lambda connection: connection.execute(change))

    async def forget_finished(self, principal: str, thread_id: str, before: float) -> bool:
        """Delete the thread's rows if `finished` would still name it; whether it did."""

        async def operation(connection: AsyncConnection) -> bool:
            thread = await find_thread(connection, thread_id, lock=True)
            if thread is None or thread.principal != principal or thread.updated_at >= before:
                return False
            if thread.status not in FINISHED:
                return False
            await forget_thread(connection, thread_id)
            return True

        return await self._database.write(operation)

    async def forget(self, principal: str, thread_id: str) -> float:
        """Delete the thread's rows. Raises ThreadNotFound, ThreadBusy."""

        async def operation(connection: AsyncConnection) -> float:
            thread = await own_thread(connection, principal, thread_id)
            if thread.status == "running" and not thread.is_abandoned(await self._database.time(connection)):
                raise ThreadBusy
            await forget_thread(connection, thread_id)
            return thread.created_at

        return await self._database.write(operation)


async def forget_thread(connection: AsyncConnection, thread_id: str) -> None:
    """Delete every row of the thread, the graph's own checkpoints among them."""
    of_thread = select(runs.c.run_id).where(runs.c.thread_id == thread_id)
    await connection.execute(delete(idempotency).where(idempotency.c.run_id.in_(of_thread)))
    # All in the caller's transaction: between two, somebody else could take the name and find the history.
    for table in (*GRAPH_TABLES, questions, events, runs, blobs, threads):  # effects go with their thread
        await connection.execute(delete(table).where(table.c.thread_id == thread_id))
