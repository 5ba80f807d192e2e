"""SQLite: one file, one writer that many operations take turns at, readers apart.

Operations that wait while others are being committed share the next commit, and with it one write to the
disk: an fsync costs more than all the rest of a small transaction.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from checkpoints import schema
from checkpoints.database import Database, Operation, Readers, Synchronous, T
from checkpoints.diagnosis import diagnose, is_damage
from checkpoints.errors import DatabaseUnusable
from checkpoints.one_trip import OneTripConnection
from checkpoints.rows import as_text

BUSY_TIMEOUT_MS = 10_000
"""How long SQLite waits for another process's write to end."""
READERS = 4
PAGE_BYTES = 8192
"""Of a new file: with SQLite's own 4096 a message of 2 KB has a page for itself, half of it empty."""
SHARED = 64
"""How many operations share a commit at most."""


class FileReplaced(DatabaseUnusable, SQLAlchemyError):
    """The file at the path is not the one that was opened. It may come back, like a server that is down."""


@dataclass(slots=True)
class _Waiting:
    operation: Operation[Any]
    done: asyncio.Future[Any]

    def succeed(self, value: Any) -> None:
        if not self.done.done():  # nobody may be waiting any more
            self.done.set_result(value)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class SqliteDatabase(Database):
    """A file in WAL mode. With `synchronous=FULL` what was committed survives a power cut."""

    dialect = "sqlite"

    def __init__(self, path: Path, synchronous: Synchronous = "FULL") -> None:
        self.path = path
        self.where = str(path)
        self._synchronous: Synchronous = synchronous
        self._writer = self._engine("BEGIN IMMEDIATE", pool_size=1)
        self._reader = self._engine("BEGIN", pool_size=READERS)
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._readers = Readers()
        self._closed = False
        self._file: tuple[tuple[int, int], ...] | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path, synchronous: Synchronous = "FULL") -> AsyncIterator[Self]:
        """Open the file and make or check its schema.

        Raises DatabaseUnusable, also in place of what ends the block when the file turns out to be damaged.
        """
        database = cls(path, synchronous)
        writing = asyncio.create_task(database._write_for_ever())
        try:
            await database._prepare()
            yield database
        except DBAPIError as error:
            if not is_damage(error):
                raise
            raise database._unusable(error) from error
        finally:
            database._closed = True
            database._queue.put_nowait(None)  # what was asked for before is still written
            await writing
            await database._readers.gone()
            await database._writer.dispose()
            await database._reader.dispose()

    async def write(self, operation: Operation[T]) -> T:
        if self._closed:
            raise DatabaseUnusable(f"{self.path} was closed: the service is shutting down.")
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        result: T = await waiting.done
        return result

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        self._check_file()
        with self._readers.another():
            try:
                async with self._reader.connect() as connection:
                    yield connection
            except DBAPIError as error:
                self._note_damage(error)
                raise

    def refused(self, error: Exception) -> None:
        super().refused(error)
        self._note_damage(error)

    def _note_damage(self, error: Exception) -> None:
        if isinstance(error, DBAPIError) and is_damage(error):
            self.damage = diagnose(error)

    async def time(self, connection: AsyncConnection) -> float:
        return time.time()

    async def compact(self) -> None:
        self._check_file()
        outside = self._engine(None, pool_size=1)  # VACUUM does not run within a transaction
        try:
            async with self._turn, outside.connect() as connection:
                await connection.exec_driver_sql("VACUUM")
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            await outside.dispose()

    async def _prepare(self) -> None:
        try:
            await asyncio.to_thread(self._make_file)
            await self.write(lambda connection: schema.prepare(connection, str(self.path)))
        except (sqlite3.Error, DBAPIError) as error:
            raise self._unusable(error) from error
        self._file = self._identity()

    def _unusable(self, error: sqlite3.Error | DBAPIError) -> DatabaseUnusable:
        reason = getattr(error, "orig", error)
        return DatabaseUnusable(f"{self.path} cannot be used as the database: {reason}")

    def _make_file(self) -> None:
        """See that the file is there, and is one of SQLite's; without aiosqlite, whose thread outlives a
        connection that cannot be opened, and then complains when the program ends."""
        with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
            if not connection.execute("PRAGMA schema_version").fetchone()[0]:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA journal_mode = WAL")  # from now on the size is fixed

    async def _write_for_ever(self) -> None:
        while (first := await self._queue.get()) is not None:
            batch, closing = [first], False
            while len(batch) < SHARED and not self._queue.empty() and not closing:
                following = self._queue.get_nowait()
                if following is None:
                    closing = True
                else:
                    batch.append(following)
            async with self._turn:
                await self._perform(batch)
            if closing:
                return

    async def _perform(self, batch: list[_Waiting]) -> None:
        """Perform what waits, in one transaction if all goes well."""
        try:
            self._check_file()
            if len(batch) > 1 and await self._perform_together(batch):
                return
        except Exception as error:  # noqa: BLE001 - it could not even begin; the writer must go on
            self.refused(error)
            for each in batch:
                each.fail(error)
            return
        for each in batch:
            await self._perform_alone(each)

    async def _perform_alone(self, each: _Waiting) -> None:
        try:
            async with self._writer.begin() as connection:
                value = await each.operation(connection)
        except Exception as error:  # noqa: BLE001 - the waiter's to judge; the writer goes on
            self.refused(error)
            each.fail(error)
        else:
            self.wrote()
            each.succeed(value)

    async def _perform_together(self, batch: list[_Waiting]) -> bool:
        """Whether one transaction took them all; if not, nothing is written and nobody was told anything.

        A savepoint for each would cost as much as the transaction does; so if one of them fails, all are
        performed again, alone. Raises SQLAlchemyError when the transaction cannot begin.
        """
        async with self._writer.connect() as connection:
            await connection.begin()
            try:
                results = [await each.operation(connection) for each in batch]
                await connection.commit()
            except Exception:  # noqa: BLE001 - its own waiter will hear of it
                return False
        self.wrote()
        for each, value in zip(batch, results, strict=True):
            each.succeed(value)
        return True

    def _check_file(self) -> None:
        """Raises FileReplaced when rows would go to a file that nobody will ever open again."""
        if self._file is not None and self._identity() != self._file:
            raise FileReplaced(
                f"{self.path} was moved, deleted or replaced while it is in use. "
                "Put it back, or restart the service to begin with what is there now."
            )

    def _identity(self) -> tuple[tuple[int, int], ...] | None:
        """Which files these are: the database, and its log, which holds what was written last."""
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            return tuple((found.st_dev, found.st_ino) for found in (self.path.stat(), log.stat()))
        except OSError:
            return None

    def _engine(self, begin: str | None, *, pool_size: int) -> AsyncEngine:
        """Connections that begin their transactions so; they never make a file."""
        name = f"file:{quote(os.fsencode(self.path.absolute()))}?mode=rw"

        def connect() -> OneTripConnection:
            return OneTripConnection(lambda: sqlite3.connect(name, uri=True, check_same_thread=False))

        engine = create_async_engine(
            "sqlite+aiosqlite://",
            poolclass=AsyncAdaptedQueuePool,
            async_creator=connect,  # awaited, it is connected
            pool_size=pool_size,
            max_overflow=0,
            hide_parameters=True,  # what people write does not belong into a log
        )

        @event.listens_for(engine.sync_engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            connection.driver_connection.text_factory = as_text
            connection.isolation_level = None  # the driver shall not begin transactions; SQLAlchemy does
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {self._synchronous}")
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.close()

        if begin is not None:

            @event.listens_for(engine.sync_engine, "begin")
            def began(connection: Any) -> None:
                connection.exec_driver_sql(begin)

        return engine
