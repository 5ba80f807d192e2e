"""A thread's checkpoints as one looks through them: newest first, without loading what they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import INTERRUPT
from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.errors import CheckpointNotFound
from checkpoints.graph_reader import GraphReader
from checkpoints.graph_tables import ROOT, Where, checkpoints, writes
from checkpoints.journal import EFFECTS
from checkpoints.pruning import keep_last, surplus
from checkpoints.threads import FINISHED, find_thread
from checkpoints.values import Stored, reading, unpack

_OF_THREAD = select(checkpoints).where(checkpoints.c.namespace == ROOT)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One checkpoint, and how one list of its state ends."""

    checkpoint_id: str
    parent_id: str | None
    created_at: datetime
    run_id: str | None
    """The run that made it."""
    step: int
    length: int
    """Of the list."""
    last: Any
    """The list's last element; None if it is empty."""
    copied: bool = False
    """Whether it is a copy of its parent, to which the thread went back."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What else there was at a checkpoint."""

    latest_effect: int | None
    """The number of the effect that the thread had begun last; None if that was not noted then."""
    asked: bool
    """Whether a question was open."""


class History:
    """Looks through the checkpoints of the graph itself, without graphs within it, and drops old ones."""

    def __init__(self, database: Database, serde: SerializerProtocol) -> None:
        self._database = database
        self._serde = serde

    async def page(
        self, thread_id: str, channel: str, *, limit: int, before: str | None = None
    ) -> list[HistoryEntry]:
        """The newest checkpoints (older than `before`), each with the end of the list in that channel."""
        query = _OF_THREAD.where(checkpoints.c.thread_id == thread_id)
        if before is not None:
            query = query.where(checkpoints.c.checkpoint_id < before)
        query = query.order_by(checkpoints.c.checkpoint_id.desc()).limit(limit)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
            bodies = [self._body(row) for row in rows]
            versions = [str(body["channel_versions"].get(channel, "")) for body in bodies]
            reader = GraphReader(connection, self._serde, Where(thread_id, ROOT))
            stored = await reader.values({(channel, version) for version in versions})
            ends = dict(zip(stored, await reader.ends(list(stored.values())), strict=True))
        with reading(thread_id):
            return [
                _entry(row, body["ts"], *ends.get((channel, version), (0, None)))
                for row, body, version in zip(rows, bodies, versions, strict=True)
            ]

    async def value(self, thread_id: str, checkpoint_id: str, channel: str) -> Any:
        """What a channel held at a checkpoint; None if it was empty. Raises CheckpointNotFound."""
        query = _OF_THREAD.where(
            checkpoints.c.thread_id == thread_id, checkpoints.c.checkpoint_id == checkpoint_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise CheckpointNotFound(checkpoint_id)
            version = str(self._body(row)["channel_versions"].get(channel, ""))
            reader = GraphReader(connection, self._serde, Where(thread_id, ROOT))
            stored = await reader.values([(channel, version)])
            (value,) = await reader.load(list(stored.values())) or [None]
            return value

    async def moment(self, thread_id: str, checkpoint_id: str) -> Moment:
        """How things stood at a checkpoint. Raises CheckpointNotFound."""
        query = _OF_THREAD.where(
            checkpoints.c.thread_id == thread_id, checkpoints.c.checkpoint_id == checkpoint_id
        )
        paused = select(writes.c.channel).where(
            writes.c.thread_id == thread_id,
            writes.c.namespace == ROOT,
            writes.c.checkpoint_id == checkpoint_id,
            writes.c.channel == INTERRUPT,
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise CheckpointNotFound(checkpoint_id)
            asked = (await connection.execute(paused.limit(1))).first() is not None
        with reading(thread_id):
            return Moment(json.loads(row.metadata).get(EFFECTS), asked)

    async def surplus(self, thread_id: str, n: int) -> int:
        """How many checkpoints `keep_last` would delete."""
        async with self._database.read() as connection:
            thread = await find_thread(connection, thread_id)
            if thread is None or thread.status not in FINISHED:
                return 0
            return len(await surplus(connection, self._serde, thread_id, n))

    async def keep_last(self, thread_id: str, n: int) -> int:
        """Delete all but the newest n checkpoints and what these rest on; how many went.

        None go from a thread that runs or waits for an answer.
        """
        count = select(func.count()).select_from(checkpoints).where(checkpoints.c.thread_id == thread_id)

        async def operation(connection: AsyncConnection) -> int:
            thread = await find_thread(connection, thread_id, lock=True)
            if thread is None or thread.status not in FINISHED:
                return 0
            before = (await connection.execute(count)).scalar_one()
            if before <= n:
                return 0
            await keep_last(connection, self._serde, thread_id, n)
            return before - (await connection.execute(count)).scalar_one()

        return await self._database.write(operation)

    def _body(self, row: Row[Any]) -> dict[str, Any]:
        with reading(row.thread_id):
            body: dict[str, Any] = unpack(self._serde, Stored(row.kind, row.body))
        return body


def _entry(row: Row[Any], moment: str, length: int, last: Any) -> HistoryEntry:
    details = json.loads(row.metadata)
    return HistoryEntry(
        checkpoint_id=row.checkpoint_id,
        parent_id=row.parent_id,
        created_at=datetime.fromisoformat(moment),
        run_id=row.run_id,
        step=details["step"],
        length=length,
        last=last,
        copied=details.get("source") == "fork",
    )
