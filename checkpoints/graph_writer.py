"""Writes the graph's rows, within one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, literal, select
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.errors import ThreadNotEmpty
from checkpoints.graph_tables import GRAPH_TABLES, Where, channel_values, checkpoints, items, writes
from checkpoints.values import Remembered, Stored


def _upsert(statement: Insert) -> Insert:
    """The statement, replacing all but the key of a row that is there."""
    key = list(statement.table.primary_key)
    rest = {column.name: statement.excluded[column.name] for column in statement.table.c if column not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=rest)


# Built once: to build such a statement takes longer than to run it.
_ADD_ITEM = insert(items).on_conflict_do_nothing()
_ADD_WRITE = insert(writes).on_conflict_do_nothing()
_PUT_WRITE = _upsert(insert(writes))
_PUT_VALUE = _upsert(insert(channel_values))
_PUT_CHECKPOINT = _upsert(insert(checkpoints))
_VALUE = select(channel_values.c.data).where(
    *(channel_values.c[name] == bindparam(name) for name in ("thread_id", "namespace", "channel", "version"))
)


class GraphWriter:
    """Writes to one namespace of one thread."""

    def __init__(self, connection: AsyncConnection, where: Where) -> None:
        self._connection = connection
        self._where = where._asdict()

    async def has(self, channel: str, remembered: Remembered) -> bool:
        """Whether that version of a list is stored, and hence all that it consists of.

        It may have been deleted or replaced since, even by another process.
        """
        key = {**self._where, "channel": channel, "version": remembered.version}
        return (await self._connection.execute(_VALUE, key)).scalar_one_or_none() == remembered.folded.root

    async def add_items(self, new: Mapping[bytes, Stored]) -> None:
        """Store items; those that are there stay."""
        thread_id = self._where["thread_id"]
        rows = [{"thread_id": thread_id, "id": name, **stored._asdict()} for name, stored in new.items()]
        if rows:
            await self._connection.execute(_ADD_ITEM, rows)

    async def put_values(self, values: Mapping[str, tuple[str, Stored]]) -> None:
        """Store what channels hold, each at its version."""
        rows = [
            {**self._where, "channel": channel, "version": version, **stored._asdict()}
            for channel, (version, stored) in values.items()
        ]
        if rows:
            await self._connection.execute(_PUT_VALUE, rows)

    async def put_checkpoint(self, row: Mapping[str, Any]) -> None:
        """Store a checkpoint in place of one of the same id."""
        await self._connection.execute(_PUT_CHECKPOINT, {**self._where, **row})

    async def put_writes(self, rows: Sequence[Mapping[str, Any]], *, replace: bool) -> None:
        """Store writes; where one of the same key is there, replace it or let it stand."""
        statement = _PUT_WRITE if replace else _ADD_WRITE
        await self._connection.execute(statement, [{**self._where, **row} for row in rows])


async def copy_thread(connection: AsyncConnection, source_id: str, target_id: str) -> None:
    """Copy all rows of a thread. Raises ThreadNotEmpty."""
    for table in GRAPH_TABLES:
        taken = select(literal(1)).where(table.c.thread_id == target_id).limit(1)
        if (await connection.execute(taken)).first():
            raise ThreadNotEmpty(target_id)
    for table in GRAPH_TABLES:
        rest = [column for column in table.c if column.name != "thread_id"]
        rows = select(literal(target_id), *rest).where(table.c.thread_id == source_id)
        await connection.execute(insert(table).from_select([table.c.thread_id, *rest], rows))
