"""The lease on a thread: who runs it now, until when, and the fence that keeps everybody else's writes out.

Each claim raises the thread's fence by one. Whatever a run writes is written in a transaction that first
compares the fence (`check_fence`), so a holder that was held up, and was taken for dead, can do no harm when
it wakes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.errors import LeaseLost, ThreadBusy
from checkpoints.owner import this_process
from checkpoints.rows import is_text
from checkpoints.tables import threads
from checkpoints.threads import is_void

FENCE = "__fence"
"""Under this name a run's fence is among the `configurable` values of the graph's config. LangGraph copies no
value into the metadata whose name begins like this."""
LEASE_SECONDS = 10.0
RENEW_SECONDS = 3.0

_FENCE = (
    select(threads.c.fence)
    .where(threads.c.thread_id == bindparam("thread_id"))
    .with_for_update(key_share=True)  # the lock that an update takes; SQLite has one writer anyway
)
_RENEW = (
    update(threads)
    .where(threads.c.thread_id == bindparam("id"), threads.c.fence == bindparam("mine"))
    .where(threads.c.status == "running")
    .values(lease_until=bindparam("until"))
)
_HELD = select(threads.c.thread_id, threads.c.fence, threads.c.cancel_requested).where(
    threads.c.thread_id.in_(bindparam("ids", expanding=True)), threads.c.status == "running"
)


@dataclass(frozen=True, slots=True)
class Held:
    """A thread that this process runs."""

    fence: int
    cancel_requested: bool
    """Somebody asked another process to stop it."""


async def check_fence(connection: AsyncConnection, thread_id: str, fence: int) -> None:
    """Raises LeaseLost unless the thread is still held under that fence."""
    found = (await connection.execute(_FENCE, {"thread_id": thread_id})).scalar_one_or_none()
    if found != fence:
        raise LeaseLost(thread_id)


async def claim(
    database: Database, connection: AsyncConnection, thread_id: str, fence: int, run_id: str
) -> int:
    """Take the thread if nobody did since that fence was read; gives the new one. Raises ThreadBusy."""
    now = await database.time(connection)
    done = await connection.execute(
        update(threads)
        .where(threads.c.thread_id == thread_id, threads.c.fence == fence)
        .values(
            status="running",
            holder=this_process(),
            fence=fence + 1,
            lease_until=now + LEASE_SECONDS,
            run_id=run_id,
            updated_at=now,
        )
    )
    if done.rowcount != 1:
        raise ThreadBusy
    return fence + 1


async def release(database: Database, thread_id: str, fence: int) -> None:
    """Let anybody go on with the thread at once; nothing if somebody does already."""

    async def released(connection: AsyncConnection) -> None:
        now = await database.time(connection)
        row = {"id": thread_id, "mine": fence, "until": now}
        await connection.execute(_RENEW, row)

    await database.write(released)


async def renew(database: Database, held: Mapping[str, int]) -> dict[str, Held]:
    """Renew the leases of these threads, each under its fence, those that ran out unnoticed too.

    Gives those that are still held under it; the others were taken over.
    """

    async def renewed(connection: AsyncConnection) -> dict[str, Held]:
        until = await database.time(connection) + LEASE_SECONDS
        rows = [{"id": name, "mine": fence, "until": until} for name, fence in sorted(held.items())]
        await connection.execute(_RENEW, rows)
        found = await connection.execute(_HELD, {"ids": list(held)})
        return {
            row.thread_id: Held(row.fence, row.cancel_requested)
            for row in found
            if row.fence == held[row.thread_id]
        }

    return await database.write(renewed) if held else {}


async def abandoned_threads(database: Database, performed: Collection[str] = ()) -> list[str]:
    """The ids of the threads whose run nobody performs; `performed` are those that this process sees to.

    A thread of this process that is not among them was claimed, and then the claim was not heard of. Nothing
    but the lease is looked at: whether the rest of a thread's row is sound is a matter of that thread.
    """
    query = select(threads.c.thread_id, threads.c.holder, threads.c.lease_until)
    async with database.read() as connection:
        now = await database.time(connection)
        running = (await connection.execute(query.where(threads.c.status == "running"))).all()
    return [
        row.thread_id
        for row in running
        if row.thread_id not in performed
        and is_text(row.thread_id)
        and is_void(row.holder, row.lease_until, now)
    ]
