"""What the router has learned: JSON under names, kept over a restart. Nothing here knows what it means."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database, Upsert
from checkpoints.tables import router_memory

LONGEST_KEY = 400
_PUT = Upsert(router_memory, replace=True)


class RouterMemory:
    """Names and what is kept under them."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    async def get(self, name: str) -> bytes | None:
        """What is kept under that name."""
        query = select(router_memory.c.data).where(router_memory.c.key == name)
        async with self._database.read() as connection:
            found: bytes | None = (await connection.execute(query)).scalar_one_or_none()
        return found

    async def load(self, prefix: str) -> dict[str, bytes]:
        """All that is kept under names that begin so, the oldest first."""
        query = select(router_memory.c.key, router_memory.c.data).where(
            router_memory.c.key.startswith(prefix, autoescape=True)
        )
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(router_memory.c.updated_at, router_memory.c.key))
            return {row.key: row.data for row in rows}

    async def save(self, entries: Mapping[str, bytes]) -> None:
        """Keep these; each replaces what was kept under its name. Names have 400 characters at most."""
        now = self._clock()
        rows = [{"key": name, "data": data, "updated_at": now} for name, data in sorted(entries.items())]

        async def operation(connection: AsyncConnection) -> None:
            await connection.execute(_PUT.on(connection), rows)

        if rows:
            await self._database.write(operation)

    async def update(
        self, names: Collection[str], change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> None:
        """Keep what `change` makes of what is kept under these names; nobody else writes in between.

        It may be asked several times, and give other names, too.
        """
        now = self._clock()
        query = select(router_memory.c.key, router_memory.c.data).where(router_memory.c.key.in_(names))

        async def operation(connection: AsyncConnection) -> None:
            stored = {row.key: row.data for row in await connection.execute(query.with_for_update())}
            entries = sorted(change(stored).items())
            rows = [{"key": name, "data": data, "updated_at": now} for name, data in entries]
            if rows:
                await connection.execute(_PUT.on(connection), rows)

        await self._database.write(operation)

    async def forget_before(self, moment: float) -> None:
        """Delete what was last saved before that."""
        gone = delete(router_memory).where(router_memory.c.updated_at < moment)
        await self._database.write(lambda connection: connection.execute(gone))
