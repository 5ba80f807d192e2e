"""The walk from a checkpoint to its ancestors, in search of what LangGraph's delta channels rest on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import bindparam, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.graph_reader import GraphReader, Write
from checkpoints.graph_tables import Where, checkpoints
from checkpoints.values import Stored, reading, unpack

GENERATIONS = 64
"""How many ancestors are read at once."""

_HERE = (checkpoints.c.thread_id == bindparam("thread_id"), checkpoints.c.namespace == bindparam("namespace"))
_COLUMNS = (checkpoints.c.checkpoint_id, checkpoints.c.parent_id, checkpoints.c.kind, checkpoints.c.body)
_FIRST = (
    select(*_COLUMNS, literal(1).label("generation"))
    .where(*_HERE, checkpoints.c.checkpoint_id == bindparam("id"))
    .cte("ancestors", recursive=True)
)
_ANCESTORS = _FIRST.union_all(
    select(*_COLUMNS, _FIRST.c.generation + 1).where(
        *_HERE, checkpoints.c.checkpoint_id == _FIRST.c.parent_id, _FIRST.c.generation < GENERATIONS
    )
)
_CHAIN = select(_ANCESTORS).order_by(_ANCESTORS.c.generation)


@dataclass(slots=True)
class Ancestor:
    """A checkpoint on the way to the root."""

    checkpoint_id: str
    versions: dict[str, str]


@dataclass(slots=True)
class Lineage:
    """What channels can be rebuilt from: a value stored at an ancestor, and the writes since."""

    seeds: dict[str, Stored] = field(default_factory=dict)
    writes: dict[str, list[Write]] = field(default_factory=dict)
    """Oldest first."""
    path: list[str] = field(default_factory=list)
    """The ancestors passed, nearest first."""


async def trace(
    connection: AsyncConnection,
    serde: SerializerProtocol,
    where: Where,
    checkpoint_id: str,
    channels: Collection[str],
) -> Lineage:
    """Walk from a checkpoint (itself excluded) until each channel's latest stored value was met."""
    reader = GraphReader(connection, serde, where)
    lineage = Lineage(writes={channel: [] for channel in channels})
    missing = set(channels)
    async for page in _ancestors(connection, serde, where, checkpoint_id):
        values = await reader.values({(c, a.versions[c]) for a in page for c in missing & a.versions.keys()})
        writes = await reader.writes([ancestor.checkpoint_id for ancestor in page])
        for ancestor in page:
            if not missing:
                break
            lineage.path.append(ancestor.checkpoint_id)
            for write in reversed(writes[ancestor.checkpoint_id]):
                if write.channel in missing:
                    lineage.writes[write.channel].append(write)
            for channel in sorted(missing):
                if seed := values.get((channel, ancestor.versions.get(channel, ""))):
                    lineage.seeds[channel] = seed
                    missing.discard(channel)
        if not missing:
            break
    for found in lineage.writes.values():
        found.reverse()
    return lineage


async def _ancestors(
    connection: AsyncConnection, serde: SerializerProtocol, where: Where, checkpoint_id: str
) -> AsyncIterator[list[Ancestor]]:
    """The ancestors, nearest first, page by page; a chain that bites its own tail ends there."""
    seen = {checkpoint_id}
    after: str | None = checkpoint_id
    while after is not None:
        rows = (await connection.execute(_CHAIN, where._asdict() | {"id": after})).all()
        page: list[Ancestor] = []
        for row in rows[1:]:
            if row.checkpoint_id in seen:
                break
            seen.add(row.checkpoint_id)
            with reading(where.thread_id):
                page.append(Ancestor(row.checkpoint_id, versions_in(serde, Stored(row.kind, row.body))))
        complete = len(page) == GENERATIONS - 1
        after = page[-1].checkpoint_id if complete else None
        if page:
            yield page


def versions_in(serde: SerializerProtocol, body: Stored) -> dict[str, str]:
    """The version of each channel, as the rows of values are keyed. Call it within `reading`."""
    versions = unpack(serde, body)["channel_versions"]
    return {channel: str(version) for channel, version in versions.items()}
