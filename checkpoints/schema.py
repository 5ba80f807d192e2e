"""The version of the tables in a database: made at once where there are none, brought up to date where they
are older, left alone where they are newer.

Alembic does the steps. Nothing of it is imported while the version is the one known here.
"""

from __future__ import annotations

from sqlalchemy import Column, MetaData, String, Table, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints import graph_tables
from checkpoints.errors import DatabaseUnusable
from checkpoints.tables import metadata

VERSION = 6
"""Of the tables as `checkpoints.tables` and `checkpoints.graph_tables` describe them."""
FIRST_OF_ALEMBIC = 3
"""Earlier ones are only found in SQLite files, which kept their version themselves."""
_ONE_AT_A_TIME = 0x61676E74
"""Key of the advisory lock under which one process at a time looks after a PostgreSQL schema."""

alembic_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
"""Alembic's own table; the versions are numbers with leading zeros."""


async def prepare(connection: AsyncConnection, where: str) -> None:
    """See to it that the tables are there, as they are described here. Raises DatabaseUnusable."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
    await connection.run_sync(_prepare, where)


def name(version: int) -> str:
    """How Alembic knows the version."""
    return f"{version:04}"


def _prepare(connection: Connection, where: str) -> None:
    found = _version(connection, where)
    if found == VERSION:
        return
    if found > VERSION:
        raise DatabaseUnusable(
            f"{where} was written by a newer version of agent-service (schema {found}, "
            f"known here: {VERSION}). Upgrade agent-service, or use another database."
        )
    if found:
        from checkpoints.migrations.steps import upgrade

        upgrade(connection, unmarked=name(found) if found < FIRST_OF_ALEMBIC else None)
    else:
        _make(connection, where)
    if connection.dialect.name == "sqlite":  # programs older than Alembic's part look here, and shall refuse
        connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")


def _make(connection: Connection, where: str) -> None:
    described = (metadata, graph_tables.metadata)
    ours = {table for tables in described for table in tables.tables}
    if foreign := sorted(ours.intersection(inspect(connection).get_table_names())):
        raise _of_another_program(where, f"tables named {', '.join(foreign)}")
    for tables in described:
        tables.create_all(connection)
    alembic_version.create(connection)
    connection.execute(alembic_version.insert().values(version_num=name(VERSION)))


def _version(connection: Connection, where: str) -> int:
    """The version of the tables; 0 = there are none."""
    if inspect(connection).has_table(alembic_version.name):
        found = connection.execute(select(alembic_version.c.version_num)).scalars().all()
        if len(found) != 1 or not found[0].isdecimal():
            raise _of_another_program(where, f"Alembic's version {', '.join(found) or 'table'}")
        return int(found[0])
    if connection.dialect.name != "sqlite":
        return 0
    number = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if FIRST_OF_ALEMBIC <= number <= VERSION:
        raise _of_another_program(where, f"tables with the number {number}")
    return number


def _of_another_program(where: str, what: str) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"{where} holds {what} of another program. Give agent-service a database of its own."
    )
