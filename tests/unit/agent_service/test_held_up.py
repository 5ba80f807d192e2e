"""A process that is held up between an intent and its effect, while somebody else takes its thread over.

The file cannot tell: it may be again as it was before, because a human undid what the other one did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from agent_service.agent.approvals import Verdict
from agent_service.agent.effects import EffectRunner
from agent_service.agent.refusals import Refusals
from agent_service.agent.rewind import Rewinder
from agent_service.agent.seen import CallNotes, SeenFiles
from checkpoints.branches import Branches
from checkpoints.database import Database
from checkpoints.errors import LeaseLost
from checkpoints.events import NewEvent
from checkpoints.history import History
from checkpoints.journal import EffectJournal, Intent
from checkpoints.opening import open_database
from checkpoints.runs import NewRun, Run
from checkpoints.stores import Stores
from checkpoints.tables import threads
from tests.e2e.mortal import SIDE_FILE, append_line
from tests.unit.checkpoints.rows import begin
from tests.unit.checkpoints.savers import Saver, at, id_of
from tools.filesystem import write_file
from tools.human import HumanReply, HumanRequest
from tools.swap import is_temporary
from tools.tool import ToolCall, ToolContext
from tools.workspace import Workspace

STARTED = NewEvent("r1", "tool.started", b"{}")


class HeldUpJournal(EffectJournal):
    """Right after each intent another process claims the thread."""

    def __init__(self, stores: Stores) -> None:
        super().__init__(stores.database, stores.log)
        self._of = stores.database

    async def begin(self, run: Run, intent: Intent, told: Any = ()) -> None:
        await super().begin(run, intent, told)
        claimed = update(threads).where(threads.c.thread_id == "t").values(fence=threads.c.fence + 1)
        await self._of.write(lambda connection: connection.execute(claimed))


class PreparedJournal(EffectJournal):
    """Notes whether a write was prepared, down to its temporary file, when the lease is looked at."""

    def __init__(self, stores: Stores, project: Path) -> None:
        super().__init__(stores.database, stores.log)
        self._project = project
        self.prepared: list[list[bytes]] = []

    async def confirm(self, run: Run) -> None:
        await super().confirm(run)
        self.prepared.append(
            [each.read_bytes() for each in self._project.iterdir() if is_temporary(each.name)]
        )


def play(place: Path, scenario: Callable[[Database, Stores], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_database(place / "state.db") as database:
            await scenario(database, Stores.on(database))

    asyncio.run(run())


def nobody(request: HumanRequest) -> HumanReply:
    raise AssertionError("nothing is asked here")


@pytest.mark.parametrize(
    "call",
    [
        write_file.bind({"filepath": "a.txt", "content": "1\n"}),
        append_line.bind({"line": "once more"}),
    ],
    ids=lambda call: call.tool.name,
)
def test_an_effect_is_not_made_by_who_lost_the_thread(tmp_path: Path, project: Path, call: ToolCall) -> None:
    told: list[str] = []

    async def scenario(database: Database, stores: Stores) -> None:
        run, ctx = await begin(stores), ToolContext(Workspace(project), nobody)
        notes = CallNotes(SeenFiles(), lambda path, found: told.append(path))
        runner = EffectRunner(run, HeldUpJournal(stores), Refusals(), ctx, notes, STARTED)
        with pytest.raises(LeaseLost):
            await runner.carry_out(call, "c1", lambda path: Verdict("auto"))
        record = await stores.journal.get("t", "c1")
        assert record is not None and record.state == "begun", "whoever holds the thread sees to it"

    play(tmp_path, scenario)
    assert not (project / "a.txt").exists()
    assert not (project / SIDE_FILE).exists()
    assert told == [], "nobody is told of a write that does not come"


def test_the_last_look_at_the_lease_comes_after_all_preparation(tmp_path: Path, project: Path) -> None:
    async def scenario(database: Database, stores: Stores) -> None:
        run, ctx = await begin(stores), ToolContext(Workspace(project), nobody)
        journal = PreparedJournal(stores, project)
        runner = EffectRunner(run, journal, Refusals(), ctx, CallNotes(SeenFiles()), STARTED)
        call = write_file.bind({"filepath": "a.txt", "content": "1\n"})
        await runner.carry_out(call, "c1", lambda path: Verdict("auto"))
        assert journal.prepared == [[b"1\n"]]

    play(tmp_path, scenario)
    assert (project / "a.txt").read_bytes() == b"1\n"


def test_a_file_is_not_restored_by_who_lost_the_thread(tmp_path: Path, project: Path) -> None:
    file = project / "a.txt"
    file.write_bytes(b"1\n")
    told: list[str] = []

    async def workspace() -> Workspace:
        return Workspace(project)

    async def scenario(database: Database, stores: Stores) -> None:
        run, saver = await begin(stores), Saver(database)
        start = id_of(await saver.save(at(fence=run.fence), {"messages": []}))
        await stores.journal.begin(run, Intent("w1", "", "a.txt", None, b"1\n"))
        await stores.journal.finish(run, "w1")
        await stores.runs.settle(run, b"", "idle")
        wanted = NewRun("p", "t", "r2", b'{"checkpoint_id": "%b", "files": true}' % start.encode())
        back = await stores.runs.rewind(wanted, start, "back", lambda run_id, question: STARTED)
        assert isinstance(back, Run)
        rewinder = Rewinder(
            replace(stores, journal=HeldUpJournal(stores)),
            History(database, saver.serde),
            Branches(database, stores.log, saver.serde),
            lambda thread_id, path, found: told.append(path),
        )
        with pytest.raises(LeaseLost):
            await rewinder.perform(back, workspace)

    play(tmp_path, scenario)
    assert file.read_bytes() == b"1\n"
    assert told == []
