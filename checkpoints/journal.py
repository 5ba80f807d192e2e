"""The journal of effects: what a tool call was about to do, and that it was done.

An effect is written down (intent, hashes before and after) in the database, then made, then marked done.
After a crash the file itself tells which of the two moments was the last: see `agent_service.agent.effects`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database, Upsert
from checkpoints.errors import LeaseLost, StateDamaged
from checkpoints.events import EventLog, NewEvent, StoredEvent
from checkpoints.leases import check_fence
from checkpoints.rows import check_row
from checkpoints.runs import Run
from checkpoints.tables import blobs, effects, threads

EFFECTS = "effects"
"""In the metadata of a checkpoint of a run: the `latest_effect` of the thread at that moment. Whatever has a
higher number was done after it. Older checkpoints have none."""

EffectState = Literal["begun", "done", "void"]
_STATES = get_args(EffectState)
_KEEP = Upsert(blobs)
_LATEST = select(func.max(effects.c.seq)).where(effects.c.thread_id == bindparam("thread_id"))


@dataclass(frozen=True, slots=True)
class Intent:
    """What a tool call is about to do."""

    tool_call_id: str
    result: str
    """What the model will be told once it is done."""
    path: str | None = None
    """The file, if it is about one."""
    before: bytes | None = None
    after: bytes | None = None


@dataclass(frozen=True, slots=True)
class EffectRecord:
    """What the journal knows of one tool call's effect."""

    state: EffectState
    """`void`: it was begun, and given up without having happened."""
    path: str | None
    before_hash: str | None
    after_hash: str | None
    result: str | None


@dataclass(frozen=True, slots=True)
class Span:
    """What was made of one file over a while, from the first content to the last."""

    path: str
    before_hash: str | None
    after_hash: str | None
    unbroken: bool = True
    """Each effect found what the one before it had left: nobody else wrote in between."""


@dataclass(frozen=True, slots=True)
class Write:
    """One effect on a file that was made."""

    seq: int
    """Its number among all effects: a later one's is higher."""
    turn_id: str
    tool_call_id: str
    path: str
    before_hash: str | None
    after_hash: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What a thread made of one file, first content to last."""

    path: str
    before: bytes | None
    after: bytes | None


def content_hash(content: bytes | None) -> str | None:
    """SHA-256 in hex; None for a file that is not there."""
    return None if content is None else hashlib.sha256(content).hexdigest()


def spans(writes: Iterable[Write]) -> list[Span]:
    """What these, in their order, made of each file, in the order of the first write."""
    found: dict[str, Span] = {}
    for write in writes:
        span = found.get(write.path, Span(write.path, write.before_hash, write.before_hash))
        unbroken = span.unbroken and span.after_hash == write.before_hash
        found[write.path] = replace(span, after_hash=write.after_hash, unbroken=unbroken)
    return list(found.values())


async def latest_effect(connection: AsyncConnection, thread_id: str) -> int:
    """The number of the effect that the thread began last; 0 before the first."""
    return (await connection.execute(_LATEST, {"thread_id": thread_id})).scalar_one() or 0


class EffectJournal:
    """Records effects per (thread, tool call), with the contents before and after."""

    def __init__(self, database: Database, log: EventLog, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._log = log
        self._clock = clock

    async def get(self, thread_id: str, tool_call_id: str) -> EffectRecord | None:
        """What is known of the call's effect; None when it was never begun. Raises StateDamaged."""
        query = select(effects).where(*_is(thread_id, tool_call_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        check_row(thread_id, effects, row)
        if row.state not in _STATES:
            raise StateDamaged(thread_id, "the state of an effect is none that is known here")
        return EffectRecord(row.state, row.path, row.before_hash, row.after_hash, row.result)

    async def begin(self, run: Run, intent: Intent, told: Sequence[NewEvent] = ()) -> None:
        """Write down the intent, and tell of it unless the call was begun before. Raises LeaseLost."""
        call = {"thread_id": run.thread_id, "tool_call_id": intent.tool_call_id}
        values = {
            "turn_id": run.turn_id,
            "path": intent.path,
            "before_hash": content_hash(intent.before),
            "after_hash": content_hash(intent.after),
            "state": "begun",
            "result": intent.result,
            "created_at": self._clock(),
        }
        contents = [each for each in (intent.before, intent.after) if each is not None]
        kept = await asyncio.to_thread(lambda: [_blob(run.thread_id, each) for each in contents])

        async def operation(connection: AsyncConnection) -> list[StoredEvent]:
            await check_fence(connection, run.thread_id, run.fence)
            for row in kept:
                await connection.execute(_KEEP.on(connection), row)
            again = update(effects).where(*_is(**call)).values(**values)
            if (await connection.execute(again)).rowcount:
                return []
            await connection.execute(insert(effects).values(**call, **values))
            return await self._log.append(connection, run.thread_id, told)

        self._log.announce(await self._database.write(operation))

    async def confirm(self, run: Run) -> None:
        """To be asked right before the effect is made: a process may have been held up since the intent.

        Raises LeaseLost when somebody else has claimed the thread meanwhile.
        """
        query = select(threads.c.fence).where(threads.c.thread_id == run.thread_id)
        async with self._database.read() as connection:
            if (await connection.execute(query)).scalar_one_or_none() != run.fence:
                raise LeaseLost(run.thread_id)

    async def finish(
        self,
        run: Run,
        tool_call_id: str,
        *,
        state: Literal["done", "void"] = "done",
        result: str | None = None,
    ) -> None:
        """Mark the effect as made, or as given up; `result` replaces the one noted at the beginning.

        Raises LeaseLost.
        """
        values = {"state": state} if result is None else {"state": state, "result": result}

        async def operation(connection: AsyncConnection) -> None:
            await check_fence(connection, run.thread_id, run.fence)
            mark = update(effects).where(*_is(run.thread_id, tool_call_id)).values(**values)
            await connection.execute(mark)

        await self._database.write(operation)

    async def call_ids(self, thread_id: str) -> set[str]:
        """The tool calls whose effects were begun, on branches left behind by a rewind too."""
        query = select(effects.c.tool_call_id).where(effects.c.thread_id == thread_id)
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def latest_of(self, thread_id: str, tool_call_ids: Collection[str]) -> int:
        """The number of the latest effect of these calls; 0 if they had none."""
        query = select(effects.c.tool_call_id, effects.c.seq).where(effects.c.thread_id == thread_id)
        async with self._database.read() as connection:
            rows = await connection.execute(query)
            return max((row.seq for row in rows if row.tool_call_id in tool_call_ids), default=0)

    async def writes(self, thread_id: str, *, after: int = 0, turn_id: str | None = None) -> list[Write]:
        """The effects on files that the thread (or one turn of it) made after that number, in their order."""
        columns = (effects.c[name] for name in Write.__dataclass_fields__)
        query = select(*columns).where(
            effects.c.thread_id == thread_id,
            effects.c.seq > after,
            effects.c.state == "done",
            effects.c.path.is_not(None),
        )
        if turn_id is not None:
            query = query.where(effects.c.turn_id == turn_id)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(effects.c.seq))).all()
        for row in rows:
            check_row(thread_id, effects, row)
        return [Write(*row) for row in rows]

    async def unfinished_paths(self, thread_id: str) -> list[str]:
        """Files whose last write may have been cut short by a crash."""
        query = select(effects.c.path).where(
            effects.c.thread_id == thread_id, effects.c.state == "begun", effects.c.path.is_not(None)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        for row in rows:
            check_row(thread_id, effects, row)
        return [row.path for row in rows]

    async def contents(
        self, thread_id: str, record: EffectRecord | Span
    ) -> tuple[bytes | None, bytes | None]:
        """The contents before and after."""
        async with self._database.read() as connection:
            return (
                await self._content(connection, thread_id, record.before_hash),
                await self._content(connection, thread_id, record.after_hash),
            )

    async def changes(self, thread_id: str, *, turn_id: str | None = None) -> list[Change]:
        """Net change of every file the thread (or one turn of it) wrote, in the order of the first write."""
        made = spans(await self.writes(thread_id, turn_id=turn_id))
        async with self._database.read() as connection:
            return [
                Change(
                    each.path,
                    await self._content(connection, thread_id, each.before_hash),
                    await self._content(connection, thread_id, each.after_hash),
                )
                for each in made
                if each.before_hash != each.after_hash
            ]

    async def _content(self, connection: AsyncConnection, thread_id: str, digest: str | None) -> bytes | None:
        if digest is None:
            return None
        query = select(blobs.c.data).where(blobs.c.thread_id == thread_id, blobs.c.hash == digest)
        kept: bytes | None = (await connection.execute(query)).scalar_one_or_none()
        if kept is None:
            raise StateDamaged(thread_id, "the content of a file before or after a change is missing")
        try:
            return zlib.decompress(kept)
        except (zlib.error, TypeError):
            raise StateDamaged(
                thread_id, "the content of a file before or after a change is damaged"
            ) from None


def _is(thread_id: str, tool_call_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return effects.c.thread_id == thread_id, effects.c.tool_call_id == tool_call_id


def _blob(thread_id: str, content: bytes) -> dict[str, Any]:
    return {"thread_id": thread_id, "hash": content_hash(content), "data": zlib.compress(content)}
