"""Who made a change, what is left of it, and that judging it stops nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from agent_service.agent.findings import Finding, Maker
from agent_service.agent.verdicts import ChangeJudge, holds_what_was_added, makers
from checkpoints.errors import DatabaseUnusable
from checkpoints.journal import Intent, Write, content_hash
from checkpoints.opening import open_database
from checkpoints.runs import NewRun, NewThread, Run
from checkpoints.stores import Stores
from tools.workspace import Workspace


@pytest.mark.parametrize(
    ("before", "after", "present", "holds"),
    [
        (b"a\n", b"a\nb\n", b"zero\na\nb\nc\n", True),
        (b"a\n", b"a\nb\n", b"b\n", True),  # what was there before is not the agent's
        (b"a\n", b"a\nb\nc\n", b"a\nb\n", False),
        (b"a\n", b"a\na\n", b"a\n", False),  # each line as often as it was added
        (None, b"a\n", b"a\nb\n", True),
        (None, b"a\n", None, False),
        (b"a\nb\n", b"a\n", b"a\nc\n", False),  # nothing was added: nothing can be seen of it
        (b"a\n", None, b"b\n", False),
        (b"\xff\n", b"\xff\n\xfe\n", b"\xfe\n", True),
    ],
)
def test_what_was_added_still_stands(
    before: bytes | None, after: bytes | None, present: bytes | None, holds: bool
) -> None:
    assert holds_what_was_added(before, after, present) is holds


@given(st.lists(st.binary(max_size=3)), st.lists(st.binary(max_size=3)), st.lists(st.binary(max_size=3)))
def test_adding_lines_to_a_change_lets_it_stand(
    before: list[bytes], added: list[bytes], more: list[bytes]
) -> None:
    old, new, now = (b"\n".join(lines) for lines in (before, [*before, *added], [*before, *added, *more]))
    if old.splitlines() != new.splitlines() and now.splitlines()[: len(new.splitlines())] == new.splitlines():
        assert holds_what_was_added(old, new, now)


def test_makers_of_calls() -> None:
    def answer(call_id: str, **metadata: str) -> AIMessage:
        call = {"id": call_id, "name": "write_file", "args": {}, "type": "tool_call"}
        return AIMessage("", tool_calls=[call], response_metadata=metadata)

    messages: list[AnyMessage] = [
        HumanMessage("do it"),
        answer("one", model="up/org/m:free", task="long_context"),
        answer("two", model="up/m"),
        answer("three"),  # nobody noted it
        AIMessage("done", response_metadata={"model": "up/m"}),
    ]
    assert makers(messages) == {
        "one": Maker(("up", "org/m:free"), "long_context"),
        "two": Maker(("up", "m"), "tools"),
    }


class Book:
    """An `OutcomeBook` in memory, which may be out of order."""

    def __init__(self, *, broken: bool = False) -> None:
        self.latest, self.learned, self.broken = 0, list[Finding](), broken

    async def judged(self, thread_id: str) -> int:
        if self.broken:
            raise DatabaseUnusable("the disk is full")
        return self.latest

    async def learn(self, thread_id: str, latest: int, findings: Sequence[Finding]) -> None:
        self.latest = latest
        self.learned += findings


async def written(stores: Stores, run: Run, call_id: str, before: bytes | None, after: bytes | None) -> None:
    await stores.journal.begin(run, Intent(call_id, "{}", "a.py", before, after))
    await stores.journal.finish(run, call_id)


Wrote = tuple[str, bytes | None, bytes | None]
"""Call, content before and content after."""
MESSAGES: list[AnyMessage] = [
    AIMessage(
        "",
        tool_calls=[{"id": name, "name": "write_file", "args": {}, "type": "tool_call"}],
        response_metadata={"model": f"up/{name}", "task": "tools"},
    )
    for name in ("w1", "w2")
]


def judged(tmp_path: Path, writes: Sequence[Wrote], on_disk: bytes) -> list[str]:
    """What is learned of these writes when that is found: model and outcome."""

    async def scenario() -> list[str]:
        async with open_database(tmp_path / "state.db") as database:
            stores = Stores.on(database)
            run = await stores.runs.begin(NewRun("p", "t", "r", b"{}"), "do it", NewThread("t", None, None))
            assert isinstance(run, Run)
            for call_id, before, after in writes:
                await written(stores, run, call_id, before, after)
            (tmp_path / "a.py").write_bytes(on_disk)
            book = Book()
            judge, workspace = ChangeJudge(stores.journal, book), Workspace(tmp_path)
            assert await judge.pending("t", before_turn=run.turn_id) == []  # its own turn is not over
            pending = await judge.pending("t")
            await judge.judge("t", pending, workspace, MESSAGES)
            assert await judge.pending("t") == []
            return [f"{each.maker.model[1]} {each.outcome}" for each in book.learned]

    return asyncio.run(scenario())


def test_the_verdict_is_on_who_wrote_last(tmp_path: Path) -> None:
    writes = [("w1", b"0", b"1"), ("w2", b"1", b"2")]
    assert judged(tmp_path, writes, b"2") == ["w2 change_kept"]


@pytest.mark.parametrize(
    ("writes", "on_disk", "learned"),
    [
        ([("w1", b"0", b"1"), ("w2", b"1", b"2")], b"0", ["w2 change_discarded"]),
        ([("w1", b"0", b"1"), ("w2", b"1", b"2")], b"1", []),  # half of it
        ([("w1", b"0", b"1"), ("w2", b"1", b"0")], b"0", []),  # the model took it back by itself
        ([("w1", b"0", b"1"), ("rewind_r_0", b"1", b"0")], b"0", ["w1 change_discarded"]),
        ([("w1", b"0", b"1"), ("w2", b"1", b"2"), ("rewind_r_0", b"2", b"1")], b"1", ["w2 change_discarded"]),
        ([("w1", b"0", b"1"), ("rewind_r_0", b"1", b"0")], b"5", []),
        ([("unknown", b"0", b"1")], b"1", []),
        ([("rewind_r_0", b"0", b"1")], b"1", []),
    ],
)
def test_histories(tmp_path: Path, writes: Sequence[Wrote], on_disk: bytes, learned: list[str]) -> None:
    assert judged(tmp_path, writes, on_disk) == learned


def test_a_broken_database_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with open_database(tmp_path / "state.db") as database:
            journal = Stores.on(database).journal
            assert await ChangeJudge(journal, Book(broken=True)).pending("t") == []
            # The contents are missing that would have to be compared.
            lost = Write(7, "r", "w1", "a.py", content_hash(b"0"), content_hash(b"1"))
            (tmp_path / "a.py").write_bytes(b"5")
            book = Book()
            await ChangeJudge(journal, book).judge("t", [lost], Workspace(tmp_path), MESSAGES)
            assert book.learned == [] and book.latest == 0

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert caplog.text.count("changes of thread t could not be judged") == 2
