"""What the published suite does not ask of a saver: order, forks, leftovers, crashes, other processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, _DeltaSnapshot

from checkpoints.errors import ThreadNotEmpty
from checkpoints.opening import open_database
from tests.databases import Place
from tests.unit.checkpoints.savers import LONG, Saver, at, with_saver


def test_the_first_ordinary_write_counts_and_the_last_special_one(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        here = await saver.save(at(), {})
        for text in ("first", "second"):
            await saver.aput_writes(here, [("c", text), ("d", text)], "task")
            await saver.aput_writes(here, [(INTERRUPT, text), (ERROR, text), (RESUME, text)], "task")
            await saver.aput_writes(here, [("c", text), (RESUME, text)], "mixed")
        assert sorted(await saver.pending(here)) == sorted(
            [
                ("task", "c", "first"),
                ("task", "d", "first"),
                ("task", INTERRUPT, "second"),
                ("task", ERROR, "second"),
                ("task", RESUME, "second"),
                ("mixed", "c", "first"),
                ("mixed", RESUME, "first"),
            ]
        )
        await saver.aput_writes(here, [], "none")

    with_saver(place, scenario)


def test_writes_come_in_the_order_of_their_paths(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        here = await saver.save(at(), {})
        for path, task in (("~b", "1"), ("~a", "9"), ("", "5"), ("~a", "3"), ("~B", "4")):
            await saver.aput_writes(here, [("c", 0), ("c", 1)], task, path)
        found = await saver.pending(here)
        assert [(task, number) for task, _, number in found] == [
            (task, number) for task in "54391" for number in (0, 1)
        ]

    with_saver(place, scenario)


def test_two_branches_of_a_fork_keep_their_own_values(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        root = await saver.save(at(), {"c": LONG})
        left = await saver.save(root, {"c": [*LONG, "left"]})
        right = await saver.save(root, {"c": [*LONG[:7], "right"]})
        assert await saver.value(root) == LONG
        assert await saver.value(left) == [*LONG, "left"]
        assert await saver.value(right) == [*LONG[:7], "right"]
        assert len({saver.get_next_version(None, None) for _ in range(100)}) == 100

    with_saver(place, scenario)


def test_values_read_are_nobody_elses(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        message = AIMessage("x" * 500, id="m")
        here = await saver.save(at(), {"c": [message, message]})
        first, second = await saver.value(here)
        first.content = "changed"
        assert second == message
        assert await saver.value(here) == [message, message]

    with_saver(place, scenario)


def test_a_hostile_filter_finds_nothing_and_breaks_nothing(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        here = await saver.save(at(), {"c": LONG}, tag="it's")
        hostile = [
            "x') OR 1=1 --",
            "a.b",
            '$."a"',
            "'; DROP TABLE checkpoints; --",
            "%",
            "\x00",
            ":thread_id",
        ]
        for key in hostile:
            assert [each async for each in saver.alist(at(), filter={key: 1})] == []
            assert [each async for each in saver.alist(None, filter={"tag": key})] == []
            name = key.replace("\0", "?")  # no text with NUL ever gets here: PostgreSQL takes none
            assert [each async for each in saver.alist(at(thread_id=name))] == []
        assert len([each async for each in saver.alist(None, filter={"tag": "it's"})]) == 1
        assert await saver.value(here) == LONG

    with_saver(place, scenario)


def test_listing_holds_nothing_while_its_consumer_waits(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        kept = [await saver.save(at(), {"c": number}) for number in range(30)]
        listing = saver.alist(at())
        first = await anext(listing)
        assert first.config == kept[-1]
        await asyncio.wait_for(saver.save(at(), {"c": 30}), 5)
        await saver.aprune(["t"])
        assert len([each async for each in listing]) < 29
        assert [each async for each in saver.alist(at(), limit=0)] == []

    with_saver(place, scenario)


def test_a_chain_that_bites_its_tail_ends(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        first = await saver.save(at(), {})
        second = await saver.save(first, {})
        found = await saver.aget_tuple(first)
        assert found is not None
        await saver.aput(second, found.checkpoint, {}, {})
        history = await saver.aget_delta_channel_history(config=second, channels=["c"])
        assert history == {"c": {"writes": []}}

    with_saver(place, scenario)


def test_a_copy_is_whole_and_stands_alone(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        first = await saver.save(at(), {"c": LONG}, run_id="run")
        await saver.aput_writes(await saver.save(first, {"c": LONG[5:]}), [("c", LONG)], "task")
        await saver.acopy_thread("t", "copy")
        with pytest.raises(ThreadNotEmpty):
            await saver.acopy_thread("t", "copy")
        assert await saver.rows("copy") == await saver.rows("t")
        await saver.adelete_thread("t")
        assert set((await saver.rows("t")).values()) == {0}
        assert await saver.value(at("copy")) == LONG[5:]
        assert await saver.pending(at("copy")) == [("task", "c", LONG)]
        await saver.adelete_for_runs(["run"])
        assert await saver.value(at("copy")) == LONG[5:]
        assert (await saver.rows("copy"))["checkpoints"] == 1

    with_saver(place, scenario)


def test_what_another_process_deleted_is_stored_again(place: Place) -> None:
    """The saver remembers what it stored last; it must not build on rows that are gone."""

    async def scenario(saver: Saver) -> None:
        for strategy in ("delete", "keep_latest"):
            here = await saver.save(at(), {"c": LONG})
            async with open_database(place) as second:
                other = Saver(second)
                await other.save(here, {"c": ["short"]})
                await other.aprune(["t"], strategy=strategy)
            here = await saver.save(here, {"c": [*LONG, "more"]})
            assert await saver.value(here) == [*LONG, "more"]

    with_saver(place, scenario)


def test_a_put_that_is_cancelled_or_fails_leaves_nothing_half_done(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        here = await saver.save(at(), {"c": LONG})
        before = await saver.rows()
        with pytest.raises(TypeError):
            await saver.save(here, {"c": [*LONG, 2**70]})
        for moment in range(12):
            task = asyncio.create_task(saver.save(here, {"c": [*LONG, f"{moment}" * 300]}))
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        found = await saver.rows()
        done = found["checkpoints"] - before["checkpoints"]
        assert found["channel_values"] - before["channel_values"] == done
        assert found["items"] - before["items"] >= done
        last = await saver.save(here, {"c": [*LONG, "last"]})
        assert await saver.value(last) == [*LONG, "last"]

    with_saver(place, scenario)


_PUT_AND_DIE = """
import os, sys
from pathlib import Path
from tests.unit.checkpoints.savers import LONG, at, with_saver

async def scenario(saver):
    config = at()
    for number in range(1, 100):
        config = await saver.save(config, {"c": LONG[:number]})
        await saver.aput_writes(config, [("c", LONG[number])], "task")
        print(number, flush=True)
        if number == 60:
            os.kill(os.getpid(), 9)

with_saver(Path(sys.argv[1]), scenario)
"""


def test_killed_between_puts_all_that_was_acknowledged_is_there(tmp_path: Path) -> None:
    place = tmp_path / "state.db"
    command = [sys.executable, "-c", _PUT_AND_DIE, str(place)]
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=60
    )
    assert process.stdout.split()[-1] == "60", process.stderr

    async def scenario(saver: Saver) -> None:
        assert await saver.value(at()) == LONG[:60]
        assert await saver.pending(at()) == [("task", "c", LONG[60])]
        assert [len(each.checkpoint["channel_values"]["c"]) async for each in saver.alist(at())] == [
            *range(60, 0, -1)
        ]

    with_saver(place, scenario)


def test_values_of_every_kind_come_back(place: Place) -> None:
    kinds: list[Any] = [
        None,
        b"",
        b"bytes" * 200,
        "text",
        "text" * 500,
        [],
        [None, 1, 1.5, "a"],
        ["a" * 9] * 16,
        list(range(3000)),
        [[], [[1]], {"a": {}}, b"b", None],
        {"a": ["b" * 1000]},
        [AIMessage("x" * 5000, id="m")],
        _DeltaSnapshot([{"a": 1}] * 70),
        _DeltaSnapshot({"a": "b" * 600}),
    ]

    async def scenario(saver: Saver) -> None:
        for each in kinds:
            here = await saver.save(at(), {"c": each})
            assert await saver.value(here) == each
            await saver.aput_writes(here, [("c", each)], "task")
            assert await saver.pending(here) == [("task", "c", each)]
        clone = saver.with_allowlist([("collections", "OrderedDict")])
        assert isinstance(clone, Saver) and await clone.value(at()) == kinds[-1]

    with_saver(place, scenario)
