"""The account book and its budgets, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from checkpoints.budgets import BudgetStore, Limit, everybody, of_principal, of_thread
from checkpoints.database import Database
from checkpoints.opening import open_database
from checkpoints.response_cache import ResponseCache
from checkpoints.router_memory import RouterMemory
from checkpoints.usage import DAY_SECONDS, UsageRow, UsageStore
from tests.databases import Place
from tests.unit.checkpoints.rows import MANY, all_at_once

DAY = 20_000
CALL = UsageRow(
    call_id="c0",
    principal="alice",
    thread_id="thread-01",
    run_id="r1",
    task="tools",
    provider="acme",
    account="default",
    model="large",
    prompt_tokens=100,
    completion_tokens=10,
    cached_tokens=60,
    reasoning_tokens=5,
    estimated=False,
    cost_usd=0.25,
    latency=2.0,
    ttft=0.5,
    outcome="ok",
    created_at=DAY * DAY_SECONDS + 1.0,
    charged_usd=0.25,
)


def on(place: Place, scenario: Callable[[Database], Awaitable[None]]) -> None:
    """Play a scenario on that database."""

    async def run() -> None:
        async with open_database(place) as database:
            await scenario(database)

    asyncio.run(run())


def test_sums_are_of_the_chosen_calls(place: Place) -> None:
    async def scenario(database: Database) -> None:
        store = UsageStore(database)
        await store.add(
            [
                CALL,
                replace(CALL, call_id="c1", model="small", cost_usd=None, estimated=True, thread_id=None),
                replace(CALL, call_id="c2", outcome="timeout", latency=99.0, ttft=None, cost_usd=1.0),
                replace(CALL, call_id="c3", principal="bobby", created_at=(DAY + 1) * DAY_SECONDS),
            ]
        )
        total, days = await store.report("day", DAY, DAY + 1, "alice")
        assert (total.calls, total.failed, total.unpriced_calls, total.estimated_calls) == (3, 1, 1, 1)
        assert (total.prompt_tokens, total.cached_tokens, total.cost_usd) == (300, 180, 1.25)
        assert (total.latency, total.ttft) == (2.0, 0.5)
        assert [(each.name, each.sum.calls) for each in days] == [(DAY, 3)]
        _, days = await store.report("day", DAY, DAY + 1, None)
        assert [(each.name, each.sum.calls) for each in days] == [(DAY + 1, 1), (DAY, 3)]
        _, models = await store.report("model", DAY, DAY, None)
        assert [(each.name, each.sum.cost_usd) for each in models] == [
            ("acme/large", 1.25),
            ("acme/small", 0),
        ]
        _, threads = await store.report("thread", DAY, DAY, None)
        assert [(each.name, each.sum.calls) for each in threads] == [("thread-01", 2), (None, 1)]
        nothing, groups = await store.report("provider", 1, 2, None)
        assert (nothing.calls, nothing.cost_usd, nothing.latency, groups) == (0, 0, None, [])

    on(place, scenario)


def test_a_call_that_is_stored_twice_counts_once(place: Place) -> None:
    async def scenario(database: Database) -> None:
        store, budgets = UsageStore(database), BudgetStore(database)
        await store.add([CALL])
        await store.add([CALL, replace(CALL, call_id="c1")])
        total, _ = await store.report("day", DAY, DAY, None)
        assert total.calls == 2
        for account in (everybody(DAY), of_principal("alice", DAY), of_thread("thread-01")):
            assert await budgets.spent(account) == 0.5

    on(place, scenario)


def test_old_rows_go_and_what_threads_spent_stays(place: Place) -> None:
    async def scenario(database: Database) -> None:
        store, budgets = UsageStore(database), BudgetStore(database)
        await store.add([CALL, replace(CALL, call_id="c1", created_at=(DAY + 1) * DAY_SECONDS)])
        await store.forget_before(DAY + 1)
        await budgets.forget_before(DAY + 1)
        total, _ = await store.report("day", DAY, DAY + 1, None)
        assert total.calls == 1
        assert await budgets.spent(everybody(DAY)) == 0
        assert await budgets.spent(everybody(DAY + 1)) == 0.25
        assert await budgets.spent(of_thread("thread-01")) == 0.5

    on(place, scenario)


def test_a_reservation_counts_until_it_is_settled(place: Place) -> None:
    async def scenario(database: Database) -> None:
        store, budgets = UsageStore(database), BudgetStore(database)
        limits = [Limit(everybody(DAY), 1.0), Limit(of_principal("alice", DAY), 0.6)]
        assert await budgets.reserve("c0", limits, 0.5, 60) is None
        short = await budgets.reserve("c1", limits, 0.2, 60)
        assert short is not None
        assert (short.limit, short.spent, short.held) == (limits[1], 0.0, 0.5)
        assert await budgets.reserve("c2", limits[:1], 0.5, 60) is None
        assert await budgets.reserve("c0", limits, 0.4, 60) is None, "its own hold is replaced, not added to"
        await store.add([CALL])  # it was c0's, and cost 0.25
        assert await budgets.reserve("c1", limits, 0.2, 60) is None
        assert await budgets.reserve("c3", limits, 0.2, 60) is not None

    on(place, scenario)


def test_a_refused_reservation_changes_nothing(place: Place) -> None:
    async def scenario(database: Database) -> None:
        budgets = BudgetStore(database)
        wide, narrow = Limit(everybody(DAY), 1.0), Limit(of_thread("t"), 0.1)
        assert await budgets.reserve("c0", [wide, narrow], 0.9, 60) is not None
        assert await budgets.reserve("c1", [wide], 1.0, 60) is None

    on(place, scenario)


def test_a_reservation_ends_by_itself(place: Place) -> None:
    async def scenario(database: Database) -> None:
        budgets, limit = BudgetStore(database), [Limit(everybody(DAY), 1.0)]
        assert await budgets.reserve("c0", limit, 1.0, 0) is None
        assert await budgets.reserve("c1", limit, 1.0, 60) is None
        await budgets.forget_before(DAY)
        assert await budgets.reserve("c2", limit, 0.1, 60) is not None

    on(place, scenario)


def test_many_at_once_get_no_more_than_there_is(place: Place) -> None:
    async def scenario(database: Database) -> None:
        async with open_database(place) as another:  # as a second process would
            stores = BudgetStore(database), BudgetStore(another)
            limits = [Limit(of_thread("t"), 5.0), Limit(everybody(DAY), 1.05)]
            tries = [stores[n % 2].reserve(f"c{n}", limits, 0.1, 60) for n in range(MANY)]
            answers, failed = await all_at_once(tries)
            assert failed == []
            assert sum(each is None for each in answers) == 10

    on(place, scenario)


def test_settling_and_reserving_at_once_agree(place: Place) -> None:
    async def scenario(database: Database) -> None:
        store, budgets = UsageStore(database), BudgetStore(database)
        limits = [Limit(everybody(DAY), 100.0), Limit(of_thread("thread-01"), 100.0)]

        async def call(number: int) -> None:
            name = f"c{number}"
            assert await budgets.reserve(name, limits, 1.0, 60) is None
            await store.add([replace(CALL, call_id=name)])

        _, failed = await all_at_once([call(number) for number in range(MANY)])
        assert failed == []
        assert await budgets.spent(everybody(DAY)) == MANY * 0.25
        short = await budgets.reserve("last", limits, 100.0, 60)
        assert short is not None
        assert (short.spent, short.held) == (MANY * 0.25, 0.0)

    on(place, scenario)


def test_what_memory_keeps_is_changed_by_one_at_a_time(place: Place) -> None:
    async def scenario(database: Database) -> None:
        memory = RouterMemory(database)
        await memory.save({"count": b"0"})

        def one_more(stored: Mapping[str, bytes]) -> dict[str, bytes]:
            return {"count": b"%d" % (int(stored["count"]) + 1), "other": b"1"}

        await asyncio.gather(*(memory.update(["count", "gone"], one_more) for _ in range(20)))
        assert await memory.load("") == {"count": b"20", "other": b"1"}
        await memory.update([], lambda stored: stored)

    on(place, scenario)


@pytest.mark.parametrize("key", ["lesson:a/b", "lesson:100%_sure", "lesson:" + "x" * 393])
def test_memory_gives_back_what_it_was_given(place: Place, key: str) -> None:
    async def scenario(database: Database) -> None:
        times = iter([0.0, 1.0, 3.0, 2.0])
        memory = RouterMemory(database, clock=lambda: next(times))
        await memory.save({})
        await memory.save({key: b"old", "other": b"1"})
        await memory.save({key: b"new"})
        await memory.save({"lesson:early": b"0"})
        assert list((await memory.load("lesson:")).items()) == [("lesson:early", b"0"), (key, b"new")]
        assert (await memory.get(key), await memory.get(key[:-1])) == (b"new", None)
        await memory.forget_before(2.5)
        assert await memory.load("") == {key: b"new"}

    on(place, scenario)


def test_kept_answers_are_ones_own_and_grow_old(place: Place) -> None:
    async def scenario(database: Database) -> None:
        cache = ResponseCache(database)
        entries: list[tuple[Any, ...]] = [("alice", "h", b"1", 60), ("bobby", "h", b"2", 60)]
        for entry in (*entries, ("alice", "old", b"3", -1)):
            await cache.put(*entry)
        assert await cache.get("alice", "h") == b"1"
        assert await cache.get("bobby", "h") == b"2"
        assert await cache.get("alice", "old") is None
        await cache.put("alice", "h", b"4", 60)
        await cache.forget_expired()
        assert await cache.get("alice", "h") == b"4"

    on(place, scenario)
