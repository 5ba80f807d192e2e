"""The event log: what happened on a thread, numbered without a gap, to be replayed and followed.

An event is stored in the transaction that makes it true, so a crash loses none and doubles none. Listeners
hear of it after the commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.leases import check_fence
from checkpoints.tables import events, threads

OUTBOX = "outbox"
"""The channel of the graph to which tasks write what shall be told of them."""
READERS = 3
"""How many followers read at the same time: fewer than a database has connections."""
KEPT_PER_THREAD = 10_000
"""Of a longer thread the earliest events go, some hundred at a time, whatever their age."""
KEPT_BYTES = 16 << 20
"""Of a thread whose events are larger together the earliest go, too; the latest one always stays."""
FORGOTTEN_AT_ONCE = 500
"""Events deleted in one transaction because of their age: others want to write too."""
_SWEEP_EVERY = 256
_LARGE = KEPT_BYTES // _SWEEP_EVERY
"""Bytes that are a reason to sweep by themselves: between two sweeps come no more than KEPT_BYTES again."""

_TAKE_NUMBERS = (
    update(threads)
    .where(threads.c.thread_id == bindparam("id"))
    .values(last_event=threads.c.last_event + bindparam("count"))
    .returning(threads.c.last_event, threads.c.created_at)
)
_ADD = insert(events)
_AFTER = (
    select(events)
    .where(events.c.thread_id == bindparam("id"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("limit"))
)
_EARLIEST = (
    select(events.c.created_at)
    .where(events.c.thread_id == threads.c.thread_id)
    .order_by(events.c.seq)
    .limit(1)
)
_BEGUN_BEFORE = select(threads.c.thread_id).where(_EARLIEST.scalar_subquery() < bindparam("moment"))
_FIRST = select(func.min(events.c.seq)).where(events.c.thread_id == bindparam("id"))
_FORGET = delete(events).where(
    events.c.thread_id == bindparam("id"),
    events.c.seq < _FIRST.scalar_subquery() + bindparam("count"),
    events.c.created_at < bindparam("moment"),
)
_SINCE = func.sum(func.length(events.c.data)).over(order_by=events.c.seq.desc()).label("since")
_SIZES = select(events.c.seq, _SINCE).where(events.c.thread_id == bindparam("id")).subquery()
"""With each event of a thread the bytes of all from it to the latest."""
_FULL_AT = select(func.max(_SIZES.c.seq)).where(_SIZES.c.since >= bindparam("most"))
_SWEEP = delete(events).where(
    events.c.thread_id == bindparam("id"),
    or_(events.c.seq <= bindparam("too_old"), events.c.seq < _FULL_AT.scalar_subquery()),
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
    born: float | None = field(default=None, compare=False)
    """When its thread was made, if it was stored just now: a deleted thread's name may be taken again."""


class Standing(NamedTuple):
    """How far a thread's events go."""

    last: int
    """The number of the latest one; 0 where there is none yet."""
    born: float
    """When the thread was made."""


class EventLog:
    """Appends events and reads them again."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._listeners: list[Callable[[StoredEvent], None]] = []
        self._reading = asyncio.Semaphore(READERS)

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

    async def add(self, thread_id: str, new: Sequence[NewEvent], *, fence: int | None = None) -> None:
        """Store events and announce them. On a thread that is gone nothing happens.

        `fence`: of the run that tells them. Raises LeaseLost if it does not hold the thread any more.
        """

        async def operation(connection: AsyncConnection) -> list[StoredEvent]:
            if fence is not None:
                await check_fence(connection, thread_id, fence)
            return await self.append(connection, thread_id, new)

        self.announce(await self._database.write(operation))

    async def append(
        self, connection: AsyncConnection, thread_id: str, new: Sequence[NewEvent]
    ) -> list[StoredEvent]:
        """Store events within a transaction; whoever commits it announces them."""
        if not new:
            return []
        taken = await connection.execute(_TAKE_NUMBERS, {"id": thread_id, "count": len(new)})
        row = taken.one_or_none()
        if row is None:
            return []
        last: int = row.last_event
        first = last - len(new) + 1
        stored = [
            StoredEvent(thread_id, seq, each.run_id, each.kind, each.data, row.created_at)
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
        is_large = sum(len(each.data) for each in new) >= _LARGE
        if is_large or first // _SWEEP_EVERY != (last + 1) // _SWEEP_EVERY:
            limits = {"id": thread_id, "too_old": last - KEPT_PER_THREAD, "most": KEPT_BYTES}
            await connection.execute(_SWEEP, limits)
        return stored

    async def after(self, thread_id: str, seq: int, limit: int = 500) -> list[StoredEvent]:
        """The first events with a higher number, in order."""
        rows = await self._rows(_AFTER, {"id": thread_id, "after": seq, "limit": limit})
        return [StoredEvent(r.thread_id, r.seq, r.run_id, r.kind, r.data) for r in rows]

    async def count(self, thread_id: str, run_id: str, kind: str) -> int:
        """How many events of that kind a run has told."""
        of_run = (events.c.thread_id == thread_id, events.c.run_id == run_id, events.c.kind == kind)
        query = select(func.count()).select_from(events).where(*of_run)
        (row,) = await self._rows(query)
        return int(row[0])

    async def last(self, thread_ids: Sequence[str]) -> dict[str, Standing]:
        """How far the events of each thread go; a thread that is not there is left out."""
        columns = (threads.c.thread_id, threads.c.last_event, threads.c.created_at)
        rows = await self._rows(select(*columns).where(threads.c.thread_id.in_(thread_ids)))
        return {row.thread_id: Standing(row.last_event, row.created_at) for row in rows}

    async def _rows(self, query: Select[Any], values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """What a follower reads. Many come at once, and leave in the middle; neither shall disturb others.

        A query that is cut short costs its connection, so it is brought to its end although nobody waits.
        """

        async def read() -> Sequence[Row[Any]]:
            async with self._reading, self._database.read() as connection:
                rows: Sequence[Row[Any]] = (await connection.execute(query, values or {})).all()
                return rows

        reading = asyncio.ensure_future(read())
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(reading)

    async def forget_before(self, moment: float) -> int:
        """Delete events older than that (seconds since 1970); how many there were.

        One portion after the other. A thread's events are as old as their numbers say, so that a look at its
        first one tells whether any are to go, and no index has to be kept with every event.
        """
        async with self._database.read() as connection:
            begun = (await connection.execute(_BEGUN_BEFORE, {"moment": moment})).scalars().all()
        return sum([await self._forget(thread_id, moment) for thread_id in begun])

    async def _forget(self, thread_id: str, moment: float) -> int:
        gone = {"id": thread_id, "moment": moment, "count": FORGOTTEN_AT_ONCE}

        async def portion(connection: AsyncConnection) -> int:
            return (await connection.execute(_FORGET, gone)).rowcount

        total = 0
        while done := await self._database.write(portion):
            total += done
            if done < FORGOTTEN_AT_ONCE:
                break
        return total
