"""Reads the graph's rows back into values, within one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any, NamedTuple, TypeVar

from langgraph.checkpoint.base import writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.driver import Rows, fetch, fetch_each
from checkpoints.errors import StateDamaged
from checkpoints.graph_tables import Where
from checkpoints.sequences import ADDRESS_BYTES, LONGEST_CHUNK, address, split, unfold
from checkpoints.values import (
    ITEM,
    LIST,
    PLAIN,
    SNAPSHOT,
    Changed,
    Stored,
    check_address,
    delta_snapshot,
    inflate,
    reading,
    start_of_run,
    unpack,
    unpack_all,
    unpack_run,
)

T = TypeVar("T")

AT_ONCE = 1000
"""How many rows one statement asks for by their keys: below every database's limit of parameters."""
RUN = {"sqlite": 128, "postgresql": 1024}
"""How many items the database joins to one value, so that a long list comes as few rows. To ask SQLite again
costs next to nothing, and a short value fits into memory that was just used; fresh memory costs more."""
LONGEST_IN_RUN = 16384
"""Longer ones come as rows of their own: a run takes 16 MB at most."""

_PLACES = f"""
    WITH RECURSIVE place(at) AS (
        SELECT 1 UNION ALL SELECT at + {ADDRESS_BYTES} FROM place WHERE at + {ADDRESS_BYTES} <= :length
    )"""
"""Where addresses begin in others, joined: so any number of them is one parameter."""
_PLACED = f"substr(:names, at, {ADDRESS_BYTES})"
_LOOK_UP = {
    "sqlite": "CROSS JOIN items ON thread_id = :thread_id AND id = {}",
    "postgresql": """CROSS JOIN LATERAL (
        SELECT id, kind, data FROM items WHERE thread_id = :thread_id AND id = {} LIMIT 1
    ) AS item""",
}
"""Both forbid the planner to compare each address with each item of the thread, which it takes for few."""
_ITEMS = {
    dialect: f"{_PLACES} SELECT id, kind, data FROM place {look_up.format(_PLACED)}"
    for dialect, look_up in _LOOK_UP.items()
}
_NODES = {
    dialect: f"""{_PLACES}, tree(name, height) AS (
        SELECT {_PLACED}, CAST(substr(CAST(:heights AS TEXT), at / {ADDRESS_BYTES} + 1, 1) AS INTEGER)
        FROM place WHERE at <= length(:names)
        UNION ALL
        SELECT substr(data, at, {ADDRESS_BYTES}), height - 1
        FROM tree {look_up.format("name")} JOIN place ON at <= length(data)
        WHERE height > 1
    )
    SELECT id, kind, data FROM tree {look_up.format("name")}"""
    for dialect, look_up in _LOOK_UP.items()
}
"""Nodes, and all that are below them; `heights` has a digit for each address, 1 for that of a leaf."""
_JOINED = {"sqlite": "CAST(group_concat({}, '') AS BLOB)", "postgresql": "string_agg({}, '')"}
_AFTER_START = "CASE WHEN at = 1 THEN :start || data ELSE data END"
"""Megabytes that come with their beginning need not be copied to get one."""
_RUN = {
    dialect: f"""{_PLACES}
    SELECT count(*), sum(length(data)), {joined.format("id")}, {joined.format(_AFTER_START)}
    FROM place {_LOOK_UP[dialect].format(_PLACED)}
    WHERE kind = :kind AND length(data) <= :longest"""
    for dialect, joined in _JOINED.items()
}
"""The items of a list, joined, and which they are."""
_VALUES = """
    SELECT channel, version, kind, data FROM channel_values
    WHERE thread_id = :thread_id AND namespace = :namespace AND channel IN ({}) AND version IN ({})"""
_WRITES = """
    SELECT checkpoint_id, task_id, idx, task_path, channel, kind, data FROM writes
    WHERE thread_id = :thread_id AND namespace = :namespace AND checkpoint_id IN ({})"""


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
        self._dialect = connection.dialect.name
        self._items: dict[bytes, tuple[str, bytes]] = {}  # nodes are among them
        self._checked: set[bytes] = set()

    async def values(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Stored]:
        """The rows of these (channel, version); a channel that was empty at a version has none."""
        found: dict[tuple[str, str], Stored] = {}
        pairs = list(wanted)
        for some in _portions(pairs):
            rows = await self._ask(_VALUES, *zip(*some, strict=True))
            found |= {(channel, version): Stored(kind, data) for channel, version, kind, data in rows}
        return {pair: found[pair] for pair in pairs if pair in found}

    async def writes(self, checkpoint_ids: Sequence[str]) -> dict[str, list[Write]]:
        """The writes below each of these checkpoints, in the order in which LangGraph applies them."""
        rows: Rows = []
        for some in _portions(checkpoint_ids):
            rows += await self._ask(_WRITES, some)
        rows.sort(key=lambda row: writes_sort_key(row[3], row[1], row[2]))
        found: dict[str, list[Write]] = {each: [] for each in checkpoint_ids}
        for checkpoint_id, task_id, _, _, channel, kind, data in rows:
            found[checkpoint_id].append(Write(task_id, channel, Stored(kind, data)))
        return found

    async def _ask(self, statement: str, *keys: Sequence[str]) -> Rows:
        """The rows of a statement, with the keys in its places."""
        asked = [{f"key_{at}_{n}": key for n, key in enumerate(some)} for at, some in enumerate(keys)]
        places = (", ".join(f":{name}" for name in some) for some in asked)
        parameters = reduce(or_, asked, self._where)
        return await fetch(self._connection, statement.format(*places), parameters)

    async def load(self, stored: Sequence[Stored]) -> list[Any]:
        """The values of these rows, each made anew. Raises StateDamaged."""
        await self._fetch([each.data for each in stored if each.kind == ITEM])
        return [await self._value(each) for each in stored]

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
                value = await self._value(each)
                with reading(self._where["thread_id"]):
                    found.append((len(value), value[-1] if value else None))
        return found

    async def check(self, stored: Iterable[Stored]) -> None:
        """See that these rows and all that they rest on are as they were stored. Raises StateDamaged.

        Values are made only of the short rows that have neither a checksum nor an address.
        """
        names: dict[bytes, None] = {}
        for each in stored:
            if each.kind in (LIST, SNAPSHOT):
                names |= dict.fromkeys(await self._parts(each))
            elif each.kind == ITEM:
                names[each.data] = None
            else:
                await self._value(each)
        unknown = [name for name in names if name not in self._checked]
        for some in _portions(unknown, RUN[self._dialect]):
            rows = await fetch(self._connection, _ITEMS[self._dialect], self._where | _joined(some))
            with reading(self._where["thread_id"]):
                for name, kind, data in rows:
                    if address(*inflate((kind, data))) != name:
                        raise Changed
            if len(rows) < len(some):
                raise StateDamaged(self._where["thread_id"])
            self._checked.update(some)

    async def _value(self, stored: Stored) -> Any:
        if stored.kind not in (LIST, SNAPSHOT):
            with reading(self._where["thread_id"]):
                return unpack(self._serde, self._items[stored.data] if stored.kind == ITEM else stored)
        names = await self._parts(stored)
        elements = await self._elements(names)
        return elements if stored.kind == LIST else delta_snapshot(elements)

    async def _parts(self, stored: Stored) -> list[bytes]:
        """The addresses of a list's elements."""
        with reading(self._where["thread_id"]):
            upper, *lower = unfold(stored.data)
        await self._fetch_nodes([upper, *lower])
        for level in lower:
            self._see_that_all_came(upper)
            upper = [child for node in upper for child in split(self._items[node][1])] + level
        return upper

    async def _elements(self, names: Sequence[bytes]) -> list[Any]:
        """The elements at these addresses: in runs, as far as they are of the ordinary kind and length."""
        if not names:
            return []
        portions = [*_portions(names, RUN[self._dialect])]
        runs = await fetch_each(
            self._connection, _RUN[self._dialect], map(self._asked_for, portions), self._values_of_run
        )
        elements: list[Any] = []
        for some, (found, values) in zip(portions, runs, strict=True):
            elements += values if found == b"".join(some) else await self._complete(some, found, values)
        return elements

    def _asked_for(self, names: Sequence[bytes]) -> dict[str, Any]:
        start = start_of_run(len(names))
        return {"start": start, "kind": PLAIN, "longest": LONGEST_IN_RUN, **self._where, **_joined(names)}

    def _values_of_run(self, rows: Rows) -> tuple[bytes, list[Any]]:
        """The addresses in a run, joined, and their values."""
        ((count, length, found, run),) = rows
        # Old versions of SQLite join no further than the first zero byte.
        if not count or len(found) < count * ADDRESS_BYTES or len(run) < length:
            return b"", []
        start, at = start_of_run(count), len(run) - length
        if at and run[0] != start[0]:  # joined in another order
            return b"", []
        if run[:at] != start:  # not all of those that were asked for
            run = start + run[at:]
        with reading(self._where["thread_id"]):
            return found, unpack_run(self._serde, run)

    async def _complete(self, names: Sequence[bytes], found: bytes, values: list[Any]) -> list[Any]:
        """The elements at these addresses, of which a run had some."""
        known = dict(zip(split(found), values, strict=True)) if found else {}
        if len(known) < len(values):  # the same twice; but each must be an object of its own
            known.clear()
        rest = [name for name in names if name not in known]
        await self._fetch(rest)
        with reading(self._where["thread_id"]):
            others = iter(unpack_all(self._serde, [self._items[name] for name in rest]))
        return [known[name] if name in known else next(others) for name in names]

    async def _fetch(self, names: Iterable[bytes]) -> None:
        """Read items that were not read yet."""
        missing = [*{name: None for name in names if name not in self._items}]
        for some in _portions(missing, AT_ONCE):
            self._take(await fetch(self._connection, _ITEMS[self._dialect], self._where | _joined(some)))
        self._see_that_all_came(missing)

    async def _fetch_nodes(self, levels: Sequence[Sequence[bytes]]) -> None:
        """Read nodes that were not read yet, and all that are below them; the last level has none."""
        heights = {
            name: height
            for height, level in zip(range(len(levels) - 1, 0, -1), levels, strict=False)
            for name in level
            if name not in self._items
        }
        if heights:
            asked = _joined([*heights]) | {"heights": "".join(str(min(each, 9)) for each in heights.values())}
            asked["length"] = max(asked["length"], LONGEST_CHUNK * ADDRESS_BYTES)
            self._take(await fetch(self._connection, _NODES[self._dialect], self._where | asked))

    def _take(self, rows: Rows) -> None:
        with reading(self._where["thread_id"]):
            for name, kind, data in rows:
                check_address(name, kind, data)
                self._items[name] = kind, data

    def _see_that_all_came(self, names: Iterable[bytes]) -> None:
        if any(name not in self._items for name in names):
            raise StateDamaged(self._where["thread_id"])


def _joined(names: Sequence[bytes]) -> dict[str, Any]:
    """Addresses as parameters of one statement."""
    joined = b"".join(names)
    return {"names": joined, "length": len(joined)}


def _portions(rows: Sequence[T], size: int = AT_ONCE) -> Iterable[Sequence[T]]:
    return (rows[at : at + size] for at in range(0, len(rows), size))
