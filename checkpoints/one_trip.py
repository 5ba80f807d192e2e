"""aiosqlite with one trip to its thread for each statement.

It takes one to make a cursor, one to execute, one to fetch and one to close. SQLAlchemy asks for all rows at
once anyhow, so all of that is done in one: a step of an agent made some fifty trips, and each of them waits
for a thread to wake.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import aiosqlite

T = TypeVar("T")


class OneTripCursor:
    """Stands in for `aiosqlite.Cursor` as far as SQLAlchemy uses it."""

    arraysize = 1

    def __init__(self, connection: OneTripConnection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> OneTripCursor:
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> OneTripCursor:
        """Execute, and take all rows."""
        return await self._do(lambda cursor: cursor.execute(statement, parameters))

    async def executemany(self, statement: str, parameters: Sequence[Any]) -> OneTripCursor:
        """Execute for each of these."""
        return await self._do(lambda cursor: cursor.executemany(statement, parameters))

    async def fetchall(self) -> list[Any]:
        """The rows that came."""
        return self._rows

    async def close(self) -> None:
        """Nothing is open any more."""

    async def _do(self, perform: Callable[[sqlite3.Cursor], Any]) -> OneTripCursor:
        def work(connection: sqlite3.Connection) -> tuple[Any, int, int | None, list[Any]]:
            cursor = connection.cursor()
            try:
                perform(cursor)
                rows = cursor.fetchall() if cursor.description else []
                return cursor.description, cursor.rowcount, cursor.lastrowid, rows
            finally:
                cursor.close()

        self.description, self.rowcount, self.lastrowid, self._rows = await self._connection.perform(work)
        return self


class OneTripConnection(aiosqlite.Connection):
    """A connection with such cursors. Its thread does not keep the program from ending."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connect, iter_chunk_size=64)
        self._thread.daemon = True

    def cursor(self) -> Any:
        return OneTripCursor(self)

    async def perform(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` gives; it runs in the connection's thread. Raises what it raises."""
        result: T = await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]
        return result
