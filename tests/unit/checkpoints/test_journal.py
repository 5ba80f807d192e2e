"""The journal of effects on both databases."""

from __future__ import annotations

import pytest

from checkpoints.errors import LeaseLost
from checkpoints.journal import EffectRecord, Intent, content_hash
from checkpoints.runs import Run
from checkpoints.stores import Stores
from tests.databases import Place
from tests.unit.checkpoints.rows import MANY, all_at_once, answer, begin, waiting, with_stores

EVERYTHING = bytes(range(256)) * 300


async def write(
    stores: Stores, run: Run, call_id: str, path: str | None, before: bytes | None, after: bytes | None
) -> None:
    """An effect from its intent to its end."""
    await stores.journal.begin(run, Intent(call_id, "done", path, before, after))
    await stores.journal.finish(run, call_id)


async def changes(stores: Stores, turn_id: str | None = None) -> dict[str, tuple[bytes | None, bytes | None]]:
    found = await stores.journal.changes("t", turn_id=turn_id)
    return {change.path: (change.before, change.after) for change in found}


def test_an_effect_is_known_from_its_intent_on(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        assert await stores.journal.get("t", "call_1") is None
        await stores.journal.begin(run, Intent("call_1", "written", "a", None, EVERYTHING))
        record = await stores.journal.get("t", "call_1")
        assert record == EffectRecord("begun", "a", None, content_hash(EVERYTHING), "written")
        assert await stores.journal.contents("t", record) == (None, EVERYTHING)
        assert await stores.journal.unfinished_paths("t") == ["a"]
        await stores.journal.finish(run, "call_1", result="written, twice")
        record = await stores.journal.get("t", "call_1")
        assert record is not None
        assert (record.state, record.result) == ("done", "written, twice")
        assert await stores.journal.unfinished_paths("t") == []
        assert await stores.journal.get("u", "call_1") is None

    with_stores(place, scenario)


def test_an_intent_can_be_written_down_anew(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.journal.begin(run, Intent("call_1", "first", "a", b"0", b"1"))
        await stores.journal.begin(run, Intent("call_1", "second", "a", b"0", b"2"))
        record = await stores.journal.get("t", "call_1")
        assert record == EffectRecord("begun", "a", content_hash(b"0"), content_hash(b"2"), "second")

    with_stores(place, scenario)


def test_net_changes_of_files(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        steps = [
            ("a", None, b"1"),
            ("a", b"1", b"2"),
            ("b", b"x", b"y"),
            ("b", b"y", b"x"),
            ("c", b"z", None),
            (None, None, None),
        ]
        for number, (path, before, after) in enumerate(steps):
            await write(stores, run, f"call_{number}", path, before, after)
        await stores.journal.begin(run, Intent("call_v", "", "void", None, b"1"))
        await stores.journal.finish(run, "call_v", state="void")
        await stores.journal.begin(run, Intent("call_u", "", "unfinished", None, b"1"))
        assert await changes(stores) == {"a": (None, b"2"), "c": (b"z", None)}

    with_stores(place, scenario)


def test_changes_of_one_turn(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        first = await waiting(stores)
        resumed = await answer(stores)
        await write(stores, resumed, "call_1", "a", b"0", b"1")
        await stores.runs.settle(resumed, b"{}", "idle")
        second = await begin(stores, "r3")
        await write(stores, second, "call_2", "a", b"1", b"2")
        assert await changes(stores, first.turn_id) == {"a": (b"0", b"1")}
        assert await changes(stores, second.turn_id) == {"a": (b"1", b"2")}
        assert await changes(stores) == {"a": (b"0", b"2")}

    with_stores(place, scenario)


def test_many_calls_of_one_turn_at_once(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        _, failed = await all_at_once(
            [write(stores, run, f"call_{n}", f"{n % 4}/{n}", b"same", b"%d" % n) for n in range(MANY)]
        )
        assert failed == []
        assert await changes(stores) == {f"{n % 4}/{n}": (b"same", b"%d" % n) for n in range(MANY)}

    with_stores(place, scenario)


def test_only_the_holder_of_the_thread_writes(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        earlier = await waiting(stores)
        await answer(stores)
        with pytest.raises(LeaseLost):
            await write(stores, earlier, "call_1", "a", None, b"1")
        assert await stores.journal.get("t", "call_1") is None
        with pytest.raises(LeaseLost):
            await stores.journal.confirm(earlier)

    with_stores(place, scenario)
