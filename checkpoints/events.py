"""The event log: what happened on a thread, numbered without a gap, to be replayed and followed.

An event is stored in the transaction that makes it true, so a crash loses none and doubles none. Listeners
hear of it after the commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.tables import events, threads

OUTBOX = "outbox"
"""The channel of the graph to which tasks write what shall be told of them."""
KEPT_PER_THREAD = 10_000
"""Events that a thread keeps at least; older ones go, some at a time."""
_SWEEP_EVERY = 256

_TAKE_NUMBERS = (
    update(threads)
    .where(threads.c.thread_id == bindparam("id"))
    .values(last_event=threads.c.last_event + bindparam("count"))
    .returning(threads.c.last_event)
)
_ADD = insert(events)
_AFTER = (
    select(events)
    .where(events.c.thread_id == bindparam("id"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("limit"))
)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened, to be stored."""

    run_id: str
    kind: str
    data: bytes
    """A JSON object."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Something that happened, under its number."""

    thread_id: str
    seq: int
    """The thread's own number: 1, 2, 3 and so on."""
    run_id: str
    kind: str
    data: bytes
    """A JSON object."""


class EventLog:
    """Appends events and reads them again."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._listeners: list[Callable[[StoredEvent], None]] = []

    def listen(self, listener: Callable[[StoredEvent], None]) -> None:
        """Call this with every event that this process stores, once it is committed.

        Events of one transaction come in order. Those of two at the same time may change places; their
        numbers tell.
        """
        self._listeners.append(listener)

    def announce(self, stored: Sequence[StoredEvent]) -> None:
        """Tell the listeners of events whose transaction is committed."""
        for each in stored:
            for listener in self._listeners:
                listener(each)

    async def add(self, thread_id: str, new: Sequence[NewEvent]) -> None:
        """Store events and announce them. On a thread that is gone nothing happens."""
        self.announce(await self._database.write(lambda connection: self.append(connection, thread_id, new)))

    async def append(
        self, connection: AsyncConnection, thread_id: str, new: Sequence[NewEvent]
    ) -> list[StoredEvent]:
        """Store events within a transaction; whoever commits it announces them."""
        if not new:
            return []
        taken = await connection.execute(_TAKE_NUMBERS, {"id": thread_id, "count": len(new)})
        last: int | None = taken.scalar_one_or_none()
        if last is None:
            return []
        first = last - len(new) + 1
        stored = [
            StoredEvent(thread_id, seq, each.run_id, each.kind, each.data)
            for seq, each in enumerate(new, first)
        ]
        now = self._clock()
        rows = [
            {
                "thread_id": thread_id,
                "seq": each.seq,
                "run_id": each.run_id,
                "kind": each.kind,
                "data": each.data,
                "created_at": now,
            }
            for each in stored
        ]
        await connection.execute(_ADD, rows)
        if first // _SWEEP_EVERY != (last + 1) // _SWEEP_EVERY:
            too_old = (events.c.thread_id == thread_id, events.c.seq <= last - KEPT_PER_THREAD)
            await connection.execute(delete(events).where(*too_old))
        return stored

    async def after(self, thread_id: str, seq: int, limit: int = 500) -> list[StoredEvent]:
        """The first events with a higher number, in order."""
        async with self._database.read() as connection:
            rows = await connection.execute(_AFTER, {"id": thread_id, "after": seq, "limit": limit})
            return [StoredEvent(r.thread_id, r.seq, r.run_id, r.kind, r.data) for r in rows]

    async def last(self, thread_ids: Sequence[str]) -> dict[str, int]:
        """The number of each thread's latest event; 0 where there is none yet."""
        query = select(threads.c.thread_id, threads.c.last_event).where(threads.c.thread_id.in_(thread_ids))
        async with self._database.read() as connection:
            return {row.thread_id: row.last_event for row in await connection.execute(query)}

    async def forget_before(self, moment: float) -> int:
        """Delete events older than that (seconds since 1970); how many there were."""

        async def forget(connection: AsyncConnection) -> int:
            done = await connection.execute(delete(events).where(events.c.created_at < moment))
            return done.rowcount

        return await self._database.write(forget)
