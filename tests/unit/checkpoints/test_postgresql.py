"""PostgreSQL as a server that others use too: repeats, lost connections, outages, wrong URLs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.diagnosis import diagnose
from checkpoints.errors import DatabaseUnusable
from checkpoints.opening import open_database
from checkpoints.stores import Stores
from tests.databases import PostgresqlServer
from tests.unit.checkpoints.rows import MANY, begin, new_run, try_begin, with_stores

COUNT = text("SELECT count FROM counters WHERE name = :name")
RAISE = text("UPDATE counters SET count = :count WHERE name = :name")


def with_counters(url: str, scenario: Callable[[Database], Awaitable[None]]) -> None:
    """Play a scenario on a database with two counters, a and b, at 0."""

    async def run() -> None:
        async with open_database(url) as database:
            await execute(
                database,
                "CREATE TABLE counters (name TEXT PRIMARY KEY, count INTEGER)",
                "INSERT INTO counters VALUES ('a', 0), ('b', 0)",
            )
            await scenario(database)

    asyncio.run(run())


async def execute(database: Database, *statements: str) -> None:
    async def operation(connection: AsyncConnection) -> None:
        for statement in statements:
            await connection.execute(text(statement))

    await database.write(operation)


async def count(database: Database, name: str) -> int:
    async with database.read() as connection:
        return int((await connection.execute(COUNT, {"name": name})).scalar_one())


async def raise_by_one(connection: AsyncConnection, name: str) -> None:
    """Read, then write: what happens in between is lost unless the database minds it."""
    found = (await connection.execute(COUNT, {"name": name})).scalar_one()
    await connection.execute(RAISE, {"name": name, "count": found + 1})


def end_connections(server: PostgresqlServer, url: str) -> None:
    """End all connections to a database, as an administrator may."""
    name = make_url(url).database
    server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


def test_a_deadlock_is_tried_again(postgresql_url: str) -> None:
    async def scenario(database: Database) -> None:
        attempts = 0
        both_hold_one = asyncio.Barrier(2)

        async def raising(connection: AsyncConnection, first: str, second: str) -> None:
            nonlocal attempts
            attempts += 1
            await connection.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
            await raise_by_one(connection, first)
            if attempts <= 2:
                await both_hold_one.wait()
            await raise_by_one(connection, second)

        await asyncio.gather(
            database.write(lambda connection: raising(connection, "a", "b")),
            database.write(lambda connection: raising(connection, "b", "a")),
        )
        assert attempts == 3
        assert (await count(database, "a"), await count(database, "b")) == (2, 2)

    with_counters(postgresql_url, scenario)


def test_a_serialisation_failure_is_tried_again(postgresql_url: str) -> None:
    async def scenario(database: Database) -> None:
        attempts = 0
        both_have_read = asyncio.Barrier(2)

        async def raising(connection: AsyncConnection) -> None:
            nonlocal attempts
            attempts += 1
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
            await connection.execute(COUNT, {"name": "a"})
            if attempts <= 2:
                await both_have_read.wait()
            await raise_by_one(connection, "a")

        await asyncio.gather(database.write(raising), database.write(raising))
        assert (attempts, await count(database, "a")) == (3, 2)

    with_counters(postgresql_url, scenario)


def test_what_is_never_taken_is_given_up(postgresql_url: str) -> None:
    async def scenario(database: Database) -> None:
        attempts = 0

        async def refused(connection: AsyncConnection) -> None:
            nonlocal attempts
            attempts += 1
            await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"))

        with pytest.raises(DBAPIError) as caught:
            await database.write(refused)
        assert 1 < attempts < 10
        assert "again and again" in diagnose(caught.value)

    with_counters(postgresql_url, scenario)


def test_a_reading_sees_one_moment_and_cannot_write(postgresql_url: str) -> None:
    async def scenario(database: Database) -> None:
        async with database.read() as connection:
            assert (await connection.execute(COUNT, {"name": "a"})).scalar_one() == 0
            await execute(database, "UPDATE counters SET count = 1")
            assert (await connection.execute(COUNT, {"name": "a"})).scalar_one() == 0
            with pytest.raises(DBAPIError, match="read-only"):
                await connection.execute(RAISE, {"name": "a", "count": 9})
        assert await count(database, "a") == 1
        await execute(database, "UPDATE counters SET count = 2")  # the connection writes again

    with_counters(postgresql_url, scenario)


def test_a_connection_that_was_ended_is_replaced(postgresql: PostgresqlServer, postgresql_url: str) -> None:
    async def scenario(stores: Stores) -> None:
        await begin(stores)
        for number in range(3):
            end_connections(postgresql, postgresql_url)
            await begin(stores, f"again{number}", f"t{number}")
            end_connections(postgresql, postgresql_url)
            assert (await stores.threads.get("p", f"t{number}")).status == "running"

    with_stores(postgresql_url, scenario)


def test_a_connection_that_ends_in_a_transaction_takes_it_along(postgresql_url: str) -> None:
    async def scenario(database: Database) -> None:
        with pytest.raises(OperationalError) as caught:
            await execute(
                database, "UPDATE counters SET count = 9", "SELECT pg_terminate_backend(pg_backend_pid())"
            )
        assert "try again" in diagnose(caught.value)
        assert await count(database, "a") == 0
        await execute(database, "UPDATE counters SET count = 1")
        assert await count(database, "a") == 1

    with_counters(postgresql_url, scenario)


def test_an_outage_of_the_server(postgresql: PostgresqlServer, postgresql_url: str) -> None:
    async def scenario(stores: Stores) -> None:
        await begin(stores)
        with postgresql.stopped():
            for attempt in (begin(stores, "r2", "t2"), stores.threads.get("p", "t")):
                with pytest.raises(OperationalError) as caught:
                    await attempt
                assert "server cannot be reached" in diagnose(caught.value)
        await begin(stores, "r2", "t2")
        assert {each.thread_id for each in await stores.threads.list("p")} == {"t", "t2"}

    with_stores(postgresql_url, scenario)


def test_whoever_stops_waiting_does_not_stop_the_operation(postgresql_url: str) -> None:
    async def scenario(database: Database) -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def operation(connection: AsyncConnection) -> None:
            begun.set()
            await go_on.wait()
            await raise_by_one(connection, "a")

        writing = asyncio.create_task(database.write(operation))
        await begun.wait()
        writing.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        async with asyncio.timeout(10):
            while await count(database, "a") == 0:  # noqa: ASYNC110 - a row changes
                await asyncio.sleep(0.01)

    with_counters(postgresql_url, scenario)


def test_closing_waits_for_what_was_asked_for(postgresql_url: str) -> None:
    async def scenario() -> None:
        async with open_database(postgresql_url) as database:
            stores = Stores.on(database)
            tasks = [asyncio.create_task(begin(stores, f"r{n}", f"t{n}")) for n in range(MANY)]
            await asyncio.sleep(0)
        assert len(await asyncio.gather(*tasks)) == MANY
        with pytest.raises(DatabaseUnusable, match="was closed"):
            await begin(stores, "late", "late")

    asyncio.run(scenario())


def test_more_at_once_than_there_are_connections(postgresql_url: str) -> None:
    async def scenario(stores: Stores) -> None:
        runs = await asyncio.gather(*(begin(stores, f"r{n}", f"t{n}") for n in range(100)))
        assert len(runs) == 100

    with_stores(postgresql_url, scenario)


def test_replicas_make_the_tables_once(postgresql: PostgresqlServer) -> None:
    url = postgresql.empty_database()

    async def replica(number: int) -> None:
        async with open_database(url) as database:
            await begin(Stores.on(database), f"r{number}", f"t{number}")

    async def scenario() -> None:
        await asyncio.gather(*(replica(number) for number in range(6)))
        async with open_database(url) as database:
            assert len(await Stores.on(database).threads.list("p")) == 6

    asyncio.run(scenario())
    postgresql.drop(url)


def test_two_replicas_share_one_clock_and_every_thread(postgresql_url: str) -> None:
    async def scenario() -> None:
        async with open_database(postgresql_url) as one, open_database(postgresql_url) as other:
            stores = Stores.on(one), Stores.on(other)
            tries = [try_begin(stores[n % 2], new_run(f"r{n}")) for n in range(MANY)]
            results = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(not isinstance(each, BaseException) for each in results) == 1
            async with other.read() as connection:
                assert abs(await other.time(connection) - time.time()) < 60

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "is not the URL of a database"),
        ("postgresql+psycopg://me:secret@127.0.0.1:port/name", "is not the URL of a database"),
        ("mysql+aiomysql://me:secret@127.0.0.1/name", "mysql\\+aiomysql is not PostgreSQL"),
        ("sqlite+aiosqlite:///state.db", "sqlite\\+aiosqlite is not PostgreSQL"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/name", "Connection refused"),
        ("postgresql+psycopg://me:secret@/name?host=/nowhere", "No such file or directory"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, reason: str) -> None:
    with pytest.raises(DatabaseUnusable, match=reason) as caught:
        with_stores(url, lambda _: asyncio.sleep(0))
    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_there(postgresql: PostgresqlServer) -> None:
    with pytest.raises(DatabaseUnusable, match='database "nowhere" does not exist') as caught:
        with_stores(postgresql.url("nowhere"), lambda _: asyncio.sleep(0))
    assert "\n" not in str(caught.value)


def test_a_user_who_may_not_make_tables(postgresql: PostgresqlServer) -> None:
    url = postgresql.empty_database()
    postgresql.run("CREATE ROLE visitor LOGIN")
    try:
        as_visitor = make_url(url).set(username="visitor", password=None)
        with pytest.raises(DatabaseUnusable, match="permission denied for schema public"):
            with_stores(as_visitor.render_as_string(), lambda _: asyncio.sleep(0))
    finally:
        postgresql.drop(url)
        postgresql.run("DROP ROLE visitor")


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DatabaseUnusable, match=r"needs a driver that is missing.*pip install") as caught:
        with_stores("postgresql+psycopg://me:secret@127.0.0.1/name", lambda _: asyncio.sleep(0))
    assert "secret" not in str(caught.value)


def test_what_people_write_is_in_no_error(postgresql_url: str) -> None:
    async def scenario(database: Database) -> None:
        with pytest.raises(SQLAlchemyError) as caught:
            await database.write(
                lambda connection: connection.execute(text("SELECT nothing, :words"), {"words": "my secret"})
            )
        assert "my secret" not in str(caught.value)

    with_counters(postgresql_url, scenario)
