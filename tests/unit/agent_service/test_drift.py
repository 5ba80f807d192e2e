"""The comparison at the start of a run, beside a journal that knows of writes which the state does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import MessagesState

from agent_service.agent.approvals import ApprovalPolicy
from agent_service.agent.drift import find_drift
from agent_service.agent.graph import build_graph
from agent_service.agent.limits import RunLimits
from agent_service.agent.refusals import Refusals
from agent_service.agent.seen import SeenFiles, fingerprint
from agent_service.agent.state import AgentContext
from checkpoints.errors import LeaseLost
from checkpoints.journal import Intent
from checkpoints.opening import open_database
from checkpoints.runs import NewRun, NewThread, Run
from checkpoints.stores import Stores
from routing.router import ModelRouter
from tools.tool import ToolRegistry
from tools.workspace import Workspace


def with_context(
    tmp_path: Path, project: Path, scenario: Callable[[AgentContext, Stores], Awaitable[None]]
) -> None:
    async def run() -> None:
        async with open_database(tmp_path / "state.db") as database:
            stores = Stores.on(database)
            begun = await stores.runs.begin(NewRun("p", "t", "r", b"{}"), "do it", NewThread("t", None, None))
            assert isinstance(begun, Run)
            context = AgentContext(
                run=begun,
                instruction="do it",
                router=cast(ModelRouter, None),  # no model is asked here
                tools=ToolRegistry([]),
                workspace=Workspace(project),
                journal=stores.journal,
                log=stores.log,
                approvals=ApprovalPolicy(),
                refusals=Refusals(),
                limits=RunLimits(),
                stream=lambda token: None,
                wrote=lambda thread_id, path, found: None,
            )
            await scenario(context, stores)

    asyncio.run(run())


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("on_disk", "after", "is_drift"),
    [(b"ours", b"ours", False), (b"theirs", b"ours", True), (None, None, False), (b"theirs", None, True)],
)
def test_a_write_cut_off_by_a_crash_is_nobody_else_s(
    tmp_path: Path,
    project: Path,
    finished: bool,
    on_disk: bytes | None,
    after: bytes | None,
    is_drift: bool,
) -> None:
    async def scenario(context: AgentContext, stores: Stores) -> None:
        context.seen.load([f"{fingerprint(b'old')} a.py"])
        await stores.journal.begin(context.run, Intent("call", "{}", "a.py", b"old", after))
        if finished:
            await stores.journal.finish(context.run, "call")
        if on_disk is not None:
            (project / "a.py").write_bytes(on_disk)
        await find_drift(context, ["call", "call_without_effect"])
        assert context.seen.untold() == ({"a.py": fingerprint(on_disk)} if is_drift else {})
        told = [event.kind for event in await stores.log.after("t", 0)]
        assert told.count("workspace.changed") == is_drift

    with_context(tmp_path, project, scenario)


def test_it_is_told_once_and_again_when_it_changes_once_more(tmp_path: Path, project: Path) -> None:
    async def scenario(context: AgentContext, stores: Stores) -> None:
        state = [f"{fingerprint(b'old')} a.py", f"{fingerprint(b'old')} b.py"]
        (project / "b.py").write_bytes(b"old")
        told: list[list[list[str]]] = []
        for content in (b"theirs", b"theirs", b"theirs, again"):
            (project / "a.py").write_bytes(content)
            context.seen.load(state)
            await find_drift(context, [])
            state += context.seen.unsaved()
            assert context.seen.untold() == {"a.py": fingerprint(content)}, "the model has not heard yet"
            events = await stores.log.after("t", 0)
            told.append([json.loads(e.data)["paths"] for e in events if e.kind == "workspace.changed"])
        assert told == [[["a.py"]], [["a.py"]], [["a.py"], ["a.py"]]]

    with_context(tmp_path, project, scenario)


def test_who_lost_the_thread_tells_nothing(tmp_path: Path, project: Path) -> None:
    async def scenario(context: AgentContext, stores: Stores) -> None:
        context.seen.load([f"{fingerprint(b'old')} a.py"])
        lost = replace(context, run=replace(context.run, fence=context.run.fence - 1))
        with pytest.raises(LeaseLost):
            await find_drift(lost, [])
        assert await stores.log.after("t", 0) == []

    with_context(tmp_path, project, scenario)


def test_without_a_change_nothing_is_told(tmp_path: Path, project: Path) -> None:
    async def scenario(context: AgentContext, stores: Stores) -> None:
        (project / "a.py").write_bytes(b"old")
        context.seen.load([f"{fingerprint(b'old')} a.py"])
        before = len(await stores.log.after("t", 0))
        await find_drift(context, [])
        assert context.seen.untold() == {}
        assert len(await stores.log.after("t", 0)) == before

    with_context(tmp_path, project, scenario)


def test_a_checkpoint_from_before_files_were_noted_is_read_and_goes_on() -> None:
    async def scenario() -> None:
        saver: Any = InMemorySaver()
        config: Any = {"configurable": {"thread_id": "t"}}
        old = StateGraph(MessagesState)
        old.add_node("call_model", lambda state: {})
        old.add_edge(START, "call_model")
        old.add_edge("call_model", END)
        earlier: Any = {"messages": [HumanMessage("hello")]}
        await old.compile(checkpointer=saver).ainvoke(earlier, config)
        graph = build_graph(ToolRegistry([]), saver)
        values = (await graph.aget_state(config)).values
        assert [m.content for m in values["messages"]] == ["hello"]
        assert SeenFiles(values.get("seen", ())).all() == {}
        await graph.aupdate_state(config, {"seen": ["0a a.py"]}, as_node="run_tool")
        assert (await graph.aget_state(config)).values["seen"] == ["0a a.py"]

    asyncio.run(scenario())
