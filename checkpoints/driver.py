"""Rows as the driver gives them, for readings that are long.

SQLAlchemy goes to SQLite's thread and back several times for a statement and wraps each row; of PostgreSQL
it asks for text, in which bytes are twice as long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

Rows = list[tuple[Any, ...]]


async def fetch(connection: AsyncConnection, statement: str, parameters: Mapping[str, Any]) -> Rows:
    """All rows of a statement with `:named` parameters, within the connection's transaction.

    Raises DBAPIError, as SQLAlchemy does.
    """
    (rows,) = await fetch_each(connection, statement, [parameters], lambda rows: rows)
    return rows


async def fetch_each(
    connection: AsyncConnection,
    statement: str,
    asked: Iterable[Mapping[str, Any]],
    take: Callable[[Rows], T],
) -> list[T]:
    """What `take` makes of the rows for each of these parameters, before the next are asked for.

    On SQLite all in one trip to the connection's thread, in which `take` runs too: what was read is used
    while it is at hand, and its memory serves again. Raises what `take` raises, and DBAPIError.
    """
    if not connection.in_transaction():
        await connection.begin()
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    taken: list[T] = []
    try:
        if connection.dialect.name == "sqlite":
            taken += await driver.perform(
                lambda sqlite: [take(sqlite.execute(statement, each).fetchall()) for each in asked]
            )
            return taken
        for each in asked:
            cursor = await driver.execute(_for_psycopg(statement), each, binary=True)
            taken.append(take(await cursor.fetchall()))
        return taken
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError.instance(
            statement, None, error, connection.dialect.loaded_dbapi.Error, dialect=connection.dialect
        ) from error


@lru_cache
def _for_psycopg(statement: str) -> str:
    return re.sub(r":(\w+)", r"%(\1)s", statement)
