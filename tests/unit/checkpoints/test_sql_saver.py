"""What the published suite does not ask of a saver: order, forks, leftovers, crashes, other processes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, _DeltaSnapshot

from checkpoints.database import Database
from checkpoints.errors import StateDamaged, ThreadNotEmpty
from checkpoints.saver import open_saver

Saver = BaseCheckpointSaver[str]
TABLES = ("checkpoints", "channel_values", "writes", "items")
LONG = [{"text": f"{number} " + "x" * 300} for number in range(200)]


def with_saver(folder: Path, scenario: Callable[[Saver], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Database.open(folder / "state.db") as database, open_saver(database) as saver:
            await scenario(saver)

    asyncio.run(run())


def at(thread_id: str = "t", namespace: str = "", checkpoint_id: str | None = None) -> RunnableConfig:
    key = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": key | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


async def put(
    saver: Saver,
    config: RunnableConfig,
    values: dict[str, Any],
    versions: dict[str, str] | None = None,
    **metadata: Any,
) -> RunnableConfig:
    """Store a checkpoint in which all these values are new."""
    moved = versions or {channel: saver.get_next_version(None, None) for channel in values}
    checkpoint: Checkpoint = {
        "v": 4,
        "id": str(uuid6()),
        "ts": "",
        "channel_values": values,
        "channel_versions": dict(moved),
        "versions_seen": {},
        "updated_channels": None,
    }
    return await saver.aput(config, checkpoint, {"source": "loop", "step": 0, **metadata}, dict(moved))  # type: ignore[typeddict-item]


async def value(saver: Saver, config: RunnableConfig, channel: str = "c") -> Any:
    found = await saver.aget_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"].get(channel)


async def pending(saver: Saver, config: RunnableConfig) -> list[tuple[str, str, Any]]:
    found = await saver.aget_tuple(config)
    assert found is not None and found.pending_writes is not None
    return found.pending_writes


def rows(folder: Path, thread_id: str | None = None) -> dict[str, int]:
    """How many rows each table has (of a thread)."""
    with sqlite3.connect(folder / "state.db") as connection:
        where, values = ("", ()) if thread_id is None else (" WHERE thread_id = ?", (thread_id,))
        counts = {t: connection.execute(f"SELECT count(*) FROM {t}{where}", values) for t in TABLES}
        found = {table: int(count.fetchone()[0]) for table, count in counts.items()}
    connection.close()
    return found


def test_the_first_ordinary_write_counts_and_the_last_special_one(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        here = await put(saver, at(), {})
        for text in ("first", "second"):
            await saver.aput_writes(here, [("c", text), ("d", text)], "task")
            await saver.aput_writes(here, [(INTERRUPT, text), (ERROR, text), (RESUME, text)], "task")
            await saver.aput_writes(here, [("c", text), (RESUME, text)], "mixed")
        assert sorted(await pending(saver, here)) == sorted(
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

    with_saver(tmp_path, scenario)


def test_writes_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        here = await put(saver, at(), {})
        for path, task in (("~b", "1"), ("~a", "9"), ("", "5"), ("~a", "3"), ("~B", "4")):
            await saver.aput_writes(here, [("c", 0), ("c", 1)], task, path)
        found = await pending(saver, here)
        assert [(task, number) for task, _, number in found] == [
            (task, number) for task in "54391" for number in (0, 1)
        ]

    with_saver(tmp_path, scenario)


def test_two_branches_of_a_fork_keep_their_own_values(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        root = await put(saver, at(), {"c": LONG})
        left = await put(saver, root, {"c": [*LONG, "left"]})
        right = await put(saver, root, {"c": [*LONG[:7], "right"]})
        assert await value(saver, root) == LONG
        assert await value(saver, left) == [*LONG, "left"]
        assert await value(saver, right) == [*LONG[:7], "right"]
        assert len({saver.get_next_version(None, None) for _ in range(100)}) == 100

    with_saver(tmp_path, scenario)


def test_values_read_are_nobody_elses(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        message = AIMessage("x" * 500, id="m")
        here = await put(saver, at(), {"c": [message, message]})
        first, second = await value(saver, here)
        first.content = "changed"
        assert second == message
        assert await value(saver, here) == [message, message]

    with_saver(tmp_path, scenario)


def test_a_hostile_filter_finds_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        here = await put(saver, at(), {"c": LONG}, tag="it's")
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
            assert [each async for each in saver.alist(at(thread_id=key))] == []
        assert len([each async for each in saver.alist(None, filter={"tag": "it's"})]) == 1
        assert await value(saver, here) == LONG

    with_saver(tmp_path, scenario)


def test_listing_holds_nothing_while_its_consumer_waits(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        kept = [await put(saver, at(), {"c": number}) for number in range(30)]
        listing = saver.alist(at())
        first = await anext(listing)
        assert first.config == kept[-1]
        await asyncio.wait_for(put(saver, at(), {"c": 30}), 5)
        await saver.aprune(["t"])
        assert len([each async for each in listing]) < 29
        assert [each async for each in saver.alist(at(), limit=0)] == []

    with_saver(tmp_path, scenario)


def test_pruning_leaves_nothing_but_the_latest(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        config = at()
        for number in range(1, 40):
            config = await put(saver, config, {"c": LONG[: number * 5], "files": {"a": str(number) * 400}})
            await saver.aput_writes(config, [("c", [f"{number}" * 400])], "task")
        early = at(checkpoint_id=str(uuid6()))  # of a checkpoint that is about to be stored
        await saver.aput_writes(early, [("c", "early")], "task")
        await saver.aprune(["t"])
        assert await value(saver, at()) == LONG[:195]
        assert await pending(saver, at()) == [("task", "c", ["39" * 400])]
        found = rows(tmp_path)
        assert (found["checkpoints"], found["channel_values"], found["writes"]) == (1, 2, 2)
        assert 195 + 2 <= found["items"] < 195 + 2 + 40
        await put(saver, at(), {"c": LONG})
        assert await value(saver, at()) == LONG
        with pytest.raises(ValueError, match="Unknown strategy"):
            await saver.aprune(["t"], strategy="some")
        await saver.aprune(["t"], strategy="delete")
        assert set(rows(tmp_path).values()) == {0}

    with_saver(tmp_path, scenario)


def test_pruning_keeps_what_delta_channels_rest_on(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        config = at()
        for number in range(200):
            seeds = {"c": _DeltaSnapshot([number])} if number in (3, 120) else {}
            counters = {} if seeds else {"c": [1, 1]}
            versions = {"c": saver.get_next_version(None, None)}
            config = await put(saver, config, seeds, versions, counters_since_delta_snapshot=counters)
            await saver.aput_writes(config, [("c", number)], "task")
        before = await saver.aget_delta_channel_history(config=config, channels=["c", "other"])
        assert before["c"]["seed"] == _DeltaSnapshot([120])
        assert [number for _, _, number in before["c"]["writes"]] == [*range(120, 199)]
        await saver.aprune(["t"])
        after = await saver.aget_delta_channel_history(config=config, channels=["c"])
        assert after["c"] == before["c"]
        assert rows(tmp_path)["checkpoints"] == 80
        assert await saver.aget_delta_channel_history(config=at("none"), channels=["c"]) == {
            "c": {"writes": []}
        }

    with_saver(tmp_path, scenario)


def test_a_chain_that_bites_its_tail_ends(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        first = await put(saver, at(), {})
        second = await put(saver, first, {})
        found = await saver.aget_tuple(first)
        assert found is not None
        await saver.aput(second, found.checkpoint, {}, {})
        history = await saver.aget_delta_channel_history(config=second, channels=["c"])
        assert history == {"c": {"writes": []}}

    with_saver(tmp_path, scenario)


def test_calls_of_subgraphs_go_with_their_caller(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        old = (await put(saver, at(), {"c": 1}))["configurable"]["checkpoint_id"]
        new = (await put(saver, at(), {"c": 2}))["configurable"]["checkpoint_id"]
        for namespace, caller in (("call:1", old), ("call:2", new), ("memory", old), ("call:1|x:1", old)):
            await put(saver, at(namespace=namespace), {"c": LONG}, parents={"": caller})
        await saver.aprune(["t"])
        left = {each.config["configurable"]["checkpoint_ns"] async for each in saver.alist(at(namespace=""))}
        for namespace in ("call:1", "call:2", "memory", "call:1|x:1"):
            left |= {namespace async for _ in saver.alist(at(namespace=namespace))}
        assert left == {"", "call:2", "memory"}

    with_saver(tmp_path, scenario)


def test_a_copy_is_whole_and_stands_alone(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        first = await put(saver, at(), {"c": LONG}, run_id="run")
        await saver.aput_writes(await put(saver, first, {"c": LONG[5:]}), [("c", LONG)], "task")
        await saver.acopy_thread("t", "copy")
        with pytest.raises(ThreadNotEmpty):
            await saver.acopy_thread("t", "copy")
        assert rows(tmp_path, "copy") == rows(tmp_path, "t")
        await saver.adelete_thread("t")
        assert set(rows(tmp_path, "t").values()) == {0}
        assert await value(saver, at("copy")) == LONG[5:]
        assert await pending(saver, at("copy")) == [("task", "c", LONG)]
        await saver.adelete_for_runs(["run"])
        assert await value(saver, at("copy")) == LONG[5:]
        assert rows(tmp_path, "copy")["checkpoints"] == 1

    with_saver(tmp_path, scenario)


def test_what_another_process_deleted_is_stored_again(tmp_path: Path) -> None:
    """The saver remembers what it stored last; it must not build on rows that are gone."""

    async def scenario(saver: Saver) -> None:
        for strategy in ("delete", "keep_latest"):
            here = await put(saver, at(), {"c": LONG})
            async with Database.open(tmp_path / "state.db") as second, open_saver(second) as other:
                await put(other, here, {"c": ["short"]})
                await other.aprune(["t"], strategy=strategy)
            here = await put(saver, here, {"c": [*LONG, "more"]})
            assert await value(saver, here) == [*LONG, "more"]

    with_saver(tmp_path, scenario)


def test_a_put_that_is_cancelled_or_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        here = await put(saver, at(), {"c": LONG})
        before = rows(tmp_path)
        with pytest.raises(TypeError):
            await put(saver, here, {"c": [*LONG, 2**70]})
        for moment in range(12):
            task = asyncio.create_task(put(saver, here, {"c": [*LONG, f"{moment}" * 300]}))
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        found = rows(tmp_path)
        done = found["checkpoints"] - before["checkpoints"]
        assert found["channel_values"] - before["channel_values"] == done
        assert found["items"] - before["items"] >= done
        last = await put(saver, here, {"c": [*LONG, "last"]})
        assert await value(saver, last) == [*LONG, "last"]

    with_saver(tmp_path, scenario)


_PUT_AND_DIE = """
import asyncio, os, sys
from pathlib import Path
from tests.unit.checkpoints.test_sql_saver import LONG, at, put, with_saver

async def scenario(saver):
    config = at()
    for number in range(1, 100):
        config = await put(saver, config, {"c": LONG[:number]})
        await saver.aput_writes(config, [("c", LONG[number])], "task")
        print(number, flush=True)
        if number == 60:
            os.kill(os.getpid(), 9)

with_saver(Path(sys.argv[1]), scenario)
"""


def test_killed_between_puts_all_that_was_acknowledged_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PUT_AND_DIE, str(tmp_path)]
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=60
    )
    assert process.stdout.split()[-1] == "60", process.stderr

    async def scenario(saver: Saver) -> None:
        assert await value(saver, at()) == LONG[:60]
        assert await pending(saver, at()) == [("task", "c", LONG[60])]
        assert [len(each.checkpoint["channel_values"]["c"]) async for each in saver.alist(at())] == [
            *range(60, 0, -1)
        ]

    with_saver(tmp_path, scenario)


def test_a_missing_row_is_told(tmp_path: Path) -> None:
    async def scenario(saver: Saver) -> None:
        await put(saver, at(), {"c": LONG})
        with sqlite3.connect(tmp_path / "state.db") as connection:
            connection.execute("DELETE FROM items WHERE rowid = 7")
        connection.close()
        with pytest.raises(StateDamaged, match="'t' is incomplete"):
            await saver.aget_tuple(at())

    with_saver(tmp_path, scenario)


def test_values_of_every_kind_come_back(tmp_path: Path) -> None:
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
            here = await put(saver, at(), {"c": each})
            assert await value(saver, here) == each
            await saver.aput_writes(here, [("c", each)], "task")
            assert await pending(saver, here) == [("task", "c", each)]
        clone = saver.with_allowlist([("collections", "OrderedDict")])
        assert await value(clone, at()) == kinds[-1]

    with_saver(tmp_path, scenario)


def test_a_database_with_stock_checkpoints_is_migrated(tmp_path: Path) -> None:
    with_saver(tmp_path, lambda _: asyncio.sleep(0))
    with sqlite3.connect(tmp_path / "state.db") as connection:
        for table in TABLES:
            connection.execute(f"DROP TABLE {table}")
        connection.executescript(
            """
            PRAGMA user_version = 1;
            CREATE TABLE checkpoints (thread_id TEXT PRIMARY KEY, checkpoint BLOB);
            CREATE TABLE writes (thread_id TEXT PRIMARY KEY, value BLOB);
            INSERT INTO threads VALUES ('t', 'p', '', '/p', 'i', 'requires_human_input', 'h', 3, 'r', 0, 0);
            INSERT INTO runs VALUES ('r', 't', 'invoke', 'r', '{}', NULL, 0, NULL);
            INSERT INTO questions VALUES
              ('t', 'call', 'i', 'r', 'question', '?', '[]', NULL, NULL, 'open', NULL, NULL, 0, NULL);
            INSERT INTO idempotency VALUES ('p', 'invoke', 'k', 'h', 'r', 0);
            """
        )
    connection.close()

    async def scenario(saver: Saver) -> None:
        assert await value(saver, await put(saver, at(), {"c": LONG})) == LONG

    with_saver(tmp_path, scenario)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        assert connection.execute("SELECT status, holder, fence FROM threads").fetchall() == [
            ("idle", None, 4)
        ]
        assert connection.execute("SELECT status FROM questions").fetchall() == [("cancelled",)]
        assert connection.execute("SELECT count(*) FROM idempotency").fetchall() == [(0,)]
        assert connection.execute("PRAGMA user_version").fetchall() == [(2,)]
    connection.close()
