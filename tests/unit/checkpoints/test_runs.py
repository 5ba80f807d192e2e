"""Runs on both databases: who gets the thread, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.errors import LeaseLost, StateDamaged, ThreadBusy, ThreadNotFound
from checkpoints.events import NewEvent
from checkpoints.graph_tables import GRAPH_TABLES
from checkpoints.idempotency import IdempotencyKey
from checkpoints.journal import Intent
from checkpoints.questions import Question
from checkpoints.runs import Answer, NewThread, Run
from checkpoints.stores import Stores
from checkpoints.tables import idempotency, metadata, runs, threads
from tests.databases import Place
from tests.unit.checkpoints.rows import (
    ASKED,
    MANY,
    all_at_once,
    answer,
    begin,
    new_run,
    try_begin,
    waiting,
    with_stores,
    withdraw,
)

TOLD = [NewEvent("r1", "told", b"{}")]
STRANGE = "nul \0, half a pair \ud83d, the other half \ude00"
REPLACED = "nul \ufffd, half a pair ?, the other half ?"


def test_one_begin_of_many_at_once_wins_a_new_thread(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        begun, failed = await all_at_once([try_begin(stores, new_run(f"r{n}")) for n in range(MANY)])
        [run] = begun
        assert isinstance(run, Run)
        assert [type(error) for error in failed] == [ThreadBusy] * (MANY - 1)
        latest = await stores.runs.latest("t")
        assert latest is not None and latest.run_id == run.run_id

    with_stores(place, scenario)


def test_many_threads_begin_at_once(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        begun, failed = await all_at_once(
            [try_begin(stores, new_run(f"r{n}", f"t{n}")) for n in range(MANY)],
        )
        assert (len(begun), failed) == (MANY, [])

    with_stores(place, scenario)


def test_threads_of_others_are_not_there(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await waiting(stores)
        for attempt in (
            begin(stores, "r2", principal="q"),
            stores.runs.answer(new_run("r2", principal="q"), Answer("call_1", "x", "q")),
            withdraw(stores, principal="q"),
            stores.threads.get("q", "t"),
            stores.threads.forget("q", "t"),
        ):
            with pytest.raises(ThreadNotFound):
                await attempt
        assert await stores.threads.list("q") == []

    with_stores(place, scenario)


def test_many_principals_cannot_share_a_name(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        tries = [try_begin(stores, new_run(f"r{n}", principal=f"p{n}")) for n in range(MANY)]
        begun, failed = await all_at_once(tries)
        assert len(begun) == 1
        assert [type(error) for error in failed] == [ThreadNotFound] * (MANY - 1)

    with_stores(place, scenario)


def test_a_settled_run_is_told_of_once(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        assert await stores.runs.response("r1") is None
        await stores.runs.settle(run, b"asked", "requires_human_input", [ASKED], TOLD)
        before = await stores.threads.get("p", "t")
        other = Question("call_2", "interrupt_2", "question", "And?")
        await stores.runs.settle(run, b"else", "error", [other], TOLD)
        assert await stores.runs.response("r1") == await stores.runs.last_response("t") == b"asked"
        assert await stores.threads.get("p", "t") == before
        assert [q.tool_call_id for q in await stores.questions.all("t")] == ["call_1"]
        assert [event.seq for event in await stores.log.after("t", 0)] == [1]

    with_stores(place, scenario)


def test_a_run_settled_many_times_at_once_is_told_of_once(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        settled, failed = await all_at_once(
            [stores.runs.settle(run, b"%d" % n, "idle", (), TOLD) for n in range(MANY)]
        )
        assert (len(settled), failed) == (MANY, [])
        assert len(await stores.log.after("t", 0)) == 1

    with_stores(place, scenario)


def test_whoever_stops_waiting_does_not_stop_what_was_asked_for(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        settling = asyncio.create_task(stores.runs.settle(run, b"done", "idle", (), TOLD))
        await asyncio.sleep(0)
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
        async with asyncio.timeout(10):
            while (await stores.threads.get("p", "t")).status != "idle":  # noqa: ASYNC110 - a row changes
                await asyncio.sleep(0.01)
        assert await stores.runs.response("r1") == b"done"

    with_stores(place, scenario)


def test_a_turn_goes_through_its_resumes(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        first = await waiting(stores)
        resumed = await answer(stores)
        assert (resumed.kind, resumed.turn_id, resumed.instruction) == ("resume", "r1", "do it")
        assert resumed.fence == first.fence + 1
        assert await stores.runs.latest("t") == resumed
        assert await stores.runs.request("t", "r1") == b"{}"

    with_stores(place, scenario)


def test_who_lost_the_thread_does_not_accept_its_project(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        with pytest.raises(LeaseLost):
            await stores.threads.accept_project("t", run.fence - 1, "late")
        assert (await stores.threads.get("p", "t")).project_identity is None
        await stores.threads.accept_project("t", run.fence, "in time")
        assert (await stores.threads.get("p", "t")).project_identity == "in time"

    with_stores(place, scenario)


def test_a_run_whose_row_is_gone_is_damage(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await begin(stores)

        async def damage(connection: AsyncConnection) -> None:
            await connection.execute(update(threads).values(lease_until=0.0))
            await connection.execute(delete(runs))

        await stores.database.write(damage)
        with pytest.raises(StateDamaged, match="its latest run is missing"):
            await stores.runs.take_over("t")

    with_stores(place, scenario)


def test_threads_are_listed_latest_first(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        names = ["b", "B", "a", "_", "ä", "A-1"]
        for number, name in enumerate(names):
            run = await begin(stores, f"r{number}", name)
            await stores.runs.settle(run, b"{}", "idle")
        everything = await stores.threads.list("p")
        found: list[str] = []
        after = None
        while page := await stores.threads.list("p", limit=2, after=after):
            found += [each.thread_id for each in page]
            after = (page[-1].updated_at, page[-1].thread_id)
        assert found == [each.thread_id for each in everything]
        assert sorted(found) == sorted(names)
        assert [t.thread_id for t in await stores.threads.list("p", status="idle")] == found
        assert await stores.threads.list("p", status="running") == []

    with_stores(place, scenario)


def test_text_that_no_database_takes_is_replaced(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        begun = await stores.runs.begin(new_run(), STRANGE, NewThread(STRANGE, None, None))
        assert isinstance(begun, Run)
        question = replace(ASKED, question=STRANGE, options=(STRANGE,), preview=STRANGE)
        await stores.journal.begin(begun, Intent("call_0", STRANGE))
        await stores.journal.finish(begun, "call_0", result=STRANGE)
        await stores.runs.settle(begun, b"asked", "requires_human_input", [question])
        thread = await stores.threads.get("p", "t")
        [asked] = await stores.questions.all("t")
        latest = await stores.runs.latest("t")
        effect = await stores.journal.get("t", "call_0")
        assert latest is not None and effect is not None
        assert [thread.title, asked.question, asked.preview, latest.instruction, effect.result] == [
            REPLACED
        ] * 5
        assert asked.options == (STRANGE,)  # as JSON, which has escapes for it

    with_stores(place, scenario)


def test_forgetting_a_thread_leaves_nothing_of_it_but_keys(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        key = IdempotencyKey("invoke", "k", "hash")
        run = await try_begin(stores, new_run(key=key, events=TOLD))
        assert isinstance(run, Run)
        await stores.journal.begin(run, Intent("call_1", "{}", "a", b"before", b"after"))
        with pytest.raises(ThreadBusy):
            await stores.threads.forget("p", "t")
        await stores.runs.settle(run, b"{}", "requires_human_input", [ASKED])
        await stores.threads.forget("p", "t")
        async with stores.database.read() as connection:
            for table in (*metadata.sorted_tables, *GRAPH_TABLES):
                count = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                assert (table.name, count) == (table.name, 1 if table is idempotency else 0)
        await stores.log.add("t", TOLD)
        assert await stores.log.after("t", 0) == []
        with pytest.raises(ThreadNotFound):
            await stores.threads.forget("p", "t")

    with_stores(place, scenario)


COMPETE = """
import asyncio, sys
from pathlib import Path
from checkpoints.errors import ThreadBusy
from checkpoints.opening import open_database
from checkpoints.runs import NewRun, NewThread
from checkpoints.stores import Stores

async def main(kind, where):
    async with open_database(Path(where) if kind == "sqlite" else where) as database:
        stores = Stores.on(database)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for number in range(40):
            new = NewRun("p", f"t{number}", f"theirs{number}", b"{}")
            try:
                await stores.runs.begin(new, "do it", NewThread("title", None, None))
            except ThreadBusy:
                continue
            print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def test_of_two_processes_one_gets_the_thread(place: Place) -> None:
    kind = "sqlite" if isinstance(place, Path) else "postgresql"
    command = [sys.executable, "-c", COMPETE, kind, str(place)]
    rival = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def scenario(stores: Stores) -> None:
        assert rival.stdin is not None and rival.stdout is not None
        assert await asyncio.to_thread(rival.stdout.readline) == "ready\n"
        rival.stdin.write("go\n")
        rival.stdin.flush()
        tries = [try_begin(stores, new_run(f"mine{n}", f"t{n}")) for n in reversed(range(40))]
        mine, failed = await all_at_once(tries)
        theirs = {int(line) for line in await asyncio.to_thread(rival.stdout.readlines)}
        assert {type(error) for error in failed} <= {ThreadBusy}
        won = {int(run.run_id.removeprefix("mine")) for run in mine if isinstance(run, Run)}
        assert (won | theirs, won & theirs) == (set(range(40)), set())

    with rival:
        with_stores(place, scenario)
    assert rival.returncode == 0
