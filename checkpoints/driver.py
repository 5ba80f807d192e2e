"""Rows as the driver gives them, for readings that are long.

SQLAlchemy goes to SQLite's thread and back several times for a statement and wraps each row; of PostgreSQL
it asks for text, in which bytes are twice as long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection


async def fetch(
    connection: AsyncConnection, statement: str, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """All rows of a statement with `:named` parameters, within the connection's transaction.

    Raises DBAPIError, as SQLAlchemy does.
    """
    if not connection.in_transaction():
        await connection.begin()
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    try:
        if connection.dialect.name == "sqlite":
            return list(await driver.execute_fetchall(statement, parameters))
        cursor = await driver.execute(_for_psycopg(statement), parameters, binary=True)
        return list(await cursor.fetchall())
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError.instance(
            statement, None, error, connection.dialect.loaded_dbapi.Error, dialect=connection.dialect
        ) from error


@lru_cache
def _for_psycopg(statement: str) -> str:
    return re.sub(r":(\w+)", r"%(\1)s", statement)
