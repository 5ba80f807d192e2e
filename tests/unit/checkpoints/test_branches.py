"""Looking through a history, going back in it and forking it, on both databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.types import INTERRUPT
from sqlalchemy import event, func, select

from checkpoints.branches import STATE, Branches
from checkpoints.errors import CheckpointNotFound, LeaseLost, NotWaiting, ThreadBusy, ThreadNotFound
from checkpoints.events import NewEvent, StoredEvent
from checkpoints.graph_tables import GRAPH_TABLES
from checkpoints.history import History
from checkpoints.idempotency import Finished, IdempotencyKey
from checkpoints.journal import Intent, Span, spans
from checkpoints.opening import open_database
from checkpoints.questions import Question
from checkpoints.runs import Answer, Run
from checkpoints.sqlite import SqliteDatabase
from checkpoints.stores import Stores
from tests.databases import Place
from tests.unit.checkpoints.rows import ASKED, answer, begin, new_run
from tests.unit.checkpoints.savers import Saver, at, id_of

MESSAGES = [HumanMessage(f"{number} " + "x" * 300, id=str(number)) for number in range(40)]
GATE = Question("project_1", "", "approval", "Go on?")


@dataclass
class Past:
    """A thread `t` whose checkpoints hold one message more each."""

    stores: Stores
    saver: Saver
    history: History
    branches: Branches
    run: Run
    checkpoints: list[str]

    async def rewind(self, place: int, run_id: str = "back") -> Run | Finished:
        return await self.stores.runs.rewind(new_run(run_id), self.checkpoints[place], "back", told)

    async def fork(self, place: int | None = None, **fields: Any) -> Finished | None:
        name = None if place is None else self.checkpoints[place]
        return await self.branches.fork(new_run("f", "fork", **fields), "t", name, shown, begun)


def told(run_id: str, tool_call_id: str) -> NewEvent:
    return NewEvent(run_id, "closed", tool_call_id.encode())


def begun(response: bytes) -> list[NewEvent]:
    return [NewEvent("f", "run.finished", b"{}")]


def shown(stored: bytes | None, open_ids: Any) -> bytes:
    return b"%b %b" % (stored or b"-", ",".join(open_ids).encode())


def with_past(
    place: Place, scenario: Callable[[Past], Awaitable[None]], *, length: int = len(MESSAGES)
) -> None:
    async def play() -> None:
        async with open_database(place) as database:
            stores, saver = Stores.on(database), Saver(database)
            run = await begin(stores)
            names, config = [], at(fence=run.fence)
            for number in range(length):
                config = await saver.save(
                    config, {"messages": MESSAGES[: number + 1]}, step=number, run_id=run.run_id
                )
                names.append(id_of(config))
            history, branches = History(database, saver.serde), Branches(database, stores.log, saver.serde)
            await scenario(Past(stores, saver, history, branches, run, names))

    asyncio.run(play())


def test_a_page_of_history(place: Place) -> None:
    async def scenario(past: Past) -> None:
        found = await past.history.page("t", "messages", limit=3)
        assert [each.checkpoint_id for each in found] == past.checkpoints[:-4:-1]
        assert [each.parent_id for each in found] == past.checkpoints[-2:-5:-1]
        assert [(each.step, each.length) for each in found] == [(39, 40), (38, 39), (37, 38)]
        assert [each.last for each in found] == MESSAGES[:-4:-1]
        assert {each.run_id for each in found} == {"r1"}
        older = await past.history.page("t", "messages", limit=100, before=past.checkpoints[2])
        assert [each.length for each in older] == [2, 1]
        assert await past.history.page("other", "messages", limit=1) == []
        assert [each.length for each in await past.history.page("t", "none", limit=1)] == [0]

    with_past(place, scenario)


def test_a_page_reads_the_last_messages_only(tmp_path: Any) -> None:
    async def scenario(past: Past) -> None:
        database = past.stores.database
        assert isinstance(database, SqliteDatabase)
        read: list[int] = []

        def count(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            if "FROM items" in statement:
                read.append(len(parameters) - 1)

        event.listen(database._reader.sync_engine, "before_cursor_execute", count)
        await past.history.page("t", "messages", limit=10)
        assert sum(read) < 10 + len(MESSAGES) / 3, "the last ones, and the nodes above"

    with_past(tmp_path / "state.db", scenario)


def test_back_and_forth(place: Place) -> None:
    async def scenario(past: Past) -> None:
        await past.stores.runs.settle(past.run, b"done", "idle")
        run = await past.rewind(10)
        assert isinstance(run, Run)
        assert run.kind == "rewind"
        for _ in range(2):  # whoever takes the run up does it once more
            await past.branches.go_back(run, past.checkpoints[10], files=True)
        newest, before, *_ = await past.history.page("t", "messages", limit=50)
        assert (newest.length, newest.parent_id, newest.run_id) == (11, past.checkpoints[10], "back")
        assert before.checkpoint_id == past.checkpoints[-1]
        assert await past.saver.value(at(), "messages") == MESSAGES[:11]
        await past.stores.runs.settle(run, b"back", "idle")
        on = await past.saver.save(
            at(checkpoint_id=newest.checkpoint_id), {"messages": [*MESSAGES[:11], MESSAGES[-1]]}
        )
        assert (await past.saver.value(on, "messages"))[-1] == MESSAGES[-1]
        assert await past.saver.value(at(checkpoint_id=past.checkpoints[-1]), "messages") == MESSAGES
        with pytest.raises(CheckpointNotFound):
            await past.stores.runs.rewind(new_run("x"), "no-such", "back", told)
        with pytest.raises(LeaseLost):
            await past.branches.go_back(past.run, past.checkpoints[0], files=True)

    with_past(place, scenario)


def test_what_was_pending_is_not_in_the_copy(place: Place) -> None:
    async def scenario(past: Past) -> None:
        await past.stores.runs.settle(past.run, b"done", "idle")
        here = at(checkpoint_id=past.checkpoints[0])
        await past.saver.aput_writes(here, [(INTERRUPT, "?")], "task")
        run = await past.rewind(0)
        assert isinstance(run, Run)
        await past.branches.go_back(run, past.checkpoints[0], files=True)
        assert await past.saver.pending(at()) == []
        assert len(await past.saver.pending(here)) == 1

    with_past(place, scenario, length=2)


@pytest.mark.parametrize("asked", [False, True])
def test_what_was_finished_beside_a_question_is_known_in_the_copy(place: Place, asked: bool) -> None:
    async def scenario(past: Past) -> None:
        await past.stores.runs.settle(past.run, b"done", "idle")
        here = at(checkpoint_id=past.checkpoints[0])
        for task in ("1", "2"):
            written = [("messages", [MESSAGES[2]]), ("outbox", []), ("branch:to:next", None)]
            await past.saver.aput_writes(here, written, task, task)
        if asked:
            await past.saver.aput_writes(here, [(INTERRUPT, "?")], "3", "3")
            await past.saver.aput_writes(here, [("messages", [MESSAGES[3]])], "3", "3")  # answered since
        known = [(STATE, "messages", [MESSAGES[2]])] * 2 if asked else []
        back = past.checkpoints[0]
        for run_id in ("once", "twice"):  # the second time to the copy
            run = await past.stores.runs.rewind(new_run(run_id), back, "back", told)
            assert isinstance(run, Run)
            await past.branches.go_back(run, back, files=False)
            assert await past.saver.pending(at()) == known
            await past.stores.runs.settle(run, b"done", "idle")
            back = (await past.history.page("t", "messages", limit=1))[0].checkpoint_id

    with_past(place, scenario, length=2)


def test_a_rewind_closes_questions_and_wants_a_thread_at_rest(place: Place) -> None:
    async def scenario(past: Past) -> None:
        with pytest.raises(ThreadBusy):
            await past.rewind(0)
        await past.stores.runs.settle(past.run, b"asked", "requires_human_input", [ASKED])
        with pytest.raises(ThreadNotFound):
            await past.stores.runs.rewind(new_run("x", principal="q"), past.checkpoints[0], "", told)
        run = await past.rewind(0)
        assert isinstance(run, Run)
        assert [q.status for q in await past.stores.questions.all("t")] == ["cancelled"]
        assert [e.data for e in await past.stores.log.after("t", 0)] == [b"call_1"]
        with pytest.raises(NotWaiting):
            await past.stores.runs.answer(new_run("x"), Answer("call_1", "x", "p"))

    with_past(place, scenario, length=2)


def test_a_fork_of_a_waiting_thread_has_questions_of_its_own(place: Place) -> None:
    async def scenario(past: Past) -> None:
        await past.stores.runs.settle(past.run, b"asked", "requires_human_input", [ASKED, GATE])
        await past.saver.aput_writes(at(checkpoint_id=past.checkpoints[-1]), [(INTERRUPT, "?")], "task")
        assert await past.fork() is None
        made = await past.stores.threads.get("p", "fork")
        assert (made.status, made.title, made.fence, made.run_id) == (
            "requires_human_input",
            "title (fork)",
            0,
            "f",
        )
        assert await past.stores.runs.response("f") == b"asked call_1"
        assert [q.tool_call_id for q in await past.stores.questions.all("fork")] == ["call_1"]
        assert await past.saver.value(at("fork"), "messages") == MESSAGES
        assert len(await past.saver.pending(at("fork"))) == 1
        resumed = await past.stores.runs.answer(new_run("f2", "fork"), Answer("call_1", "x", "p"))
        assert isinstance(resumed, Run)
        assert (resumed.turn_id, await past.stores.runs.request("fork", resumed.turn_id)) == ("r1", None)
        await answer(past.stores, "r2", "y")

    with_past(place, scenario)


def test_whoever_listens_hears_of_a_fork_once(place: Place) -> None:
    async def scenario(past: Past) -> None:
        heard: list[StoredEvent] = []
        await past.stores.runs.settle(past.run, b"{}", "idle")
        past.stores.log.listen(heard.append)
        key = IdempotencyKey("fork", "k", "hash")
        await past.fork(key=key)
        assert await past.fork(key=key) == Finished(b"{} ")
        assert heard == [StoredEvent("fork", 1, "f", "run.finished", b"{}")]

    with_past(place, scenario, length=1)


def test_a_fork_where_only_the_project_is_asked_about_is_idle(place: Place) -> None:
    async def scenario(past: Past) -> None:
        await past.stores.runs.settle(past.run, b"asked", "requires_human_input", [GATE])
        await past.fork()
        assert (await past.stores.threads.get("p", "fork")).status == "idle"
        assert await past.stores.runs.response("f") == b"- "

    with_past(place, scenario, length=2)


def test_a_fork_from_the_middle_has_nothing_of_what_came_later(place: Place) -> None:
    async def scenario(past: Past) -> None:
        await past.stores.runs.settle(past.run, b"asked", "requires_human_input", [ASKED])
        await past.saver.aput_writes(at(checkpoint_id=past.checkpoints[4]), [("c", "later")], "task")
        whole = await past.saver.rows("t")
        await past.fork(4)
        assert (await past.stores.threads.get("p", "fork")).status == "idle"
        assert await past.stores.questions.all("fork") == []
        assert await past.saver.history(at("fork")) == past.checkpoints[4::-1]
        assert await past.saver.value(at("fork"), "messages") == MESSAGES[:5]
        assert await past.saver.pending(at("fork")) == []
        copied = await past.saver.rows("fork")
        assert copied["items"] < whole["items"] / 4
        assert await past.saver.rows("t") == whole
        await past.stores.threads.forget("p", "t")
        assert await past.saver.value(at("fork"), "messages") == MESSAGES[:5]

    with_past(place, scenario)


def test_a_fork_that_cannot_be_leaves_nothing(place: Place) -> None:
    async def scenario(past: Past) -> None:
        with pytest.raises(ThreadBusy):
            await past.fork()
        await past.stores.runs.settle(past.run, b"done", "idle")
        with pytest.raises(ThreadNotFound):
            await past.fork(principal="q")
        with pytest.raises(CheckpointNotFound):
            await past.branches.fork(new_run("f", "fork"), "t", "no-such", shown, begun)
        async with past.stores.database.read() as connection:
            for table in GRAPH_TABLES:
                query = select(func.count()).where(table.c.thread_id == "fork")
                assert (await connection.execute(query)).scalar_one() == 0
        key = IdempotencyKey("fork", "k", "hash")
        assert await past.fork(key=key) is None
        again = await past.branches.fork(new_run("g", "fork2", key=key), "t", None, shown, begun)
        assert again == Finished(b"done ")

    with_past(place, scenario, length=2)


def test_each_checkpoint_of_a_run_knows_how_far_the_effects_had_come(place: Place) -> None:
    async def scenario(past: Past) -> None:
        journal, config = past.stores.journal, at(fence=past.run.fence)

        async def effect(run: Run, call_id: str) -> int:
            await journal.begin(run, Intent(call_id, ""))
            return await journal.latest_of("t", {call_id})

        async def noted(checkpoint_id: str, thread_id: str = "t") -> int | None:
            return (await past.history.moment(thread_id, checkpoint_id)).latest_effect

        assert await noted(past.checkpoints[0]) == 0
        first = await effect(past.run, "w1")
        later = id_of(await past.saver.save(config, {"messages": MESSAGES[:3]}, step=2, run_id="r1"))
        within = at(namespace="inner:1", fence=past.run.fence)
        await past.saver.save(within, {"c": 1}, effects="its own")
        assert await noted(later) == first
        found = await past.saver.aget_tuple(at(namespace="inner:1"))
        assert found is not None and found.metadata.get("effects") == "its own"
        second = await effect(past.run, "w2")
        await past.stores.runs.settle(past.run, b"", "idle")
        for files, run_id in ((True, "with"), (False, "without")):
            run = await past.stores.runs.rewind(new_run(run_id), later, "back", told)
            assert isinstance(run, Run)
            second = await effect(run, run_id)
            await past.branches.go_back(run, later, files=files)
            copy = (await past.history.page("t", "messages", limit=1))[0].checkpoint_id
            assert await noted(copy) == (first if files else second)
            await past.stores.runs.settle(run, b"", "idle")
        await past.branches.fork(new_run("f", "fork"), "t", None, shown, begun)
        for each in await past.saver.history(at("fork")):
            assert await noted(each, "fork") == 0
        with pytest.raises(CheckpointNotFound):
            await past.history.moment("t", "no-such")

    with_past(place, scenario, length=2)


def test_the_effects_since_a_moment(place: Place) -> None:
    async def scenario(past: Past) -> None:
        journal = past.stores.journal

        async def change(call_id: str, path: str | None, before: bytes | None, after: bytes | None) -> None:
            await journal.begin(past.run, Intent(call_id, "", path, before, after))
            await journal.finish(past.run, call_id)

        await change("w1", "a", None, b"1")
        await change("w2", "b", None, b"1")
        await change("c1", None, None, None)
        await change("w3", "a", b"1", b"2")
        await change("own_1", "b", b"1", b"9")
        await change("w4", "a", b"2", None)
        await journal.begin(past.run, Intent("w5", "", "c", None, b"1"))

        async def since(*answered: str) -> list[Span]:
            return spans(await journal.writes("t", after=await journal.latest_of("t", answered)))

        async def contents(found: list[Span]) -> list[tuple[Any, ...]]:
            assert all(each.unbroken for each in found)
            return [(each.path, *await journal.contents("t", each)) for each in found]

        assert await contents(await since()) == [("a", None, None), ("b", None, b"9")]
        assert await contents(await since("w1", "unknown")) == [("b", None, b"9"), ("a", b"1", None)]
        assert await contents(await since("w3", "w1")) == [("b", b"1", b"9"), ("a", b"2", None)]
        assert await since("w4") == []
        assert await journal.call_ids("t") == {"w1", "w2", "c1", "w3", "own_1", "w4", "w5"}
        await change("w6", "a", b"by somebody else", b"3")
        await change("w7", "a", b"3", b"4")
        assert [(each.path, each.unbroken) for each in await since("c1")] == [("a", False), ("b", True)]
        assert [each.unbroken for each in await since("w4")] == [True]

    with_past(place, scenario, length=1)


@pytest.mark.parametrize("status", ["running", "requires_human_input"])
def test_what_began_to_run_or_wait_meanwhile_keeps_its_checkpoints(place: Place, status: str) -> None:
    async def scenario(past: Past) -> None:
        await past.stores.runs.settle(past.run, b"", "idle")
        assert [each.thread_id for each in await past.stores.threads.finished("p")] == ["t"]
        again = await begin(past.stores, "r2")
        if status == "requires_human_input":
            await past.stores.runs.settle(again, b"", "requires_human_input", [ASKED])
        before = await past.saver.rows("t")
        assert await past.history.keep_last("t", 1) == 0
        assert await past.saver.rows("t") == before

    with_past(place, scenario, length=3)


def test_finished_threads_and_those_to_forget(place: Place) -> None:
    async def scenario(past: Past) -> None:
        stores = past.stores
        await stores.runs.settle(past.run, b"", "idle")
        await begin(stores, "r2", "running")
        waits = await begin(stores, "r3", "waits")
        await stores.runs.settle(waits, b"", "requires_human_input", [ASKED])
        await begin(stores, "r4", "others", principal="q")
        later = time.time() + 60
        assert [each.thread_id for each in await stores.threads.finished("p")] == ["t"]
        assert await stores.threads.finished("p", before=later - 120) == []
        for thread_id in ("running", "waits", "others", "unknown"):
            assert not await stores.threads.forget_finished("p", thread_id, later)
        assert not await stores.threads.forget_finished("p", "t", later - 120)
        assert await past.history.keep_last("t", 2) == 1
        assert await past.history.keep_last("t", 2) == 0
        assert await past.history.keep_last("unknown", 2) == 0
        assert await stores.threads.forget_finished("p", "t", later)
        assert set((await past.saver.rows("t")).values()) == {0}

    with_past(place, scenario, length=3)
