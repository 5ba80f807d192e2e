"""The database: one writer, readers apart, and a schema version that is never downgraded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from checkpoints import migrations
from checkpoints.errors import DatabaseUnusable
from checkpoints.graph_tables import graph_metadata
from checkpoints.tables import SCHEMA_VERSION, metadata

BUSY_TIMEOUT_MS = 10_000
"""How long SQLite waits for another process's write to end."""


class Database:
    """SQLite in WAL mode with `synchronous=FULL`: what was committed survives a power cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = _engine(path, begin="BEGIN IMMEDIATE", pool_size=1)
        self._reader = _engine(path, begin="BEGIN", pool_size=2)
        self._one_writer = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Database]:
        """Open the file and make or check its schema. Raises DatabaseUnusable."""
        database = cls(path)
        try:
            await database._prepare()
            yield database
        finally:
            await database._writer.dispose()
            await database._reader.dispose()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write; committed at the end, rolled back on an error. One at a time."""
        async with self._one_writer, self._writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads, on one snapshot."""
        async with self._reader.connect() as connection:
            yield connection

    async def _prepare(self) -> None:
        try:
            async with self.write() as connection:
                version = (await connection.execute(text("PRAGMA user_version"))).scalar_one()
                if version > SCHEMA_VERSION:
                    raise DatabaseUnusable(
                        f"{self.path} was written by a newer version of agent-service (schema {version}, "
                        f"known here: {SCHEMA_VERSION}). Upgrade agent-service, or use another --data-dir."
                    )
                await migrations.migrate(connection, version)
                for tables in (metadata, graph_metadata):
                    await connection.run_sync(tables.create_all)
                await connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
        except DBAPIError as error:
            raise DatabaseUnusable(f"{self.path} cannot be used as the database: {error.orig}") from error


def _engine(path: Path, *, begin: str, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=pool_size, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver shall not begin transactions; SQLAlchemy does
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
