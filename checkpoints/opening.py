"""Opening the database, whichever it is."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from checkpoints.database import Database, Synchronous


def open_database(
    where: Path | str, *, synchronous: Synchronous = "FULL"
) -> AbstractAsyncContextManager[Database]:
    """Open a SQLite file or a `postgresql+psycopg://` URL, and make or check its schema.

    `synchronous` is for SQLite: with `NORMAL` it is quicker, and a power cut may take the last commits with
    it. Raises DatabaseUnusable.
    """
    if isinstance(where, Path):
        from checkpoints.sqlite import SqliteDatabase

        return SqliteDatabase.opened(where, synchronous)
    from checkpoints.postgresql import PostgresDatabase  # an extra: its driver need not be installed

    return PostgresDatabase.opened(where)
