"""The event log on both databases: numbers without a gap, retention, and what listeners hear."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from checkpoints import events as log
from checkpoints.database import Operation
from checkpoints.errors import LeaseLost
from checkpoints.events import NewEvent, StoredEvent
from checkpoints.journal import Intent
from checkpoints.stores import Stores
from checkpoints.tables import events
from tests.databases import Place
from tests.unit.checkpoints.rows import MANY, all_at_once, begin, new_run, try_begin, with_stores


def told(*kinds: str) -> list[NewEvent]:
    return [NewEvent("r1", kind, b'{"n": 1}') for kind in kinds]


async def numbers(stores: Stores, thread_id: str = "t") -> list[int]:
    found: list[int] = []
    while page := await stores.log.after(thread_id, found[-1] if found else 0):
        found += [event.seq for event in page]
    return found


def test_what_was_told_can_be_read_again(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await try_begin(stores, new_run(events=told("begun")))
        await stores.log.add("t", told("a", "b"))
        await stores.log.add("t", [])
        everything = await stores.log.after("t", 0)
        assert everything[0] == StoredEvent("t", 1, "r1", "begun", b'{"n": 1}')
        assert [(event.seq, event.kind) for event in everything] == [(1, "begun"), (2, "a"), (3, "b")]
        assert await stores.log.after("t", 1, limit=1) == everything[1:2]
        assert await stores.log.after("t", 3) == []
        standing = await stores.log.last(["t", "unknown"])
        thread = await stores.threads.get("p", "t")
        assert standing == {"t": (3, thread.created_at)}

    with_stores(place, scenario)


def test_of_a_thread_that_is_gone_nothing_is_told(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        heard: list[StoredEvent] = []
        stores.log.listen(heard.append)
        await stores.log.add("unknown", told("a"))
        assert heard == await stores.log.after("unknown", 0) == []

    with_stores(place, scenario)


def test_many_at_once_get_numbers_without_gap_or_double(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        heard: list[StoredEvent] = []
        stores.log.listen(heard.append)
        run = await begin(stores)
        _, failed = await all_at_once(
            [stores.log.add("t", told(f"{n}a", f"{n}b")) for n in range(MANY)]
            + [stores.journal.begin(run, Intent(f"call_{n}", ""), told(f"{n}c")) for n in range(MANY)]
        )
        assert failed == []
        stored = await stores.log.after("t", 0)
        assert [event.seq for event in stored] == list(range(1, 3 * MANY + 1))
        assert sorted(heard, key=lambda event: event.seq) == stored
        assert set(Counter(event.kind for event in stored).values()) == {1}
        place_of = {event.kind: event.seq for event in stored}
        assert all(place_of[f"{n}b"] == place_of[f"{n}a"] + 1 for n in range(MANY))

    with_stores(place, scenario)


def test_an_operation_that_fails_tells_nothing_and_takes_no_number(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        heard: list[StoredEvent] = []
        stores.log.listen(heard.append)
        run = await begin(stores)
        lost = replace(run, fence=run.fence + 1)
        _, failed = await all_at_once(
            [stores.runs.settle(lost, b"", "idle", (), told("lost")), stores.log.add("t", told("kept"))]
        )
        assert len(failed) == 1
        assert [(event.seq, event.kind) for event in heard] == [(1, "kept")]

    with_stores(place, scenario)


def test_an_effect_that_is_begun_again_is_told_once(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        for _ in range(2):
            await stores.journal.begin(run, Intent("call_1", "done"), told("started"))
        assert await numbers(stores) == [1]

    with_stores(place, scenario)


def test_the_oldest_events_of_a_long_thread_go(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "KEPT_PER_THREAD", 300)

    async def scenario(stores: Stores) -> None:
        await begin(stores)
        for _ in range(20):
            await stores.log.add("t", told(*"x" * 50))
        await begin(stores, "other", "other")
        await stores.log.add("other", told("x"))
        kept = await numbers(stores)
        assert kept == list(range(kept[0], 1001))
        assert 300 <= len(kept) < 300 + 2 * 256
        await stores.log.add("t", told(*"y" * 700))  # many at once
        assert len(await numbers(stores)) >= 300
        assert await numbers(stores, "other") == [1]

    with_stores(place, scenario)


def test_large_events_leave_no_more_than_fits(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await begin(stores)
        await begin(stores, "other", "other")
        await stores.log.add("t", told(*"x" * 50))
        await stores.log.add("other", told("x"))
        whole = [NewEvent("r1", "run.finished", bytes(log.KEPT_BYTES // 8))]
        for _ in range(20):
            await stores.log.add("t", whole)
        assert await numbers(stores) == [63, 64, 65, 66, 67, 68, 69, 70]
        await stores.log.add("t", [NewEvent("r1", "run.finished", bytes(log.KEPT_BYTES + 1))])
        assert await numbers(stores) == [71], "the latest stays"
        assert await numbers(stores, "other") == [1]

    with_stores(place, scenario)


def test_who_lost_the_thread_tells_nothing_of_it(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.log.add("t", told("a"), fence=run.fence)
        with pytest.raises(LeaseLost):
            await stores.log.add("t", told("b"), fence=run.fence - 1)
        assert await numbers(stores) == [1]

    with_stores(place, scenario)


def test_old_events_are_forgotten_and_their_numbers_not_given_again(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await begin(stores)
        await stores.log.add("t", told("a", "b"))
        earlier = update(events).values(created_at=events.c.created_at - 100)
        await stores.database.write(lambda connection: connection.execute(earlier))
        await stores.log.add("t", told("c"))
        assert await stores.log.forget_before(time.time() - 50) == 2
        assert await numbers(stores) == [3]
        assert await stores.log.forget_before(time.time() + 1) == 1
        await stores.log.add("t", told("d"))
        assert await numbers(stores) == [4]

    with_stores(place, scenario)


def test_old_events_go_in_portions(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FORGOTTEN_AT_ONCE", 20)

    async def scenario(stores: Stores) -> None:
        for thread_id, count in (("t", 50), ("other", 40), ("young", 10), ("silent", 0)):
            await begin(stores, thread_id, thread_id)
            await stores.log.add(thread_id, told(*"x" * count))
        earlier = update(events).where(events.c.thread_id != "young")
        await stores.database.write(lambda connection: connection.execute(earlier.values(created_at=1.0)))
        await stores.log.add("t", told("y"))
        portions: list[int] = []
        write = stores.database.write

        async def noted(operation: Operation[int]) -> int:
            portions.append(await write(operation))
            return portions[-1]

        monkeypatch.setattr(stores.database, "write", noted)
        assert await stores.log.forget_before(2.0) == 90
        assert sorted(portions, reverse=True) == [20, 20, 20, 20, 10, 0]
        assert await numbers(stores) == [51]
        assert await numbers(stores, "other") == []
        assert len(await numbers(stores, "young")) == 10

    with_stores(place, scenario)


def test_events_are_deleted_with_their_thread(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.runs.settle(run, b"{}", "idle", (), told("a", "b"))
        adding = [stores.log.add("t", told("c")) for _ in range(MANY)]
        _, failed = await all_at_once([*adding[::2], stores.threads.forget("p", "t"), *adding[1::2]])
        assert failed == []
        async with stores.database.read() as connection:
            count = (await connection.execute(select(func.count()).select_from(events))).scalar_one()
        assert count == 0

    with_stores(place, scenario)
