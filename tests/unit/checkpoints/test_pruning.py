"""What stays when checkpoints are deleted: whatever the kept ones need, and nothing else."""

from __future__ import annotations

import asyncio

import pytest
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from checkpoints.leases import FENCE
from checkpoints.opening import open_database
from tests.databases import Place
from tests.unit.checkpoints.savers import LONG, Saver, at, id_of, with_saver


def test_pruning_leaves_nothing_but_the_latest(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        config = at()
        for number in range(1, 40):
            config = await saver.save(config, {"c": LONG[: number * 5], "files": {"a": str(number) * 400}})
            await saver.aput_writes(config, [("c", [f"{number}" * 400])], "task")
        early = at(checkpoint_id=str(uuid6()))  # of a checkpoint that is about to be stored
        await saver.aput_writes(early, [("c", "early")], "task")
        await saver.aprune(["t"])
        assert await saver.value(at()) == LONG[:195]
        assert await saver.pending(at()) == [("task", "c", ["39" * 400])]
        found = await saver.rows()
        assert (found["checkpoints"], found["channel_values"], found["writes"]) == (1, 2, 2)
        assert 195 + 2 <= found["items"] < 195 + 2 + 40
        await saver.save(at(), {"c": LONG})
        assert await saver.value(at()) == LONG
        with pytest.raises(ValueError, match="Unknown strategy"):
            await saver.aprune(["t"], strategy="some")
        await saver.aprune(["t"], strategy="delete")
        assert set((await saver.rows()).values()) == {0}

    with_saver(place, scenario)


def test_pruning_keeps_what_delta_channels_rest_on(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        config = at()
        for number in range(200):
            seeds = {"c": _DeltaSnapshot([number])} if number in (3, 120) else {}
            counters = {} if seeds else {"c": [1, 1]}
            versions = {"c": saver.get_next_version(None, None)}
            config = await saver.save(config, seeds, versions, counters_since_delta_snapshot=counters)
            await saver.aput_writes(config, [("c", number)], "task")
        before = await saver.aget_delta_channel_history(config=config, channels=["c", "other"])
        assert before["c"]["seed"] == _DeltaSnapshot([120])
        assert [number for _, _, number in before["c"]["writes"]] == [*range(120, 199)]
        await saver.aprune(["t"])
        after = await saver.aget_delta_channel_history(config=config, channels=["c"])
        assert after["c"] == before["c"]
        assert (await saver.rows())["checkpoints"] == 80
        assert await saver.aget_delta_channel_history(config=at("none"), channels=["c"]) == {
            "c": {"writes": []}
        }

    with_saver(place, scenario)


def test_calls_of_subgraphs_go_with_their_caller(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        old = (await saver.save(at(), {"c": 1}))["configurable"]["checkpoint_id"]
        new = (await saver.save(at(), {"c": 2}))["configurable"]["checkpoint_id"]
        for namespace, caller in (("call:1", old), ("call:2", new), ("memory", old), ("call:1|x:1", old)):
            await saver.save(at(namespace=namespace), {"c": LONG}, parents={"": caller})
        await saver.aprune(["t"])
        left = {each.config["configurable"]["checkpoint_ns"] async for each in saver.alist(at(namespace=""))}
        for namespace in ("call:1", "call:2", "memory", "call:1|x:1"):
            left |= {namespace async for _ in saver.alist(at(namespace=namespace))}
        assert left == {"", "call:2", "memory"}

    with_saver(place, scenario)


def test_the_last_ones_stay_whatever_their_branch(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        trunk = [await saver.save(at(), {"c": LONG[:1]})]
        for number in range(2, 9):
            trunk.append(await saver.save(trunk[-1], {"c": LONG[:number], "note": f"{number}" * 400}))
        fork = [await saver.save(trunk[2], {"c": [*LONG[50:60], "fork"]})]
        fork.append(await saver.save(fork[0], {"c": [*LONG[50:60], "fork", "on"]}))
        for each in (*trunk, *fork):
            await saver.aput_writes(each, [("c", LONG[100])], "task")
        expected = {id_of(each): await saver.aget_tuple(each) for each in (*trunk[-3:], *fork)}
        await saver.keep_last("t", 5)
        assert sorted(await saver.history(at())) == sorted(expected)
        for each in (*trunk[-3:], *fork):
            assert await saver.aget_tuple(each) == expected[id_of(each)]
        assert (await saver.rows())["writes"] == 5
        for end in (fork[-1], trunk[-1]):
            onwards = await saver.save(end, {"c": [*(await saver.value(end)), *LONG[60:70]]})
            assert await saver.value(onwards) == [*(await saver.value(end)), *LONG[60:70]]

    with_saver(place, scenario)


def test_more_than_there_is_stays_whole_and_nothing_is_not_to_be_kept(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        config = at()
        for number in range(4):
            config = await saver.save(config, {"c": LONG[: 50 * number + 1]})
        before, history = await saver.rows(), await saver.history(at())
        await saver.keep_last("t", 4)
        await saver.keep_last("t", 1000)
        await saver.keep_last("nobody", 1)
        assert (await saver.rows(), await saver.history(at())) == (before, history)
        with pytest.raises(ValueError, match="At least one"):
            await saver.keep_last("t", 0)
        assert await saver.rows() == before

    with_saver(place, scenario)


def test_each_kept_checkpoint_keeps_what_its_delta_channels_rest_on(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        config, places = at(), []
        for number in range(60):
            seeds = {"c": _DeltaSnapshot([number])} if number % 20 == 0 else {}
            counters = {} if seeds else {"c": [1, 1]}
            versions = {"c": saver.get_next_version(None, None)}
            config = await saver.save(config, seeds, versions, counters_since_delta_snapshot=counters)
            await saver.aput_writes(config, [("c", number)], "task")
            places.append(config)
        last = places[-21:]
        before = [await saver.aget_delta_channel_history(config=each, channels=["c"]) for each in last]
        await saver.keep_last("t", 21)
        assert len(await saver.history(at())) == 40, "the oldest of 21 is the 39th, which rests on the 20th"
        assert before == [
            await saver.aget_delta_channel_history(config=each, channels=["c"]) for each in last
        ]

    with_saver(place, scenario)


def test_each_kept_checkpoint_keeps_the_subgraphs_it_called(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        calls: list[str] = []
        config = at()
        for number in range(6):
            config = await saver.save(config, {"c": number})
            caller = {"": id_of(config)}
            for step in range(2):
                inner = await saver.save(
                    at(namespace=f"call:{number}"), {"c": LONG[:20], "s": step}, parents=caller
                )
                await saver.save(at(namespace="memory"), {"c": [number, step]}, parents=caller)
            deep = caller | {f"call:{number}": id_of(inner)}
            await saver.save(at(namespace=f"call:{number}|x:1"), {"c": number}, parents=deep)
            calls.append(f"call:{number}")
        await saver.keep_last("t", 3)
        assert [len(await saver.history(at(namespace=each))) for each in calls] == [0, 0, 0, 1, 1, 1]
        assert [await saver.value(at(namespace=each), "s") for each in calls[3:]] == [1, 1, 1]
        deeper = [await saver.history(at(namespace=f"{each}|x:1")) for each in calls]
        assert [len(each) for each in deeper] == [0, 0, 0, 1, 1, 1]
        kept = [each async for each in saver.alist(at(namespace="memory"))]
        assert [each.checkpoint["channel_values"]["c"] for each in kept] == [[5, 1], [4, 1], [3, 1]]

    with_saver(place, scenario)


def test_a_run_that_goes_on_meanwhile_loses_nothing(place: Place) -> None:
    """Its new list shares nearly all with versions that are being deleted."""

    async def scenario(saver: Saver) -> None:
        await saver.claim("t", 1)
        async with open_database(place) as second:
            other, config = Saver(second), at(fence=1)
            for number in range(1, 40):
                done = saver.save(config, {"c": LONG[: 3 * number]})
                config, _ = await asyncio.gather(done, other.keep_last("t", 2))
                config["configurable"][FENCE] = 1
                assert await other.value(at()) == LONG[: 3 * number]

    with_saver(place, scenario)
