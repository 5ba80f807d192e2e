"""Damaged rows of threads, runs, questions and effects: whose they are says so, and nobody else notices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, text, update

from checkpoints.errors import StateDamaged, ThreadNotFound
from checkpoints.events import NewEvent
from checkpoints.giving_up import give_up
from checkpoints.journal import Intent
from checkpoints.leases import abandoned_threads
from checkpoints.rows import as_text, is_text
from checkpoints.runs import Run
from checkpoints.stores import Stores
from checkpoints.tables import effects, questions, threads
from tests.databases import Place
from tests.unit.checkpoints.rows import ASKED, begin, new_run, try_begin, with_stores

BAD = "CAST(x'ff41' AS TEXT)"
NO_TEXTS = [
    f"UPDATE threads SET title = {BAD}",
    f"UPDATE threads SET project_directory = {BAD}",
    "UPDATE threads SET title = x'41'",
    "UPDATE threads SET created_at = 'long ago'",
    "UPDATE threads SET created_at = 1e300",
    "UPDATE threads SET last_event = 'many'",
]


async def spoil(stores: Stores, table: Table, **values: Any) -> None:
    change = update(table).where(table.c.thread_id == "t").values(**values)
    await stores.database.write(lambda connection: connection.execute(change))


async def spoil_text(stores: Stores, statement: str) -> None:
    """The same in SQLite's words, for values that no other program would store."""
    change = text(f"{statement} WHERE thread_id = 't'")
    await stores.database.write(lambda connection: connection.execute(change))


async def abandon(stores: Stores) -> None:
    """As if the process of both runs had been killed."""
    await stores.database.write(
        lambda connection: connection.execute(update(threads).values(holder="b:1:1:1", lease_until=1.0))
    )


def on_a_file(tmp_path: Path, scenario: Callable[[Stores], Awaitable[None]]) -> None:
    with_stores(tmp_path / "state.db", scenario)


def test_text_is_taken_as_it_is_and_seen_not_to_be_any() -> None:
    assert as_text("né".encode()) == "né"
    assert [is_text(each) for each in ("", "a", "né", as_text(b"\xffA"), b"a", 1, None)] == [
        *[True] * 3,
        *[False] * 4,
    ]


async def assert_only_t_is_damaged(stores: Stores) -> None:
    with pytest.raises(StateDamaged, match="state of thread 't' cannot be used"):
        await stores.threads.get("p", "t")
    with pytest.raises(ThreadNotFound):
        await stores.threads.get("other", "t")
    with pytest.raises(ThreadNotFound):
        await try_begin(stores, new_run("r3", principal="other"))
    with pytest.raises(StateDamaged):
        await try_begin(stores, new_run("r3"))
    listed = {each.thread_id: each for each in await stores.threads.list("p")}
    assert (listed["t"].status, listed["t"].title) == ("error", "(damaged)")
    assert "delete the thread" in (listed["t"].damage or "")
    assert (listed["u"].status, listed["u"].damage) == ("running", None)
    await stores.threads.forget("p", "t")
    assert [each.thread_id for each in await stores.threads.list("p")] == ["u"]


def test_a_status_that_nobody_knows(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        for thread_id in ("t", "u"):
            await begin(stores, f"r-{thread_id}", thread_id)
        await spoil(stores, threads, status="weird")
        assert [each.thread_id for each in await stores.threads.list("p", status="error")] == ["t"]
        assert [each.thread_id for each in await stores.threads.list("p", status="running")] == ["u"]
        await assert_only_t_is_damaged(stores)

    with_stores(place, scenario)


@pytest.mark.parametrize("statement", NO_TEXTS)
def test_a_value_that_its_column_is_not_for(tmp_path: Path, statement: str) -> None:
    async def scenario(stores: Stores) -> None:
        for thread_id in ("t", "u"):
            await begin(stores, f"r-{thread_id}", thread_id)
        await spoil_text(stores, statement)
        await abandon(stores)
        assert sorted(await abandoned_threads(stores.database)) == ["t", "u"]
        taken = await stores.runs.take_over("u")
        assert taken is not None and taken.run_id == "r-u"
        await assert_only_t_is_damaged(stores)

    on_a_file(tmp_path, scenario)


def test_an_old_damaged_thread_can_be_pruned(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.runs.settle(run, b"done", "idle")
        await spoil_text(stores, NO_TEXTS[0])
        [found] = await stores.threads.finished("p")
        assert (found.thread_id, found.principal, found.title) == ("t", "p", "(damaged)")
        assert await stores.threads.forget_finished("p", "t", found.updated_at + 1)

    on_a_file(tmp_path, scenario)


def test_a_thread_whose_name_cannot_be_read_hides_nothing(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        for thread_id in ("t", "u"):
            await begin(stores, f"r-{thread_id}", thread_id)
        await abandon(stores)
        await spoil_text(stores, f"UPDATE threads SET thread_id = {BAD}")
        assert [each.thread_id for each in await stores.threads.list("p")] == ["u"]
        assert await abandoned_threads(stores.database) == ["u"]

    on_a_file(tmp_path, scenario)


@pytest.mark.parametrize("damage", ["the run", "the thread", "missing", "none"])
def test_a_run_that_nobody_can_go_on_with_is_given_up(tmp_path: Path, damage: str) -> None:
    async def scenario(stores: Stores) -> None:
        await begin(stores)
        if damage == "the run":
            await spoil_text(stores, f"UPDATE runs SET instruction = {BAD}")
        elif damage == "the thread":
            await spoil_text(stores, NO_TEXTS[0])
        elif damage == "missing":
            await spoil_text(stores, "DELETE FROM runs")
        assert await give_up(stores.database, "t") is None, "somebody performs it"
        await abandon(stores)
        if damage != "none":
            with pytest.raises(StateDamaged):
                await stores.runs.take_over("t")
        run = await give_up(stores.database, "t")
        is_kept = damage in ("the thread", "none")
        assert run == Run("r1", "t", "p", "invoke", "r1", "do it" if is_kept else "", b"{}", 2)
        assert await give_up(stores.database, "t") is None, "that is this process now"
        await stores.runs.settle(run, b"why", "error")
        assert await stores.runs.response("r1") == b"why"
        if damage == "the thread":
            with pytest.raises(StateDamaged):
                await stores.threads.get("p", "t")
        else:
            assert (await stores.threads.get("p", "t")).status == "error"
            assert isinstance(await try_begin(stores, new_run("r2")), Run)

    on_a_file(tmp_path, scenario)


@pytest.mark.parametrize(
    "values",
    [
        {"options": "{not json"},
        {"options": "7"},
        {"options": "[7]"},
        {"kind": "other"},
        {"status": "ajar"},
    ],
    ids=str,
)
def test_a_damaged_question_is_told_and_can_be_withdrawn(place: Place, values: dict[str, str]) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.runs.settle(run, b"asked", "requires_human_input", [ASKED])
        await spoil(stores, questions, **values)
        with pytest.raises(StateDamaged):
            await stores.questions.all("t")
        assert await stores.questions.withdraw(
            "p",
            "t",
            by="p",
            rewrite=lambda response: response + b", withdrawn",
            tell=lambda run_id, call_id: NewEvent(run_id, call_id, b"{}"),
        )
        assert await stores.runs.response("r1") == b"asked, withdrawn"
        assert (await stores.threads.get("p", "t")).status == "idle"

    with_stores(place, scenario)


def test_a_damaged_effect_is_told(place: Place) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.journal.begin(run, Intent("call_1", "{}", "a", b"before", b"after"))
        await spoil(stores, effects, state="huh")
        with pytest.raises(StateDamaged, match="state of an effect"):
            await stores.journal.get("t", "call_1")

    with_stores(place, scenario)


def test_a_damaged_latest_run_is_told(tmp_path: Path) -> None:
    async def scenario(stores: Stores) -> None:
        run = await begin(stores)
        await stores.runs.settle(run, b"asked", "requires_human_input", [ASKED])
        await spoil_text(stores, f"UPDATE runs SET instruction = {BAD}")
        with pytest.raises(StateDamaged, match="`instruction` of its row in the table `runs` was changed"):
            await stores.runs.latest("t")

    on_a_file(tmp_path, scenario)
