"""Idempotency keys on both databases: one key is one request."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from checkpoints.errors import KeyReused, QuestionOpen, ThreadBusy, ThreadDeleted
from checkpoints.idempotency import REMEMBERED_SECONDS, Finished, IdempotencyKey
from checkpoints.runs import Answer, Run
from checkpoints.stores import Stores
from checkpoints.tables import idempotency
from tests.databases import Place
from tests.unit.checkpoints.rows import MANY, all_at_once, new_run, try_begin, waiting, with_stores

KEY = IdempotencyKey("invoke", "k", "hash")


async def begin_with(stores: Stores, key: IdempotencyKey, run_id: str = "r1", thread_id: str = "t") -> Run:
    begun = await try_begin(stores, new_run(run_id, thread_id, key=key))
    assert isinstance(begun, Run)
    return begun


def test_a_key_belongs_to_one_request(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        assert await stores.runs.replay("p", KEY) is None
        run = await begin_with(stores, KEY)
        for attempt in (try_begin(stores, new_run("r2", key=KEY)), stores.runs.replay("p", KEY)):
            with pytest.raises(ThreadBusy, match="being served"):
                await attempt
        other_body = IdempotencyKey("invoke", "k", "other")
        for attempt in (try_begin(stores, new_run("r2", "u", key=other_body)),):
            with pytest.raises(KeyReused):
                await attempt
        await stores.runs.settle(run, b"done", "idle")
        assert await try_begin(stores, new_run("r2", key=KEY)) == Finished(b"done")
        assert await stores.runs.replay("p", KEY) == Finished(b"done")

    with_stores(place, scenario)


def test_a_key_is_of_one_principal_and_route(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await begin_with(stores, KEY)
        await begin_with(stores, IdempotencyKey("resume", "k", "hash"), "r2", "t2")
        begun = await try_begin(stores, new_run("r3", "t3", "q", key=KEY))
        assert isinstance(begun, Run)

    with_stores(place, scenario)


def test_one_key_on_many_threads_at_once_is_one_run(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        tries = [try_begin(stores, new_run(f"r{n}", f"t{n}", key=KEY)) for n in range(MANY)]
        begun, failed = await all_at_once(tries)
        [run] = begun
        assert isinstance(run, Run)
        assert [type(error) for error in failed] == [ThreadBusy] * (MANY - 1)
        assert [thread.thread_id for thread in await stores.threads.list("p")] == [run.thread_id]

    with_stores(place, scenario)


def test_a_refused_request_does_not_use_its_key_up(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores)
        with pytest.raises(QuestionOpen):
            await try_begin(stores, new_run("r2", key=KEY))
        begun = await stores.runs.answer(new_run("r2", key=KEY), Answer("call_1", "x", "p"))
        assert isinstance(begun, Run)

    with_stores(place, scenario)


def test_the_key_comes_before_the_same_answer(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores)
        key = IdempotencyKey("resume", "k", "hash")
        begun = await stores.runs.answer(new_run("r2", key=key), Answer("call_1", "x", "p"))
        assert isinstance(begun, Run)
        await stores.runs.settle(begun, b"done", "idle")
        again = await stores.runs.answer(new_run("r3", key=key), Answer("call_1", "x", "p"))
        assert again == Finished(b"done")
        with pytest.raises(KeyReused):
            other = IdempotencyKey("resume", "k", "other")
            await stores.runs.answer(new_run("r3", key=other), Answer("call_1", "x", "p"))

    with_stores(place, scenario)


def test_a_key_outlives_its_thread(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin_with(stores, KEY)
        await stores.runs.settle(run, b"done", "idle")
        await stores.threads.forget("p", "t")
        for attempt in (stores.runs.replay("p", KEY), try_begin(stores, new_run("r2", key=KEY))):
            with pytest.raises(ThreadDeleted, match="its thread was deleted"):
                await attempt
        with pytest.raises(KeyReused):
            await stores.runs.replay("p", IdempotencyKey("invoke", "k", "other"))
        assert await stores.threads.list("p") == [], "nothing was begun"
        async with stores.database.read() as connection:
            [kept] = (await connection.execute(select(idempotency))).all()
        assert kept[:5] == ("p", "invoke", "k", "hash", "r1")
        earlier = update(idempotency).values(created_at=idempotency.c.created_at - REMEMBERED_SECONDS - 1)
        await stores.database.write(lambda connection: connection.execute(earlier))
        await begin_with(stores, KEY, "r2")

    with_stores(place, scenario)


def test_a_key_is_forgotten_after_a_day(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await begin_with(stores, KEY)
        earlier = update(idempotency).values(created_at=idempotency.c.created_at - REMEMBERED_SECONDS - 1)
        await stores.database.write(lambda connection: connection.execute(earlier))
        assert await stores.runs.replay("p", KEY) is None
        await begin_with(stores, KEY, "r2", "t2")
        async with stores.database.read() as connection:
            count = (await connection.execute(select(func.count()).select_from(idempotency))).scalar_one()
        assert count == 1

    with_stores(place, scenario)
