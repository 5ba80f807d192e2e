"""Writes the graph's rows, within one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Upsert
from checkpoints.errors import ThreadNotEmpty
from checkpoints.graph_tables import GRAPH_TABLES, Where, channel_values, checkpoints, items, writes
from checkpoints.values import Remembered, Stored

_ADD_ITEM, _ADD_WRITE = Upsert(items), Upsert(writes)
_PUT_WRITE, _PUT_VALUE, _PUT_CHECKPOINT = (
    Upsert(table, replace=True) for table in (writes, channel_values, checkpoints)
)
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
            await self._connection.execute(_ADD_ITEM.on(self._connection), rows)

    async def put_values(self, values: Mapping[str, tuple[str, Stored]]) -> None:
        """Store what channels hold, each at its version."""
        rows = [
            {**self._where, "channel": channel, "version": version, **stored._asdict()}
            for channel, (version, stored) in values.items()
        ]
        if rows:
            await self._connection.execute(_PUT_VALUE.on(self._connection), rows)

    async def put_checkpoint(self, row: Mapping[str, Any]) -> None:
        """Store a checkpoint in place of one of the same id."""
        await self._connection.execute(_PUT_CHECKPOINT.on(self._connection), {**self._where, **row})

    async def put_writes(self, rows: Sequence[Mapping[str, Any]], *, replace: bool) -> None:
        """Store writes; where one of the same key is there, replace it or let it stand."""
        statement = (_PUT_WRITE if replace else _ADD_WRITE).on(self._connection)
        await self._connection.execute(statement, [{**self._where, **row} for row in rows])

    async def add_write(self, row: Mapping[str, Any]) -> bool:
        """Store a write, and tell whether it was not there yet."""
        done = await self._connection.execute(_ADD_WRITE.on(self._connection), {**self._where, **row})
        return done.rowcount == 1


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
