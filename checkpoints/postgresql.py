"""PostgreSQL: shared by several processes, on one machine or many. Rows are locked, never all of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from checkpoints import schema
from checkpoints.database import Database, Operation, Readers, T
from checkpoints.errors import DatabaseUnusable

CONNECTIONS = 10
"""Kept open by one process; as many again may be opened for a moment."""
CONNECT_SECONDS = 5
WAIT_FOR_LOCK_MS = 10_000
STALLED_MS = 8_000
"""After so long the server ends a transaction whose process was stopped in the middle of it: sooner than its
leases run out, so that whoever takes its threads over finds no row locked."""
ATTEMPTS = 5
_RETRIED = ("40001", "40P01")
"""SQLSTATE of a serialisation failure and of a deadlock: nothing was written, and a repeat may succeed."""

_CLOCK = select(func.extract("epoch", func.clock_timestamp()))


class PostgresDatabase(Database):
    """A database on a server. Several services may share it."""

    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        """Raises DatabaseUnusable for a URL that is none, or without the driver."""
        try:
            address = make_url(url)
            self.where = address.set(drivername="postgresql").render_as_string(hide_password=True)
            if address.get_backend_name() != "postgresql":
                raise ArgumentError(f"{address.drivername} is not PostgreSQL")
            engine = create_async_engine(
                address,
                pool_size=CONNECTIONS,
                max_overflow=CONNECTIONS,
                pool_timeout=CONNECT_SECONDS,
                pool_pre_ping=True,  # the server may have been restarted since
                hide_parameters=True,  # what people write does not belong into a log
                connect_args={
                    "connect_timeout": CONNECT_SECONDS,
                    "options": f"-c lock_timeout={WAIT_FOR_LOCK_MS} "
                    f"-c idle_in_transaction_session_timeout={STALLED_MS}",
                },
            )
        except ImportError as error:
            raise DatabaseUnusable(
                f"{self.where} needs a driver that is missing ({error}); "
                "pip install 'agent-service[postgres]' brings it."
            ) from None
        except (ArgumentError, ValueError) as error:
            raise DatabaseUnusable(
                f"state.url is not the URL of a database: {error}. "
                "It looks like postgresql://user:password@host/name."
            ) from None
        self._engine = engine
        self._reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writing: set[asyncio.Task[Any]] = set()
        self._readers = Readers()
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[Self]:
        """Connect, and make or check the schema. Raises DatabaseUnusable."""
        database = cls(url)
        try:
            await database._prepare()
            yield database
        finally:
            database._closed = True
            if database._writing:
                await asyncio.wait(database._writing)
            await database._readers.gone()
            await database._engine.dispose()

    async def write(self, operation: Operation[T]) -> T:
        if self._closed:
            raise DatabaseUnusable(f"{self.where} was closed: the service is shutting down.")
        task = asyncio.ensure_future(self._noted(operation))
        self._writing.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        with self._readers.another():
            async with self._reader.connect() as connection:
                yield connection

    async def time(self, connection: AsyncConnection) -> float:
        return float((await connection.execute(_CLOCK)).scalar_one())

    async def compact(self) -> None:
        """Nothing to do: autovacuum does."""

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may have left; then nobody asks for it

    async def _noted(self, operation: Operation[T]) -> T:
        try:
            value = await self._perform(operation)
        except Exception as error:
            self.refused(error)
            raise
        self.wrote()
        return value

    async def _perform(self, operation: Operation[T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._engine.begin() as connection:
                    return await operation(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _RETRIED or attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))
        raise AssertionError("unreachable")

    async def _prepare(self) -> None:
        try:
            await self.write(lambda connection: schema.prepare(connection, self.where))
        except (DBAPIError, PoolExhausted) as error:
            reason = " ".join(str(getattr(error, "orig", error)).split())
            raise DatabaseUnusable(f"{self.where} cannot be used as the database: {reason}") from error
