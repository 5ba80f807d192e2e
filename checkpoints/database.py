"""A database as the stores see it: operations that write, each whole or not at all, and consistent readings.

`SQLite` is one file of one machine (`checkpoints.sqlite`), PostgreSQL is shared by several processes
(`checkpoints.postgresql`).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Any, Literal, TypeVar

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.diagnosis import passes

T = TypeVar("T")
Operation = Callable[[AsyncConnection], Awaitable[T]]
Synchronous = Literal["FULL", "NORMAL"]
"""SQLite's pragma of that name."""


class Database(ABC):
    """Where rows are kept. What was written is on disk: it survives a power cut."""

    dialect: str
    """`sqlite` or `postgresql`."""
    where: str
    """The place, for people; no password is in it."""
    refusal: Exception | None = None
    """Why a write was refused that may succeed later; None as soon as any did."""
    damage: str | None = None
    """What to do about damage that an operation met, in a sentence: other rows may be whole, but it stays."""

    @abstractmethod
    async def write(self, operation: Operation[T]) -> T:
        """Perform the operation in a transaction; its result once that is committed.

        The operation may be performed again after a failure that was not its own, so it must touch nothing
        but the connection. Whoever stops waiting does not stop it. Raises what it raises, then nothing
        is written; and SQLAlchemyError when the database does not take it.
        """

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that only reads, on one snapshot. Raises SQLAlchemyError when there is no reading."""

    @abstractmethod
    async def time(self, connection: AsyncConnection) -> float:
        """Seconds since 1970 by the clock that all processes on this database share."""

    def wrote(self) -> None:
        """A write succeeded."""
        self.refusal = None

    def refused(self, error: Exception) -> None:
        """A write did not succeed; what is the matter with that write alone is not kept in mind."""
        if passes(error):
            self.refusal = error

    @abstractmethod
    async def compact(self) -> None:
        """Give the space of deleted rows back, if the database does not do so by itself."""


class Readers:
    """Who reads at the moment: a connection that comes back after its pool was closed is never closed."""

    PATIENCE = 5.0
    """Seconds that a database waits for them when it is closed; they read a few rows each."""

    def __init__(self) -> None:
        self._count = 0
        self._nobody = asyncio.Event()
        self._nobody.set()

    @contextmanager
    def another(self) -> Iterator[None]:
        """One more, until the block ends."""
        self._count += 1
        self._nobody.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._nobody.set()

    async def gone(self) -> None:
        """Wait until nobody reads, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.PATIENCE):
                await self._nobody.wait()


class Upsert:
    """Insert statements of one table that mind rows which are there; built once, for each database."""

    def __init__(self, table: Table, *, replace: bool = False) -> None:
        """`replace`: a row of the same key is replaced; else it stays as it is."""
        key = list(table.primary_key)
        self._statements: dict[str, Any] = {}
        for dialect in (sqlite, postgresql):
            statement = dialect.insert(table)
            rest = {c.name: statement.excluded[c.name] for c in table.c if c not in key}
            statement = (
                statement.on_conflict_do_update(index_elements=key, set_=rest)
                if replace
                else statement.on_conflict_do_nothing()
            )
            # The count tells whether the row is new; of inserts SQLAlchemy keeps it only when told to.
            counted = statement.execution_options(preserve_rowcount=True)
            self._statements[dialect.dialect.name] = counted

    def on(self, connection: AsyncConnection) -> Any:
        """The statement for that connection's database."""
        return self._statements[connection.dialect.name]
