"""Answers kept for a while, by the hash of the request. Nothing here knows what they say."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database, Upsert
from checkpoints.tables import response_cache

_PUT = Upsert(response_cache, replace=True)


class ResponseCache:
    """Each principal's own answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: str, request_hash: str) -> bytes | None:
        """The answer, unless its time is over; None = there is none."""
        query = select(response_cache.c.data, response_cache.c.expires_at).where(
            response_cache.c.principal == principal, response_cache.c.request_hash == request_hash
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
            now = await self._database.time(connection)
        return None if row is None or row.expires_at <= now else row.data

    async def put(self, principal: str, request_hash: str, data: bytes, seconds: float) -> None:
        """Keep an answer for so long."""

        async def operation(connection: AsyncConnection) -> None:
            now = await self._database.time(connection)
            row = {"principal": principal, "request_hash": request_hash, "data": data}
            await connection.execute(_PUT.on(connection), {**row, "expires_at": now + seconds})

        await self._database.write(operation)

    async def forget_expired(self) -> None:
        """Delete the answers whose time is over."""

        async def operation(connection: AsyncConnection) -> None:
            now = await self._database.time(connection)
            await connection.execute(delete(response_cache).where(response_cache.c.expires_at <= now))

        await self._database.write(operation)
