"""What a run writes under a fence, and what its tasks tell: once, exactly with their other writes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from checkpoints.errors import LeaseLost
from checkpoints.events import OUTBOX, NewEvent, StoredEvent
from checkpoints.graph_tables import writes
from checkpoints.journal import EFFECTS
from checkpoints.opening import open_database
from checkpoints.tables import threads
from tests.databases import Place
from tests.unit.checkpoints.savers import Saver, at, with_saver

TOLD = [NewEvent("run", "tool.started", b'{"secret": 1}'), NewEvent("run", "tool.finished", b'{"secret": 2}')]
WRITES: list[tuple[str, Any]] = [("c", "value"), (OUTBOX, TOLD)]
KINDS = ["tool.started", "tool.finished"]


async def kinds(saver: Saver, thread_id: str = "t") -> list[str]:
    """The kinds of the thread's events; their numbers have no gap."""
    events = await saver.log.after(thread_id, 0)
    assert [each.seq for each in events] == [*range(1, len(events) + 1)]
    return [each.kind for each in events]


def test_nothing_is_written_under_a_fence_that_fell(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        await saver.claim("t", 1)
        here = at(fence=1) | await saver.save(at(fence=1), {"c": "first"})
        await saver.claim("t", 2)
        before = await saver.rows()
        stale = at(checkpoint_id=here["configurable"]["checkpoint_id"], fence=1)
        for attempt in (
            saver.save(stale, {"c": ["x" * 600] * 40}),
            saver.aput_writes(stale, WRITES, "task"),
            saver.save(at(fence=3), {"c": "of the future"}),
            saver.save(at("gone", fence=1), {"c": "nobody's"}),
            saver.save(at(namespace="call:1", fence=1), {"c": "of a subgraph"}),
        ):
            with pytest.raises(LeaseLost, match="taken over"):
                await attempt
        assert await saver.rows() == before
        assert await kinds(saver) == []
        fresh = at(checkpoint_id=here["configurable"]["checkpoint_id"], fence=2)
        await saver.aput_writes(fresh, WRITES, "task")
        assert await saver.value(await saver.save(fresh, {"c": "second"})) == "second"
        assert await kinds(saver) == KINDS

    with_saver(place, scenario)


def test_a_refused_write_takes_none_along_that_waits_beside_it(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        for thread_id in ("a", "b", "c"):
            await saver.claim(thread_id, 1)
        await saver.claim("b", 2)
        done = await asyncio.gather(
            *(saver.save(at(thread_id, fence=1), {"c": thread_id}) for thread_id in ("a", "b", "c")),
            return_exceptions=True,
        )
        assert [type(each) for each in done] == [dict, LeaseLost, dict]
        assert [await saver.value(at(thread_id)) for thread_id in ("a", "c")] == ["a", "c"]
        assert await saver.aget_tuple(at("b")) is None

    with_saver(place, scenario)


def test_the_fence_itself_is_not_kept(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        await saver.claim("t", 1)
        found = await saver.aget_tuple(await saver.save(at(fence=1), {"c": 1}))
        assert found is not None
        assert set(found.metadata) == {"source", "step", EFFECTS}

    with_saver(place, scenario)


def test_what_a_task_tells_is_told_once_however_often_it_is_stored(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        heard: list[StoredEvent] = []
        saver.log.listen(heard.append)
        await saver.claim("t", 1)
        here = await saver.save(at(fence=1), {})
        await saver.aput_writes(here, WRITES, "task")
        await saver.aput_writes(here, WRITES, "task")
        await asyncio.gather(*(saver.aput_writes(here, WRITES, "task") for _ in range(8)))
        async with open_database(place) as second:  # as after a restart, or in another process
            await Saver(second).aput_writes(here, WRITES, "task")
        assert await kinds(saver) == KINDS
        assert [(each.seq, each.kind) for each in heard] == [*enumerate(KINDS, 1)]
        await saver.aput_writes(here, [(OUTBOX, TOLD[:1])], "other")
        assert await kinds(saver) == [*KINDS, KINDS[0]]

    with_saver(place, scenario)


def test_nothing_that_is_told_stays_among_the_writes(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        await saver.claim("t", 1)
        here = await saver.save(at(fence=1), {})
        before = await saver.rows()
        long = [NewEvent("run", "tool.output", b'"%s"' % (b"secret " * 500))]
        await saver.aput_writes(here, [(OUTBOX, long), ("c", "value")], "task")
        await saver.aput_writes(here, [(OUTBOX, []), ("c", "value")], "silent")
        assert sorted(await saver.pending(here)) == [
            ("silent", "c", "value"),
            ("silent", OUTBOX, []),
            ("task", "c", "value"),
            ("task", OUTBOX, []),
        ]
        after = await saver.rows()
        assert after == before | {"writes": before["writes"] + 4}
        async with saver.database.read() as connection:
            stored = (await connection.execute(select(writes.c.data))).scalars().all()
        assert not any(b"secret" in data for data in stored)
        assert [each.data for each in await saver.log.after("t", 0)] == [long[0].data]

    with_saver(place, scenario)


@pytest.mark.parametrize("broken", ["writes", "events"])
def test_when_one_half_fails_the_other_is_not_there(place: Place, broken: str) -> None:
    async def scenario(saver: Saver) -> None:
        heard: list[StoredEvent] = []
        saver.log.listen(heard.append)
        await saver.claim("t", 1)
        here = await saver.save(at(fence=1), {})
        await saver.perform(f"ALTER TABLE {broken} RENAME TO away")
        with pytest.raises(SQLAlchemyError):
            await saver.aput_writes(here, WRITES, "task")
        await saver.perform(f"ALTER TABLE away RENAME TO {broken}")
        assert await saver.pending(here) == []
        assert await kinds(saver) == []
        assert heard == []
        await saver.aput_writes(here, WRITES, "task")
        assert len(await saver.pending(here)) == 2
        assert await kinds(saver) == KINDS
        assert [each.kind for each in heard] == KINDS

    with_saver(place, scenario)


def test_what_cannot_be_stored_is_not_told_either(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        await saver.claim("t", 1)
        here = await saver.save(at(fence=1), {})
        with pytest.raises(TypeError):
            await saver.aput_writes(here, [(OUTBOX, TOLD), ("c", 2**70)], "task")
        assert (await kinds(saver), await saver.pending(here)) == ([], [])

    with_saver(place, scenario)


def test_a_thread_that_is_gone_is_told_nothing(place: Place) -> None:
    async def scenario(saver: Saver) -> None:
        await saver.claim("t", 1)
        here = await saver.save(at(fence=1), {})
        await saver.perform(delete(threads))
        await saver.aput_writes(here, WRITES, "task")
        assert await kinds(saver) == []

    with_saver(place, scenario)
