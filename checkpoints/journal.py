"""The journal of effects: what a tool call was about to do, and that it was done.

An effect is written down (intent, hashes before and after) in the database, then made, then marked done.
After a crash the file itself tells which of the two moments was the last: see `agent_service.agent.effects`.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.errors import LeaseLost
from checkpoints.runs import Run
from checkpoints.tables import blobs, effects, threads


@dataclass(frozen=True, slots=True)
class EffectRecord:
    """What the journal knows of one tool call's effect."""

    state: Literal["begun", "done", "void"]
    """`void`: it was begun, and given up without having happened."""
    path: str | None
    before_hash: str | None
    after_hash: str | None
    result: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What a thread made of one file, first content to last."""

    path: str
    before: bytes | None
    after: bytes | None


def content_hash(content: bytes | None) -> str | None:
    """SHA-256 in hex; None for a file that is not there."""
    return None if content is None else hashlib.sha256(content).hexdigest()


class EffectJournal:
    """Records effects per (thread, tool call), with the contents before and after."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def get(self, thread_id: str, tool_call_id: str) -> EffectRecord | None:
        """What is known of the call's effect; None when it was never begun."""
        query = select(effects).where(
            effects.c.thread_id == thread_id, effects.c.tool_call_id == tool_call_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        return EffectRecord(row.state, row.path, row.before_hash, row.after_hash, row.result)

    async def begin(
        self,
        run: Run,
        tool_call_id: str,
        result: str,
        path: str | None = None,
        before: bytes | None = None,
        after: bytes | None = None,
    ) -> None:
        """Write down the intent, with what the model will be told once it is done. Raises LeaseLost."""
        async with self._database.write() as connection:
            query = select(threads.c.fence).where(threads.c.thread_id == run.thread_id)
            if (await connection.execute(query)).scalar_one_or_none() != run.fence:
                raise LeaseLost(run.thread_id)
            values = {
                "turn_id": run.turn_id,
                "path": path,
                "before_hash": await self._keep(connection, run.thread_id, before),
                "after_hash": await self._keep(connection, run.thread_id, after),
                "state": "begun",
                "result": result,
                "created_at": self._clock(),
            }
            await connection.execute(
                upsert(effects)
                .values(thread_id=run.thread_id, tool_call_id=tool_call_id, **values)
                .on_conflict_do_update(index_elements=["thread_id", "tool_call_id"], set_=values)
            )

    async def finish(
        self,
        thread_id: str,
        tool_call_id: str,
        *,
        state: Literal["done", "void"] = "done",
        result: str | None = None,
    ) -> None:
        """Mark the effect as made, or as given up; `result` replaces the one noted at the beginning."""
        values = {"state": state} if result is None else {"state": state, "result": result}
        async with self._database.write() as connection:
            await connection.execute(
                update(effects)
                .where(effects.c.thread_id == thread_id, effects.c.tool_call_id == tool_call_id)
                .values(**values)
            )

    async def unfinished_paths(self, thread_id: str) -> list[str]:
        """Files whose last write may have been cut short by a crash."""
        query = select(effects.c.path).where(
            effects.c.thread_id == thread_id, effects.c.state == "begun", effects.c.path.is_not(None)
        )
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def contents(self, thread_id: str, record: EffectRecord) -> tuple[bytes | None, bytes | None]:
        """The contents before and after an effect."""
        async with self._database.read() as connection:
            return (
                await self._content(connection, thread_id, record.before_hash),
                await self._content(connection, thread_id, record.after_hash),
            )

    async def changes(self, thread_id: str, *, turn_id: str | None = None) -> list[Change]:
        """Net change of every file the thread (or one turn of it) wrote, in the order of the first write."""
        query = (
            select(effects.c.path, effects.c.before_hash, effects.c.after_hash)
            .where(effects.c.thread_id == thread_id, effects.c.state == "done", effects.c.path.is_not(None))
            .order_by(effects.c.seq)
        )
        if turn_id is not None:
            query = query.where(effects.c.turn_id == turn_id)
        first_last: dict[str, tuple[str | None, str | None]] = {}
        async with self._database.read() as connection:
            for path, before_hash, after_hash in await connection.execute(query):
                first, _ = first_last.get(path, (before_hash, None))
                first_last[path] = (first, after_hash)
            return [
                Change(
                    path,
                    await self._content(connection, thread_id, first),
                    await self._content(connection, thread_id, last),
                )
                for path, (first, last) in first_last.items()
                if first != last
            ]

    async def _keep(self, connection: AsyncConnection, thread_id: str, content: bytes | None) -> str | None:
        if content is None:
            return None
        digest = content_hash(content)
        row = {"thread_id": thread_id, "hash": digest, "data": zlib.compress(content)}
        await connection.execute(upsert(blobs).values(row).on_conflict_do_nothing())
        return digest

    async def _content(self, connection: AsyncConnection, thread_id: str, digest: str | None) -> bytes | None:
        if digest is None:
            return None
        query = select(blobs.c.data).where(blobs.c.thread_id == thread_id, blobs.c.hash == digest)
        return zlib.decompress((await connection.execute(query)).scalar_one())
