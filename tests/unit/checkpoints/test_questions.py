"""Questions on both databases: each is answered once, or withdrawn, or expires."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints.errors import AlreadyAnswered, NotWaiting, QuestionOpen, ThreadBusy
from checkpoints.idempotency import Finished
from checkpoints.opening import open_database
from checkpoints.questions import EXPIRED, Question
from checkpoints.runs import Answer, Run
from checkpoints.stores import Stores
from tests.databases import Place
from tests.unit.checkpoints.rows import (
    ASKED,
    MANY,
    all_at_once,
    answer,
    begin,
    new_run,
    waiting,
    with_stores,
    withdraw,
)

OTHER = Question("call_2", "interrupt_2", "question", "And?")
STRANGE = "nul \0, half a pair \ud83d"


def test_an_answer_is_taken_once(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores)
        with pytest.raises(QuestionOpen):
            await begin(stores, "r2")
        with pytest.raises(NotWaiting, match="Open are: call_1"):
            await answer(stores, call_id="call_9")
        resumed = await answer(stores)
        with pytest.raises(ThreadBusy):
            await answer(stores, "r3")
        with pytest.raises(AlreadyAnswered):
            await answer(stores, "r3", "y")
        await stores.runs.settle(resumed, b"done", "idle")
        again = await stores.runs.answer(new_run("r3"), Answer("call_1", "x", "p"))
        assert again == Finished(b"done")
        [question] = await stores.questions.all("t")
        assert (question.status, question.answer) == ("answered", "x")

    with_stores(place, scenario)


def test_of_many_different_answers_at_once_one_wins(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores)
        tries = [stores.runs.answer(new_run(f"a{n}"), Answer("call_1", f"{n}", "p")) for n in range(MANY)]
        begun, failed = await all_at_once(tries)
        [run] = begun
        assert isinstance(run, Run)
        assert len(failed) == MANY - 1
        assert {type(error) for error in failed} <= {AlreadyAnswered, ThreadBusy}
        [question] = await stores.questions.all("t")
        assert question.answer == run.run_id.removeprefix("a")

    with_stores(place, scenario)


def test_the_same_answer_many_times_at_once_is_one_run(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores)
        tries = [stores.runs.answer(new_run(f"a{n}"), Answer("call_1", "x", "p")) for n in range(MANY)]
        begun, failed = await all_at_once(tries)
        assert len(begun) == 1
        assert [type(error) for error in failed] == [ThreadBusy] * (MANY - 1)

    with_stores(place, scenario)


def test_two_questions_answered_at_once_are_one_run_after_the_other(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores, ASKED, OTHER)
        begun, [refused] = await all_at_once([answer(stores, "a"), answer(stores, "b", call_id="call_2")])
        assert isinstance(refused, ThreadBusy)
        await stores.runs.settle(begun[0], b"asked", "requires_human_input", [ASKED, OTHER])
        [still_open] = await stores.questions.all("t", status="open")
        await answer(stores, "c", call_id=still_open.tool_call_id)

    with_stores(place, scenario)


def test_the_same_strange_answer_is_recognised(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores)
        resumed = await answer(stores, text=STRANGE)
        await stores.runs.settle(resumed, b"done", "idle")
        again = await stores.runs.answer(new_run("r3"), Answer("call_1", STRANGE, "p"))
        assert again == Finished(b"done")

    with_stores(place, scenario)


def test_a_run_that_ends_otherwise_leaves_no_question_open(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores, ASKED, OTHER)
        resumed = await answer(stores)
        await stores.runs.settle(resumed, b"failed", "error")
        assert [q.status for q in await stores.questions.all("t")] == ["answered", "cancelled"]
        with pytest.raises(NotWaiting, match="it was cancelled"):
            await answer(stores, "r3", call_id="call_2")

    with_stores(place, scenario)


def test_questions_keep_the_order_in_which_they_were_asked(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        names = [f"call_{name}" for name in "zbaYX1"]
        await waiting(stores, *(replace(ASKED, tool_call_id=name) for name in names))
        assert [q.tool_call_id for q in await stores.questions.all("t")] == names

    with_stores(place, scenario)


def test_withdrawn_questions_leave_an_idle_thread(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores, ASKED, OTHER)
        withdrawn, failed = await all_at_once([withdraw(stores) for _ in range(MANY)])
        assert (sorted(withdrawn), failed) == ([False] * (MANY - 1) + [True], [])
        assert (await stores.threads.get("p", "t")).status == "idle"
        assert await stores.runs.response("r1") == b"asked, withdrawn"
        assert [event.kind for event in await stores.log.after("t", 0)] == ["cancelled"] * 2
        assert [q.status for q in await stores.questions.all("t")] == ["cancelled"] * 2
        await begin(stores, "r2")

    with_stores(place, scenario)


def test_an_answer_and_a_withdrawal_at_once_do_not_both_happen(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        for number in range(8):
            run = await begin(stores, f"r{number}", f"t{number}")
            await stores.runs.settle(run, b"asked", "requires_human_input", [ASKED])
        answers = [
            stores.runs.answer(new_run(f"a{n}", f"t{n}"), Answer("call_1", "x", "p")) for n in range(8)
        ]
        withdrawals = [withdraw(stores, f"t{n}") for n in reversed(range(8))]
        (begun, refused), (withdrawn, failed) = await asyncio.gather(
            all_at_once(answers), all_at_once(withdrawals)
        )
        assert failed == []
        assert {type(error) for error in refused} <= {NotWaiting}
        assert len(begun) + sum(withdrawn) == 8

    with_stores(place, scenario)


def test_a_thread_that_waits_for_nothing_takes_an_instruction(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.runs.settle(run, b"asked", "requires_human_input")
        again = await begin(stores, "r2")
        assert (again.kind, again.fence) == ("invoke", run.fence + 1)

    with_stores(place, scenario)


def test_only_questions_whose_time_is_over_expire(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        now = time.time()
        for thread, expires_at in (("over", now - 1), ("later", now + 3600), ("never", None)):
            run = await begin(stores, thread, thread)
            question = replace(ASKED, expires_at=expires_at)
            await stores.runs.settle(run, b"asked", "requires_human_input", [question])
        assert await stores.questions.expired() == [("p", "over")]
        assert await withdraw(stores, "over", status="expired")
        assert await stores.questions.expired() == []
        with pytest.raises(NotWaiting, match="it has expired"):
            await stores.runs.answer(new_run("late", "over"), Answer("call_1", "x", "p"))
        assert (await stores.threads.get("p", "over")).status == "idle"
        assert (await stores.threads.get("p", "later")).status == "requires_human_input"

    with_stores(place, scenario)


def test_what_expired_is_found_without_going_through_what_waits(tmp_path: Path) -> None:
    async def plan() -> str:
        async with open_database(tmp_path / "state.db") as database, database.read() as connection:
            compiled = EXPIRED.compile(dialect=connection.dialect)
            values = tuple((compiled.params | {"now": 1.0})[name] for name in compiled.positiontup or ())
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)
            return " ".join(row.detail for row in rows)

    steps = asyncio.run(plan())
    assert "questions_by_expiry" in steps
    assert "threads_by_status" not in steps
    assert "SCAN" not in steps
