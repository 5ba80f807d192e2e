"""Claims, answers and outcomes, on a real SQLite file."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from checkpoints.database import Database
from checkpoints.errors import (
    AlreadyAnswered,
    DatabaseUnusable,
    KeyReused,
    LeaseLost,
    NotWaiting,
    QuestionOpen,
    ThreadBusy,
    ThreadNotFound,
)
from checkpoints.owner import is_alive, this_process
from checkpoints.questions import Question
from checkpoints.runs import Finished, IdempotencyKey, NewThread, Run
from checkpoints.stores import Stores

NEW = NewThread("title", None, None)
ASKED = Question("call_1", "interrupt_1", "question", "Which?")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Stores]:
    async with Database.open(path / "state.db") as database:
        yield Stores.on(database)


def with_stores(tmp_path: Path, scenario: Callable[[Stores], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(tmp_path) as stores:
            await scenario(stores)

    asyncio.run(run())


async def begin(stores: Stores, thread: str = "t", run: str = "r1", principal: str = "p") -> Run:
    begun = await stores.runs.begin(principal, thread, run, b"{}", NEW)
    assert isinstance(begun, Run)
    return begun


def test_one_claim_of_many_at_once_wins(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        tries = [stores.runs.begin("p", "t", f"r{n}", b"{}", NEW) for n in range(8)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(each, Run) for each in results) == 1
        assert sum(isinstance(each, ThreadBusy) for each in results) == 7

    with_stores(tmp_path, scenario)


def test_threads_of_others_are_not_there(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.runs.settle(run, b"{}", "requires_human_input", [ASKED])
        for attempt in (
            stores.runs.begin("q", "t", "r2", b"{}", NEW),
            stores.runs.answer("q", "t", "r2", b"{}", "call_1", "x", "q"),
            stores.runs.cancel_questions("q", "t", "q", lambda response: response),
            stores.threads.get("q", "t"),
            stores.runs.forget("q", "t"),
        ):
            with pytest.raises(ThreadNotFound):
                await attempt

    with_stores(tmp_path, scenario)


def test_an_answer_is_taken_once(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        first = await begin(stores)
        await stores.runs.settle(first, b"asked", "requires_human_input", [ASKED])
        with pytest.raises(QuestionOpen):
            await begin(stores, run="r2")
        with pytest.raises(NotWaiting):
            await stores.runs.answer("p", "t", "r2", b"{}", "call_9", "x", "p")
        resumed = await stores.runs.answer("p", "t", "r2", b"{}", "call_1", "x", "p")
        assert isinstance(resumed, Run)
        assert (resumed.turn_id, resumed.fence) == ("r1", first.fence + 1)
        with pytest.raises(ThreadBusy):
            await stores.runs.answer("p", "t", "r3", b"{}", "call_1", "x", "p")
        with pytest.raises(AlreadyAnswered):
            await stores.runs.answer("p", "t", "r3", b"{}", "call_1", "y", "p")
        await stores.runs.settle(resumed, b"done", "idle")
        assert await stores.runs.answer("p", "t", "r3", b"{}", "call_1", "x", "p") == Finished(b"done")
        [question] = await stores.questions.all("t")
        assert (question.status, question.answer) == ("answered", "x")

    with_stores(tmp_path, scenario)


def test_a_run_that_ends_otherwise_leaves_no_question_open(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        other = Question("call_2", "interrupt_2", "question", "And?")
        run = await begin(stores)
        await stores.runs.settle(run, b"asked", "requires_human_input", [ASKED, other])
        resumed = await stores.runs.answer("p", "t", "r2", b"{}", "call_1", "x", "p")
        assert isinstance(resumed, Run)
        await stores.runs.settle(resumed, b"failed", "error")
        assert [q.status for q in await stores.questions.all("t")] == ["answered", "cancelled"]

    with_stores(tmp_path, scenario)


def test_an_idempotency_key_belongs_to_one_request(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        key = IdempotencyKey("invoke", "k", "hash")
        run = await stores.runs.begin("p", "t", "r1", b"{}", NEW, key)
        assert isinstance(run, Run)
        with pytest.raises(ThreadBusy):
            await stores.runs.begin("p", "t", "r2", b"{}", NEW, key)
        with pytest.raises(KeyReused):
            await stores.runs.begin("p", "u", "r2", b"{}", NEW, IdempotencyKey("invoke", "k", "other"))
        await stores.runs.settle(run, b"done", "idle")
        assert await stores.runs.begin("p", "t", "r2", b"{}", NEW, key) == Finished(b"done")
        assert isinstance(await stores.runs.begin("q", "u", "r3", b"{}", NEW, key), Run)

    with_stores(tmp_path, scenario)


def test_whoever_lost_the_thread_can_write_nothing(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        stale = await begin(stores)
        await stores.runs.settle(stale, b"done", "idle")
        current = await begin(stores, run="r2")
        with pytest.raises(LeaseLost):
            await stores.runs.settle(stale, b"late", "idle")
        with pytest.raises(LeaseLost):
            await stores.journal.begin(stale, "call_1", "{}", "a", None, b"x")
        assert await stores.journal.get("t", "call_1") is None
        await stores.journal.begin(current, "call_1", "{}", "a", None, b"x")
        assert await stores.runs.response("r1") == b"done"

    with_stores(tmp_path, scenario)


CLAIM_AND_DIE = """
import asyncio, os, sys
from pathlib import Path
from checkpoints.database import Database
from checkpoints.runs import NewThread
from checkpoints.stores import Stores

async def main():
    async with Database.open(Path(sys.argv[1]) / "state.db") as database:
        stores = Stores.on(database)
        await stores.runs.begin("p", "t", "r1", b"{}", NewThread("title", None, None))
        os._exit(137)

asyncio.run(main())
"""


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CLAIM_AND_DIE, str(tmp_path)], check=False)

    async def scenario(stores: Stores) -> None:
        mine = await begin(stores, thread="mine", run="r9")
        [taken] = await stores.runs.take_over_abandoned()
        assert (taken.thread_id, taken.run_id, taken.kind, taken.fence) == ("t", "r1", "invoke", 2)
        assert await stores.runs.take_over_abandoned() == []
        await stores.runs.settle(taken, b"done", "idle")
        await stores.runs.settle(mine, b"done", "idle")

    with_stores(tmp_path, scenario)


def test_owners_are_told_apart() -> None:
    mine = this_process()
    assert is_alive(mine)
    boot, pid, start = mine.split(":")
    assert not is_alive(f"{boot}:{pid}:{start}1")
    assert not is_alive(f"other-boot:{pid}:{start}")
    assert not is_alive(f"{boot}:999999999:{start}")
    assert not is_alive("")


def test_net_changes_of_files(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        steps = [
            ("a", None, b"1"),
            ("a", b"1", b"2"),
            ("b", b"x", b"y"),
            ("b", b"y", b"x"),
            ("c", b"z", None),
        ]
        for number, (path, before, after) in enumerate(steps):
            await stores.journal.begin(run, f"call_{number}", "{}", path, before, after)
            await stores.journal.finish("t", f"call_{number}")
        await stores.journal.begin(run, "call_x", "{}", "void", None, b"1")
        await stores.journal.finish("t", "call_x", state="void")
        changes = {c.path: (c.before, c.after) for c in await stores.journal.changes("t")}
        assert changes == {"a": (None, b"2"), "c": (b"z", None)}

    with_stores(tmp_path, scenario)


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    with_stores(tmp_path, lambda _: asyncio.sleep(0))
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(DatabaseUnusable, match="newer version"):
        with_stores(tmp_path, lambda _: asyncio.sleep(0))


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(DatabaseUnusable, match="cannot be used"):
        with_stores(tmp_path, lambda _: asyncio.sleep(0))


def test_forgetting_a_thread_leaves_nothing_of_it(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.journal.begin(run, "call_1", "{}", "a", b"before", b"after")
        with pytest.raises(ThreadBusy):
            await stores.runs.forget("p", "t")
        await stores.runs.settle(run, b"{}", "requires_human_input", [ASKED])
        await stores.runs.forget("p", "t")
        assert await stores.questions.all("t") == []
        assert await stores.journal.changes("t") == []
        assert await stores.threads.list("p") == []

    with_stores(tmp_path, scenario)
