"""Threads: who owns them, what they are about, and what they are doing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

from sqlalchemy import ColumnElement, Row, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.errors import LeaseLost, StateDamaged, ThreadBusy, ThreadNotFound
from checkpoints.graph_tables import GRAPH_TABLES
from checkpoints.owner import condition
from checkpoints.rows import check_row, is_text, is_time
from checkpoints.tables import blobs, events, questions, runs, threads

STRANDED_SECONDS = 600.0
"""After so long a run is not kept any more for the machine that has its project; see `is_stranded`."""

ThreadStatus = Literal["idle", "running", "requires_human_input", "error"]
FINISHED: tuple[ThreadStatus, ...] = ("idle", "error")
"""Of threads on which nothing goes on and nothing waits."""
_FINISHED = threads.c.status.in_(FINISHED)
_STATUSES: tuple[str, ...] = get_args(ThreadStatus)
_DAMAGED_TITLE = "(damaged)"


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
    damage: str | None = None
    """Why the row cannot be used; then it stands for the thread in a list, see `listed`."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row of the table. Raises StateDamaged."""
        check_row(row.thread_id, threads, row)
        if row.status not in _STATUSES:
            raise StateDamaged(row.thread_id, f"its status {row.status[:32]!r} is none that is known here")
        return cls(**row._mapping)

    @classmethod
    def listed(cls, rows: Iterable[Row[Any]]) -> list[Self]:
        """From rows of the table; a damaged one does not hide the others.

        In its place is a record with `damage`, of which the id and the owner are the thread's own, and the
        times as far as they are known. Of a row whose id cannot be read there is none.
        """
        return [cls._shown(row) for row in rows if is_text(row.thread_id)]

    @classmethod
    def _shown(cls, row: Row[Any]) -> Self:
        try:
            return cls.of(row)
        except StateDamaged as damaged:
            created, updated = (
                moment if is_time(moment) else 0.0 for moment in (row.created_at, row.updated_at)
            )
            return cls(
                thread_id=row.thread_id,
                principal=row.principal,
                title=_DAMAGED_TITLE,
                project_directory=None,
                project_identity=None,
                status="error",
                run_id=None,
                created_at=created,
                updated_at=updated,
                damage=str(damaged),
            )

    def row(self) -> dict[str, Any]:
        """For the table."""
        return {name: value for name, value in asdict(self).items() if name != "damage"}

    def is_stranded(self, now: float) -> bool:
        """Whether nobody has performed its run for so long that nobody will."""
        return self.is_abandoned(now) and (self.lease_until or 0.0) < now - STRANDED_SECONDS

    def is_abandoned(self, now: float) -> bool:
        """Whether nobody performs its run: the holder died, or did not renew its lease in time."""
        return self.status == "running" and is_void(self.holder, self.lease_until, now)


def is_void(holder: Any, lease_until: Any, now: float) -> bool:
    """Whether a lease binds nobody any more; one that cannot be read does not."""
    if not (is_text(holder) and isinstance(lease_until, float)):
        return True
    return condition(holder) == "dead" or lease_until < now


async def find_thread(
    connection: AsyncConnection, thread_id: str, principal: str | None = None, *, lock: bool = False
) -> ThreadRecord | None:
    """The principal's thread of that id, or whoever's; with `lock` it stays as it is until the transaction
    ends. Raises StateDamaged."""
    query = select(threads).where(threads.c.thread_id == thread_id)
    if principal is not None:  # asked here: nobody learns of another one's, not even that it is damaged
        query = query.where(threads.c.principal == principal)
    if lock:  # SQLite has one writer and needs none; SQLAlchemy leaves it out there
        query = query.with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else ThreadRecord.of(row)


async def own_thread(
    connection: AsyncConnection, principal: str, thread_id: str, *, lock: bool = True
) -> ThreadRecord:
    """The principal's thread, locked. Raises ThreadNotFound, also for another principal's; StateDamaged."""
    thread = await find_thread(connection, thread_id, principal, lock=lock)
    if thread is None:
        raise ThreadNotFound(thread_id)
    return thread


class ThreadStore:
    """Threads, always by id and principal together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: str, thread_id: str) -> ThreadRecord:
        """The principal's thread. Raises ThreadNotFound, also for another principal's; StateDamaged."""
        async with self._database.read() as connection:
            return await own_thread(connection, principal, thread_id, lock=False)

    async def find(self, thread_id: str) -> ThreadRecord | None:
        """The thread, whoever owns it. Raises StateDamaged."""
        async with self._database.read() as connection:
            return await find_thread(connection, thread_id)

    async def list(
        self,
        principal: str,
        *,
        status: str | None = None,
        limit: int = 50,
        after: tuple[float, str] | None = None,
    ) -> list[ThreadRecord]:
        """The principal's threads, latest first; `after` = (updated_at, thread_id) of the last one seen.

        Damaged ones are among them: `ThreadRecord.listed`.
        """
        query = select(threads).where(threads.c.principal == principal)
        if status is not None:
            query = query.where(_has_status(status))
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
            return ThreadRecord.listed(await connection.execute(query))

    async def finished(self, principal: str, *, before: float | None = None) -> Sequence[ThreadRecord]:
        """The principal's threads that neither run nor wait, untouched since `before`; the oldest first.

        Damaged ones are among them: `ThreadRecord.listed`.
        """
        query = select(threads).where(threads.c.principal == principal, _FINISHED)
        if before is not None:
            query = query.where(threads.c.updated_at < before)
        async with self._database.read() as connection:
            return ThreadRecord.listed(await connection.execute(query.order_by(threads.c.updated_at)))

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
            standing = await _standing(connection, principal, thread_id)
            if standing is None or standing.status not in FINISHED or standing.updated_at >= before:
                return False
            await forget_thread(connection, thread_id)
            return True

        return await self._database.write(operation)

    async def forget(self, principal: str, thread_id: str) -> float:
        """Delete the thread's rows, damaged or not; when it was made. Raises ThreadNotFound, ThreadBusy."""

        async def operation(connection: AsyncConnection) -> float:
            standing = await _standing(connection, principal, thread_id)
            if standing is None:
                raise ThreadNotFound(thread_id)
            now = await self._database.time(connection)
            if standing.status == "running" and not is_void(standing.holder, standing.lease_until, now):
                raise ThreadBusy
            await forget_thread(connection, thread_id)
            return standing.created_at

        return await self._database.write(operation)


async def forget_thread(connection: AsyncConnection, thread_id: str) -> None:
    """Delete every row of the thread, the graph's own checkpoints among them.

    Of its requests only their Idempotency-Keys stay, and for no longer than others do: a repeat that comes
    late must not perform again what was performed.
    """
    # All in the caller's transaction: between two, somebody else could take the name and find the history.
    for table in (*GRAPH_TABLES, questions, events, runs, blobs, threads):  # effects go with their thread
        await connection.execute(delete(table).where(table.c.thread_id == thread_id))


class _Standing(NamedTuple):
    """What a thread's deletion depends on, as it is stored. The rest of the row may be damaged."""

    status: str
    holder: str | None
    lease_until: float | None
    created_at: float
    updated_at: float


async def _standing(connection: AsyncConnection, principal: str, thread_id: str) -> _Standing | None:
    """Of the principal's thread; locked."""
    query = select(*(threads.c[name] for name in _Standing._fields)).where(
        threads.c.thread_id == thread_id, threads.c.principal == principal
    )
    row = (await connection.execute(query.with_for_update())).one_or_none()
    return None if row is None else _Standing(*row)


def _has_status(status: str) -> ColumnElement[bool]:
    """A status that nobody knows is an error."""
    if status == "error":
        return threads.c.status.not_in([each for each in _STATUSES if each != "error"])
    return threads.c.status == status
