"""Leases on both databases: who holds a thread, who may take it over, what a former holder can do."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import update

from checkpoints import leases
from checkpoints.errors import LeaseLost, ThreadBusy
from checkpoints.events import OUTBOX, NewEvent
from checkpoints.journal import Intent
from checkpoints.leases import FENCE, LEASE_SECONDS, Held
from checkpoints.owner import condition, is_of_this_machine, this_process
from checkpoints.runs import Run
from checkpoints.saver import open_saver
from checkpoints.stores import Stores
from checkpoints.tables import threads
from checkpoints.threads import STRANDED_SECONDS
from tests.databases import Place
from tests.unit.checkpoints.rows import ASKED, MANY, all_at_once, begin, with_stores

BOOT, NAMESPACE, PID, START = this_process().split(":")
INIT = "1"
"""A process that runs for as long as we do, and is not ours."""


async def change(stores: Stores, **values: Any) -> None:
    """Make the thread's row say something else."""
    await stores.database.write(
        lambda connection: connection.execute(
            update(threads).where(threads.c.thread_id == "t").values(**values)
        )
    )


async def abandoned(stores: Stores, *performed: str) -> list[str]:
    return await leases.abandoned_threads(stores.database, performed)


async def renew(stores: Stores, *runs: Run) -> dict[str, Held]:
    return await leases.renew(stores.database, {run.thread_id: run.fence for run in runs})


async def take_over(stores: Stores) -> Run:
    taken = await stores.runs.take_over("t")
    assert taken is not None
    return taken


def ended_process() -> str:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


def test_owners_are_told_apart() -> None:
    assert condition(this_process()) == "alive"
    assert condition(f"{BOOT}:{NAMESPACE}:{PID}:{START}1") == "dead"  # its number was given anew
    assert condition(f"{BOOT}:{NAMESPACE}:{ended_process()}:{START}") == "dead"
    assert condition(f"{BOOT}:4026531999:{PID}:{START}") == "unknown"
    assert condition(f"other-boot:{NAMESPACE}:{PID}:{START}") == "unknown"
    for nobody in (None, "", ":::", "nonsense", f"{BOOT}:{NAMESPACE}::"):
        assert condition(nobody) == "dead"
    assert is_of_this_machine(f"{BOOT}:4026531999:1:1")
    assert not is_of_this_machine(f"other-boot:{NAMESPACE}:{PID}:{START}")
    assert not is_of_this_machine(None)


def test_a_process_that_nobody_waited_for_is_dead() -> None:
    command = [sys.executable, "-c", "from checkpoints.owner import this_process; print(this_process())"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    owner = process.stdout.read().strip()  # until it ends; it is a zombie now, or about to be one
    end = time.monotonic() + 10
    while condition(owner) == "alive" and time.monotonic() < end:
        time.sleep(0.01)
    assert condition(owner) == "dead"
    process.communicate()


@pytest.mark.parametrize(
    ("holder", "lease", "is_free"),
    [
        (f"{BOOT}:{NAMESPACE}:{PID}:{START}1", LEASE_SECONDS, True),
        (f"{BOOT}:4026531999:{PID}:{START}", LEASE_SECONDS, False),
        (f"{BOOT}:4026531999:{PID}:{START}", -1, True),
        (f"other-boot:{NAMESPACE}:{PID}:{START}", LEASE_SECONDS, False),
        (f"other-boot:{NAMESPACE}:{PID}:{START}", -1, True),
        (None, LEASE_SECONDS, True),
    ],
    ids=["dead", "other namespace", "other namespace, late", "other boot", "other boot, late", "nobody"],
)
def test_a_thread_is_free_once_nobody_runs_it(
    place: Place, holder: str | None, lease: float, is_free: bool
) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await change(stores, holder=holder, lease_until=time.time() + lease)
        assert await abandoned(stores) == (["t"] if is_free else [])
        taken = await stores.runs.take_over("t")
        assert (taken is not None) == is_free
        if taken is not None:
            assert (taken.run_id, taken.turn_id, taken.kind) == (run.run_id, run.turn_id, run.kind)
            assert (taken.instruction, taken.fence) == (run.instruction, run.fence + 1)
            assert await abandoned(stores) == []
            assert await stores.runs.take_over("t") is None

    with_stores(place, scenario)


def test_a_process_that_was_held_up_goes_on_unless_somebody_was_faster(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await change(stores, lease_until=time.time() - 3600)
        assert await abandoned(stores, "t") == []  # not to us: we are awake again
        assert await renew(stores, run) == {"t": Held(run.fence, False)}
        thread = await stores.threads.get("p", "t")
        assert thread.lease_until is not None
        assert 0 < thread.lease_until - time.time() <= LEASE_SECONDS
        await change(stores, holder="other:1:1:1", fence=run.fence + 1)
        assert await renew(stores, run) == {}

    with_stores(place, scenario)


def test_only_runs_under_way_are_held(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        begun = []
        for name, status in (("a", "idle"), ("b", "requires_human_input"), ("c", "error")):
            begun.append(await begin(stores, name, name))
            await stores.runs.settle(begun[-1], b"{}", status, [ASKED])  # type: ignore[arg-type]
        begun.append(await begin(stores, "d", "d"))
        assert set(await renew(stores, *begun)) == {"d"}

    with_stores(place, scenario)


def test_a_claim_that_its_own_process_never_heard_of_runs_out(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        lost, run = await begin(stores, "lost", "lost"), await begin(stores)
        assert await abandoned(stores, "t") == []  # it may yet be heard of
        assert set(await renew(stores, run)) == {"t"}
        assert (await stores.threads.get("p", "lost")).fence == lost.fence
        moment = update(threads).where(threads.c.thread_id == "lost").values(lease_until=1.0)
        await stores.database.write(lambda connection: connection.execute(moment))
        assert await abandoned(stores, "t") == ["lost"]
        taken = await stores.runs.take_over("lost")
        assert taken is not None
        assert taken.fence == lost.fence + 1

    with_stores(place, scenario)


def test_a_released_thread_is_free_at_once_and_remembers_where_it_was(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await leases.release(stores.database, "t", run.fence - 1)
        assert await abandoned(stores) == []
        await leases.release(stores.database, "t", run.fence)
        assert await abandoned(stores) == ["t"]
        thread = await stores.threads.get("p", "t")
        assert is_of_this_machine(thread.holder)
        assert not thread.is_stranded(time.time())
        assert thread.is_stranded(time.time() + STRANDED_SECONDS + 1)

    with_stores(place, scenario)


def test_one_of_many_takes_an_abandoned_thread_over(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await begin(stores)
        await change(stores, holder=f"{BOOT}:{NAMESPACE}:{ended_process()}:1")
        taken, failed = await all_at_once([stores.runs.take_over("t") for _ in range(MANY)])
        assert failed == []
        assert [run.fence for run in taken if run is not None] == [2]

    with_stores(place, scenario)


def test_an_abandoned_thread_can_be_deleted(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        await begin(stores)
        with pytest.raises(ThreadBusy):
            await stores.threads.forget("p", "t")
        await change(stores, holder=f"other-boot:{NAMESPACE}:{PID}:{START}", lease_until=1.0)
        await stores.threads.forget("p", "t")

    with_stores(place, scenario)


def test_another_process_asks_the_holder_to_stop(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.threads.request_cancel("somebody else", "t", run.run_id)
        assert await renew(stores, run) == {"t": Held(run.fence, False)}
        command = [sys.executable, "-c", CANCEL, stores.database.dialect, str(place), run.run_id]
        subprocess.run(command, check=True)  # noqa: ASYNC221 - nothing else goes on here
        assert await renew(stores, run) == {"t": Held(run.fence, True)}
        await stores.runs.settle(run, b"{}", "idle")
        await stores.threads.request_cancel("p", "t", run.run_id)  # too late: it would stop the next run
        again = await begin(stores, "r2")
        await stores.threads.request_cancel("p", "t", run.run_id)
        assert await renew(stores, again) == {"t": Held(again.fence, False)}

    with_stores(place, scenario)


CANCEL = """
import asyncio, sys
from pathlib import Path
from checkpoints.opening import open_database
from checkpoints.stores import Stores

async def main(kind, where, run_id):
    async with open_database(Path(where) if kind == "sqlite" else where) as database:
        await Stores.on(database).threads.request_cancel("p", "t", run_id)

asyncio.run(main(*sys.argv[1:]))
"""


def test_whoever_lost_the_thread_writes_nothing(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        stale = await begin(stores)
        await stores.journal.begin(stale, Intent("begun", "{}"))
        await change(stores, holder=f"{BOOT}:{NAMESPACE}:{ended_process()}:1")
        current = await take_over(stores)
        told = [NewEvent("r1", "told", b"{}")]
        async with open_saver(stores.database, stores.log) as saver:
            config = _config(stale)
            latest = RunnableConfig(configurable={"thread_id": "t", "checkpoint_ns": ""})
            for attempt in (
                saver.aput(config, empty_checkpoint(), {"source": "input", "step": 0}, {}),
                saver.aput_writes(config, [("c", 1)], "task"),
                saver.aput_writes(config, [("c", 1), (OUTBOX, told)], "task"),
                stores.journal.begin(stale, Intent("new", "{}"), told),
                stores.journal.finish(stale, "begun"),
                stores.runs.settle(stale, b"late", "idle", [ASKED], told),
            ):
                with pytest.raises(LeaseLost):
                    await attempt
            assert await saver.aget_tuple(latest) is None
            await saver.aput(_config(current), empty_checkpoint(), {"source": "input", "step": 0}, {})
            assert await saver.aget_tuple(latest) is not None
        assert await stores.journal.get("t", "new") is None
        effect = await stores.journal.get("t", "begun")
        assert effect is not None and effect.state == "begun"
        assert await stores.runs.response("r1") is None
        assert await stores.questions.all("t") == []
        assert await stores.log.after("t", 0) == []
        await stores.journal.finish(current, "begun")
        await stores.runs.settle(current, b"done", "idle")
        with pytest.raises(LeaseLost):  # also after the end
            await stores.runs.settle(stale, b"late", "idle")

    with_stores(place, scenario)


def _config(run: Run) -> RunnableConfig:
    return {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "1", FENCE: run.fence}}
