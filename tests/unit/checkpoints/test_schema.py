"""Versions of the tables: earlier ones are brought up to date whole or not at all, newer ones left alone."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import Connection, MetaData, inspect, text
from sqlalchemy.types import Float, String, TypeEngine

from checkpoints import graph_tables, schema
from checkpoints.errors import DatabaseUnusable
from checkpoints.opening import open_database
from checkpoints.tables import metadata
from tests.databases import Place, PostgresqlServer
from tests.unit.checkpoints.savers import Saver, at

ROOT = Path(__file__).parents[3]
SCHEMAS = Path(__file__).parent / "schemas"
EARLIER = range(1, schema.VERSION)


def of_version(number: int, file: Path) -> Path:
    """A SQLite file as that version left it."""
    connection = sqlite3.connect(file)
    connection.executescript((SCHEMAS / f"version_{number}.sql").read_text())
    connection.close()
    return file


def opened(place: Place) -> None:
    """Open the database and close it again."""

    async def run() -> None:
        async with open_database(place):
            pass

    asyncio.run(run())


def looked_at(place: Place, look: Any) -> Any:
    """What a function of a connection says."""

    async def run() -> Any:
        async with open_database(place) as database, database.read() as connection:
            return await connection.run_sync(look)

    return asyncio.run(run())


def dump(file: Path) -> list[str]:
    """All of a SQLite file, its version too, as SQL."""
    connection = sqlite3.connect(file)
    number = connection.execute("PRAGMA user_version").fetchone()
    lines = [f"version {number}", *connection.iterdump()]
    connection.close()
    return lines


def rows(file: Path, table: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
    connection.close()
    return found


def tables_of(file: Path) -> set[str]:
    """The names of our tables in a SQLite file."""
    connection = sqlite3.connect(file)
    found = {
        str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    connection.close()
    return found - {"alembic_version"}


def kind(each: TypeEngine[Any]) -> str:
    """What SQLite tells apart: it has one type for all numbers with a point, and one for all texts."""
    return "text" if isinstance(each, String) else "real" if isinstance(each, Float) else repr(each)


def shape(connection: Connection) -> dict[str, Any]:
    """Columns, keys and indexes of every table."""
    found = inspect(connection)
    return {
        table: {
            "columns": {
                column["name"]: (kind(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            },
            "key": found.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": found.get_foreign_keys(table),
            "indexes": sorted(
                (
                    index["name"],
                    index["column_names"],
                    index["unique"],
                    str(*index["dialect_options"].values()),
                )
                for index in found.get_indexes(table)
            ),
            "unique": found.get_unique_constraints(table),
            "options": found.get_table_options(table),
        }
        for table in found.get_table_names()
    }


def differences(connection: Connection) -> Any:
    """What Alembic would change to get the tables that are described."""
    described: list[MetaData] = [metadata, graph_tables.metadata]

    def differ(_c: Any, _i: Any, _m: Any, stored: TypeEngine[Any], wanted: TypeEngine[Any]) -> bool | None:
        return False if connection.dialect.name == "sqlite" and kind(stored) == kind(wanted) else None

    context = MigrationContext.configure(connection, opts={"compare_type": differ})
    return compare_metadata(context, described)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", EARLIER)
def test_an_upgraded_database_is_like_a_new_one(number: int, tmp_path: Path) -> None:
    old, new = of_version(number, tmp_path / "old.db"), tmp_path / "new.db"
    assert looked_at(old, shape) == looked_at(new, shape)
    assert looked_at(old, differences) == []
    assert dump(old)[0] == dump(new)[0] == f"version ({schema.VERSION},)"


def test_a_new_database_is_as_described(place: Place) -> None:
    assert looked_at(place, differences) == []


def test_the_steps_end_at_the_version_that_is_known() -> None:
    steps = sorted(path.stem for path in (ROOT / "checkpoints/migrations/versions").glob("v*.py"))
    assert steps == [f"v{schema.name(number)}" for number in range(1, schema.VERSION + 1)]
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {"checkpoints.migrations", "checkpoints.migrations.versions"} <= {*packages}


def test_rows_of_version_2_survive(tmp_path: Path) -> None:
    file = of_version(2, tmp_path / "state.db")
    tables = (*metadata.tables, *graph_tables.metadata.tables)
    before = {table: rows(file, table) for table in tables if table in tables_of(file)}
    assert all(before.values()), "every table has rows"
    opened(file)
    for table, old in before.items():
        assert [{name: new[name] for name in old[0]} for new in rows(file, table)] == old
    assert [row["instruction"] for row in rows(file, "runs")] == ["say done", "write the name"]
    for thread in rows(file, "threads"):
        added = (thread["lease_until"], thread["cancel_requested"], thread["last_event"])
        assert added == (None, 0, 0)


@pytest.mark.parametrize("number", [3, 4, 5])
def test_rows_of_later_versions_survive(number: int, tmp_path: Path) -> None:
    file = of_version(number, tmp_path / "state.db")
    before = {table: rows(file, table) for table in tables_of(file)}
    assert all(before[table] for table in tables_of(of_version(3, tmp_path / "3.db"))), "tables have rows"
    opened(file)
    assert {table: rows(file, table) for table in before} == before
    assert all(rows(file, table) == [] for table in tables_of(file) - before.keys())


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_conversations_of_earlier_versions_are_read(number: int, tmp_path: Path) -> None:
    async def run() -> None:
        async with open_database(of_version(number, tmp_path / "state.db")) as database:
            saver = Saver(database)
            messages = await saver.value(at("thread-done"), "messages")
            assert [type(each) for each in messages] == [HumanMessage, AIMessage]
            assert await saver.pending(at("thread-waiting"))

    asyncio.run(run())


@pytest.mark.parametrize("number", [3, 4, 5])
def test_an_earlier_postgresql_database_is_brought_up_to_date(
    number: int, postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    import psycopg

    url = postgresql.empty_database()
    stored = text("SELECT reloptions FROM pg_class WHERE relname = 'items'")
    try:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            for statement in statements(of_version(number, tmp_path / "earlier.db")):
                connection.execute(statement.encode())
            if number >= 5:
                connection.execute(graph_tables.WHOLE_ROWS.encode())
            connection.execute(f"INSERT INTO alembic_version VALUES ('{schema.name(number)}')".encode())
        assert looked_at(url, differences) == []
        whole_rows = looked_at(url, lambda connection: connection.execute(stored).scalar_one())
        assert [
            f"SET ({option})" in graph_tables.WHOLE_ROWS.replace(" = ", "=") for option in whole_rows
        ] == [True]
    finally:
        postgresql.drop(url)


def statements(file: Path) -> list[str]:
    """How PostgreSQL says what made the tables of a SQLite file."""
    connection = sqlite3.connect(file)
    wanted = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name = 'threads' DESC"
    found = [str(sql) for (sql,) in connection.execute(wanted)]
    connection.close()
    words = {
        "WITHOUT ROWID": "",
        "BLOB": "BYTEA",
        "FLOAT": "DOUBLE PRECISION",
        "seq INTEGER NOT NULL, \n\tthread_id": "seq SERIAL NOT NULL, \n\tthread_id",
        "BOOLEAN DEFAULT 0": "BOOLEAN DEFAULT false",
    }
    for old, new in words.items():
        found = [sql.replace(old, new) for sql in found]
    return [re.sub(r"DOUBLE(?! PRECISION)", "DOUBLE PRECISION", sql) for sql in found]


def test_of_version_1_all_but_the_conversations_survives(tmp_path: Path) -> None:
    file = of_version(1, tmp_path / "state.db")
    before = {table: rows(file, table) for table in ("runs", "blobs", "effects")}
    opened(file)
    for table, old in before.items():
        assert [{name: new[name] for name in old[0]} for new in rows(file, table)] == old
    threads = {
        row["thread_id"]: (row["status"], row["holder"], row["fence"]) for row in rows(file, "threads")
    }
    assert threads == {
        "thread-done": ("idle", None, 1),
        "thread-waiting": ("idle", None, 2),
        "thread-held": ("idle", None, 5),
    }
    assert [row["status"] for row in rows(file, "questions")] == ["cancelled"]
    assert [row["key"] for row in rows(file, "idempotency")] == ["k1"], "the other one had no response"
    assert [row["instruction"] for row in rows(file, "runs")] == ["say done", "write the name", "hi"]
    assert all(rows(file, table.name) == [] for table in graph_tables.GRAPH_TABLES)


@pytest.mark.parametrize(
    ("number", "obstacle"),
    [
        *((number, "CREATE TABLE provider_accounts (x)") for number in (1, 2, 3)),
        *((number, "CREATE TABLE events (x)") for number in (1, 2)),
        *((number, "CREATE INDEX idempotency_by_run ON runs (kind)") for number in (1, 2)),
    ],
)
def test_an_upgrade_that_fails_half_way_leaves_all_as_it_was(
    number: int, obstacle: str, tmp_path: Path
) -> None:
    file = of_version(number, tmp_path / "state.db")
    connection = sqlite3.connect(file)
    connection.execute(obstacle)
    connection.close()
    before = dump(file)
    with pytest.raises(DatabaseUnusable, match="already exists"):
        opened(file)
    assert dump(file) == before


def test_two_that_open_an_old_database_at_once_upgrade_it_once(tmp_path: Path) -> None:
    file = of_version(2, tmp_path / "state.db")
    code = "import sys; from tests.unit.checkpoints.test_schema import *; opened(Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(file)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(each.communicate(timeout=60)[1], each.returncode) for each in both] == [("", 0)] * 2
    assert looked_at(file, differences) == []


def make_newer(place: Place) -> None:
    """The database is of a later version from now on."""

    async def run() -> None:
        async with open_database(place) as database:
            newer = text("UPDATE alembic_version SET version_num = '0099'")
            await database.write(lambda connection: connection.execute(newer))

    asyncio.run(run())


def test_a_newer_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    make_newer(file)
    before = file.read_bytes()
    with pytest.raises(DatabaseUnusable, match=r"newer version .*schema 99, known here: \d+.*Upgrade"):
        opened(file)
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["state.db"]


def test_a_newer_postgresql_database_is_refused_and_not_touched(
    postgresql: PostgresqlServer, postgresql_url: str
) -> None:
    make_newer(postgresql_url)
    before = everything(postgresql, postgresql_url)
    with pytest.raises(DatabaseUnusable, match=r"newer version .*schema 99"):
        opened(postgresql_url)
    assert everything(postgresql, postgresql_url) == before


def everything(server: PostgresqlServer, url: str) -> list[Any]:
    """Tables and their columns, and the version, in a PostgreSQL database."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        columns = (
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY 1, 2"
        )
        versions = connection.execute("SELECT * FROM alembic_version").fetchall()
        return [*connection.execute(columns).fetchall(), *versions]


@pytest.mark.parametrize(
    ("foreign", "what"),
    [
        ("CREATE TABLE threads (id INTEGER)", "tables named threads"),
        ("CREATE TABLE alembic_version (version_num TEXT)", "Alembic's version table"),
        (
            "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('ae10')",
            "Alembic's version ae10",
        ),
        ("PRAGMA user_version = 3", "tables with the number 3"),
    ],
)
def test_a_database_of_another_program_is_refused_and_not_touched(
    foreign: str, what: str, tmp_path: Path
) -> None:
    file = tmp_path / "state.db"
    connection = sqlite3.connect(file)
    connection.executescript(foreign)
    connection.close()
    before = dump(file)
    with pytest.raises(DatabaseUnusable, match=f"holds {what} of another program"):
        opened(file)
    assert dump(file) == before


def test_an_empty_postgresql_database_gets_its_tables(postgresql: PostgresqlServer) -> None:
    url = postgresql.empty_database()
    try:
        assert looked_at(url, differences) == []
    finally:
        postgresql.drop(url)


def test_alembic_is_not_imported_for_a_database_that_is_new_or_current(place: Place) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from checkpoints.opening import open_database\n"
        "async def run(where):\n"
        "    async with open_database(where if '://' in where else Path(where)): pass\n"
        "for _ in range(2): asyncio.run(run(sys.argv[1]))\n"
        "assert 'sqlalchemy' in sys.modules and 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(place)], check=True, cwd=ROOT, timeout=60)
