"""Reads the graph's rows back into values, within one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from langgraph.checkpoint.base import writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import LargeBinary, Row, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.errors import StateDamaged
from checkpoints.graph_tables import Where, channel_values, writes
from checkpoints.sequences import ADDRESS_BYTES, split, unfold
from checkpoints.values import (
    ITEM,
    LIST,
    SNAPSHOT,
    Stored,
    check_item,
    delta_snapshot,
    reading,
    unpack,
    unpack_list,
)

T = TypeVar("T")

AT_ONCE = 1000
"""How many rows one statement asks for by their keys: below every database's limit of parameters."""

_ITEMS = text(
    f"""
    WITH RECURSIVE cut(at) AS (
        SELECT 1 UNION ALL SELECT at + {ADDRESS_BYTES} FROM cut WHERE at + {ADDRESS_BYTES} <= length(:names)
    )
    SELECT id, kind, data
    FROM cut JOIN items ON thread_id = :thread_id AND id = substr(:names, at, {ADDRESS_BYTES})
    """
).bindparams(bindparam("names", type_=LargeBinary))
"""Asks with one parameter, the addresses joined, and gives rows as the driver does: thousands at a time."""
_VALUES = select(
    channel_values.c.channel, channel_values.c.version, channel_values.c.kind, channel_values.c.data
).where(
    channel_values.c.thread_id == bindparam("thread_id"),
    channel_values.c.namespace == bindparam("namespace"),
    channel_values.c.channel.in_(bindparam("channels", expanding=True)),
    channel_values.c.version.in_(bindparam("versions", expanding=True)),
)
_WRITES = select(writes).where(
    writes.c.thread_id == bindparam("thread_id"),
    writes.c.namespace == bindparam("namespace"),
    writes.c.checkpoint_id.in_(bindparam("ids", expanding=True)),
)


class Write(NamedTuple):
    """One stored write of a task."""

    task_id: str
    channel: str
    stored: Stored


class GraphReader:
    """The values of one namespace of one thread; rows that several of them share are read once."""

    def __init__(self, connection: AsyncConnection, serde: SerializerProtocol, where: Where) -> None:
        self._connection = connection
        self._serde = serde
        self._where = where._asdict()
        self._items: dict[bytes, tuple[str, bytes]] = {}

    async def values(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Stored]:
        """The rows of these (channel, version); a channel that was empty at a version has none."""
        found: dict[tuple[str, str], Stored] = {}
        pairs = list(wanted)
        for some in _portions(pairs):
            channels, versions = zip(*some, strict=True)
            keys = {"channels": channels, "versions": versions}
            rows = await self._connection.execute(_VALUES, self._where | keys)
            found |= {(channel, version): Stored(kind, data) for channel, version, kind, data in rows}
        return {pair: found[pair] for pair in pairs if pair in found}

    async def writes(self, checkpoint_ids: Sequence[str]) -> dict[str, list[Write]]:
        """The writes below each of these checkpoints, in the order in which LangGraph applies them."""
        rows: list[Row[Any]] = []
        for some in _portions(checkpoint_ids):
            rows += (await self._connection.execute(_WRITES, self._where | {"ids": some})).all()
        rows.sort(key=lambda row: writes_sort_key(row.task_path, row.task_id, row.idx))
        found: dict[str, list[Write]] = {each: [] for each in checkpoint_ids}
        for row in rows:
            found[row.checkpoint_id].append(Write(row.task_id, row.channel, Stored(row.kind, row.data)))
        return found

    async def load(self, stored: Sequence[Stored]) -> list[Any]:
        """The values of these rows, each made anew. Raises StateDamaged."""
        parts = [await self._parts(each) for each in stored]
        await self._fetch([name for names in parts for name in names])
        with reading(self._where["thread_id"]):
            return [self._value(each.kind, names, each) for each, names in zip(stored, parts, strict=True)]

    async def ends(self, stored: Sequence[Stored]) -> list[tuple[int, Any]]:
        """The length and the last element (None without one) of these lists; the others are not read."""
        ends: list[tuple[int, list[bytes]]] = []
        for each in stored:
            names = await self._parts(each) if each.kind in (LIST, SNAPSHOT) else []
            ends.append((len(names), names[-1:]))
        await self._fetch([name for _, last in ends for name in last])
        found: list[tuple[int, Any]] = []
        for (length, last), each in zip(ends, stored, strict=True):
            if last:
                with reading(self._where["thread_id"]):
                    found.append((length, unpack(self._serde, self._items[last[0]])))
            else:  # short enough to be one value
                (value,) = await self.load([each])
                found.append((len(value), value[-1] if value else None))
        return found

    def _value(self, kind: str, names: list[bytes], stored: Stored) -> Any:
        if kind == ITEM:
            return unpack(self._serde, self._items[names[0]])
        if kind not in (LIST, SNAPSHOT):
            return unpack(self._serde, stored)
        elements = unpack_list(self._serde, [self._items[name] for name in names])
        return elements if kind == LIST else delta_snapshot(elements)

    async def _parts(self, stored: Stored) -> list[bytes]:
        """The addresses of the items that a value consists of."""
        if stored.kind == ITEM:
            return [stored.data]
        if stored.kind not in (LIST, SNAPSHOT):
            return []
        with reading(self._where["thread_id"]):
            upper, *lower = unfold(stored.data)
        for level in lower:
            await self._fetch(upper)
            upper = [child for node in upper for child in split(self._items[node][1])] + level
        return upper

    async def _fetch(self, names: Iterable[bytes]) -> None:
        """Read items, each of which must be what its address says."""
        thread_id = self._where["thread_id"]
        missing = list(dict.fromkeys(name for name in names if name not in self._items))
        for some in _portions(missing):
            asked = {"thread_id": thread_id, "names": b"".join(some)}
            rows = (await self._connection.execute(_ITEMS, asked)).all()
            with reading(thread_id):
                for name, kind, data in rows:
                    check_item(name, kind, data)
                    self._items[name] = kind, data
        if any(name not in self._items for name in missing):
            raise StateDamaged(thread_id)


def _portions(rows: Sequence[T]) -> Iterable[Sequence[T]]:
    return (rows[at : at + AT_ONCE] for at in range(0, len(rows), AT_ONCE))
