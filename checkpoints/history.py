"""A thread's checkpoints as one looks through them: newest first, without loading what they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import INTERRUPT
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.clock import made_at
from checkpoints.database import Database
from checkpoints.errors import CheckpointNotFound, StateDamaged
from checkpoints.graph_reader import GraphReader
from checkpoints.graph_tables import ROOT, Where, checkpoints, writes
from checkpoints.journal import EFFECTS
from checkpoints.pruning import keep_last, surplus
from checkpoints.saved import STORED
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
    damaged: bool = False
    """Whether any of this cannot be read, and so is 0, None or false; the time is that of its id then."""


class _Opened(NamedTuple):
    """What a checkpoint tells without its values."""

    created_at: datetime
    step: int
    copied: bool
    version: str
    """Of the list; empty if it has none."""
    held: bool
    """Whether the list has a row at that version for sure."""


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
        """The newest checkpoints (older than `before`), each with the end of the list in that channel.

        A damaged one is among them: its id is a place from which to look for a sound one. Raises
        CheckpointNotFound when there is no `before`.
        """
        of_thread = _OF_THREAD.where(checkpoints.c.thread_id == thread_id)
        query = of_thread.order_by(checkpoints.c.checkpoint_id.desc()).limit(limit)
        async with self._database.read() as connection:
            if before is not None:
                here = of_thread.where(checkpoints.c.checkpoint_id == before)
                if (await connection.execute(here)).first() is None:
                    raise CheckpointNotFound(before)
                query = query.where(checkpoints.c.checkpoint_id < before)
            opened = [(row, self._open(row, channel)) for row in await connection.execute(query)]
            reader = GraphReader(connection, self._serde, Where(thread_id, ROOT))
            stored = await reader.values({(channel, each.version) for _, each in opened if each})
            ends = dict(zip(stored, await _ends(reader, [*stored.values()]), strict=True))
        return [
            _entry(row, each, ends.get((channel, each.version), None if each.held else (0, None)))
            if each
            else _entry(row, None, None)
            for row, each in opened
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
        """How many checkpoints `keep_last` would delete. Raises StateDamaged where that does."""
        async with self._database.read() as connection:
            thread = await find_thread(connection, thread_id)
            if thread is None or thread.status not in FINISHED:
                return 0
            return len(await surplus(connection, self._serde, thread_id, n))

    async def keep_last(self, thread_id: str, n: int) -> int:
        """Delete all but the newest n checkpoints and what these rest on; how many went.

        None go from a thread that runs or waits for an answer. Raises StateDamaged, and deletes none, if one
        that would be kept is damaged.
        """

        async def operation(connection: AsyncConnection) -> int:
            thread = await find_thread(connection, thread_id, lock=True)
            if thread is None or thread.status not in FINISHED:
                return 0
            return await keep_last(connection, self._serde, thread_id, n)

        return await self._database.write(operation)

    def _open(self, row: Row[Any], channel: str) -> _Opened | None:
        """None if that checkpoint's row is damaged."""
        with suppress(StateDamaged):
            body = self._body(row)
            with reading(row.thread_id):
                details = json.loads(row.metadata)
                return _Opened(
                    created_at=datetime.fromisoformat(body["ts"]),
                    step=int(details["step"]),
                    copied=details.get("source") == "fork",
                    version=str(body["channel_versions"].get(channel, "")),
                    held=channel in body.get(STORED, ()),  # checkpoints of earlier versions do not tell
                )
        return None

    def _body(self, row: Row[Any]) -> dict[str, Any]:
        with reading(row.thread_id):
            body: dict[str, Any] = unpack(self._serde, Stored(row.kind, row.body))
        return body


def _entry(row: Row[Any], opened: _Opened | None, end: tuple[int, Any] | None) -> HistoryEntry:
    """Of what could be read of it."""
    length, last = end or (0, None)
    return HistoryEntry(
        checkpoint_id=row.checkpoint_id,
        parent_id=row.parent_id,
        created_at=opened.created_at if opened else made_at(row.checkpoint_id),
        run_id=row.run_id,
        step=opened.step if opened else 0,
        length=length,
        last=last,
        copied=opened is not None and opened.copied,
        damaged=end is None,
    )


async def _ends(reader: GraphReader, stored: Sequence[Stored]) -> list[tuple[int, Any] | None]:
    """The length and the last element of these lists; None of one that is damaged.

    Where an end is missing, so may be other parts: then, and only then, all of them are looked at.
    """
    try:
        return [*await reader.ends(stored)]
    except StateDamaged:
        return [await _end(reader, each) for each in stored]


async def _end(reader: GraphReader, stored: Stored) -> tuple[int, Any] | None:
    with suppress(StateDamaged):
        await reader.check([stored])
        return (await reader.ends([stored]))[0]
    return None
