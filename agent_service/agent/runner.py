"""One run from its claim to its outcome: gathers what the graph needs, runs it, and reads the result.

Imports LangGraph, which takes a second: `agent.supervisor` imports this module when it is first needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from langchain_core.messages import AnyMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.runtime import RunControl
from langgraph.types import StateSnapshot

from agent_service.agent.approvals import read_answer
from agent_service.agent.contract import (
    CodeAgentRequest,
    HistoryCheckpoint,
    RewindResponse,
    ThreadMessage,
)
from agent_service.agent.errors import Misconfigured, RunEnded
from agent_service.agent.execution import Reached, execute, outcome
from agent_service.agent.graph import build_graph, call_path
from agent_service.agent.limits import StopSignal, limit_reached
from agent_service.agent.messages import in_a_few_words, raw_arguments, thread_message
from agent_service.agent.outcome import Outcome
from agent_service.agent.parts import AgentParts
from agent_service.agent.prompt import instruction_text
from agent_service.agent.refusals import Refusals, calls_since, is_no
from agent_service.agent.rewind import Rewinder
from agent_service.agent.state import AgentContext, Turn, instruction_id
from agent_service.agent.verdicts import ChangeJudge
from checkpoints.branches import Branches
from checkpoints.errors import StateDamaged
from checkpoints.history import History
from checkpoints.questions import Question
from checkpoints.rows import understanding
from checkpoints.runs import Run
from checkpoints.stores import Stores
from checkpoints.threads import ThreadRecord
from routing.errors import RoutingError
from routing.types import AUTO
from tools.errors import ToolError
from tools.workspace import Workspace

logger = logging.getLogger(__name__)


class Runner:
    """Performs runs on one graph."""

    def __init__(self, parts: AgentParts, stores: Stores, saver: BaseCheckpointSaver[str]) -> None:
        self._parts = parts
        self._stores = stores
        self._graph = build_graph(parts.tools, saver)
        self.history = History(stores.database, saver.serde)
        self.branches = Branches(stores.database, stores.log, saver.serde)
        self._judge = ChangeJudge(stores.journal, parts.outcomes)
        self._rewinder = Rewinder(stores, self.history, self.branches, parts.wrote)

    async def perform(self, run: Run, stop: StopSignal) -> Outcome | None:
        """What the run came to; None when it was left off for a shutdown, to be taken up again."""
        questions = await self._stores.questions.all(run.thread_id)
        thread = await self._stores.threads.get(run.principal, run.thread_id)
        if run.kind == "rewind":
            return await self._rewind(run, thread)
        try:
            await self._parts.find_models()
            workspace = await self._workspace(thread)
            gate = await self._project_gate(run, thread, workspace, questions)
        except (RunEnded, RoutingError) as ended:
            return await self._outcome(run, Reached({}, [], ended), questions)
        if gate is not None:
            return await self._outcome(run, Reached({}, [gate], None), questions)
        snapshot = await self._snapshot(run.thread_id)
        if workspace and (pending := await self._judge.pending(run.thread_id, before_turn=run.turn_id)):
            await self._judge.judge(run.thread_id, pending, workspace, _messages(snapshot))
        request = await self._request(run)
        control = RunControl()
        stop.when_told(control.request_drain)
        context = AgentContext(
            run=run,
            instruction=instruction_text(request) if request else "",
            router=self._parts.router(),
            tools=self._parts.tools,
            workspace=workspace,
            journal=self._stores.journal,
            log=self._stores.log,
            approvals=self._parts.approvals,
            refusals=self._refusals(run, questions, _messages(snapshot)),
            limits=self._parts.limits,
            stream=self._parts.stream,
            wrote=self._parts.wrote,
            used_ids=frozenset(q.tool_call_id for q in questions)
            | await self._stores.journal.call_ids(run.thread_id),
            answers={q.tool_call_id: q.answer for q in questions if q.answer is not None},
            stop=stop,
        )
        turn = _turn(run, request, questions, snapshot)
        seconds = self._parts.limits.max_run_seconds
        time_is_up = limit_reached(f"{seconds:g} seconds for one run", "max_run_seconds")
        timer = asyncio.get_running_loop().call_later(seconds, stop.set, time_is_up)
        try:
            reached = await execute(self._graph, snapshot, turn, questions, context, control)
        finally:
            timer.cancel()
        return None if reached.drained else await self._outcome(run, reached, questions)

    async def messages(self, thread_id: str) -> list[ThreadMessage]:
        """The conversation so far."""
        return [thread_message(each) for each in _messages(await self._snapshot(thread_id))]

    async def checkpoints(
        self, thread_id: str, *, limit: int, before: str | None, waiting: bool
    ) -> list[HistoryCheckpoint]:
        """The thread's checkpoints, the newest first; `waiting`: the very newest waits for an answer."""
        page = await self.history.page(thread_id, "messages", limit=limit, before=before)
        return [
            HistoryCheckpoint(
                checkpoint_id=each.checkpoint_id,
                parent_id=each.parent_id,
                created_at=each.created_at,
                run_id=each.run_id,
                step=each.step,
                messages=each.length,
                summary=in_a_few_words(each.last) if each.length else "",
                waiting=waiting and before is None and number == 0,
                rewound=each.copied,
                damaged=each.damaged,
            )
            for number, each in enumerate(page)
        ]

    async def _rewind(self, run: Run, thread: ThreadRecord) -> Outcome:
        """Go back, and learn from the changes that this takes back."""
        messages: list[AnyMessage] = []  # who made them is told on the branch that is left behind
        if await self._judge.pending(run.thread_id):
            with suppress(StateDamaged):  # going back may be the way out of it
                messages = _messages(await self._snapshot(run.thread_id))
        workspace: Workspace | None = None

        async def open_workspace() -> Workspace | None:
            nonlocal workspace
            workspace = await self._workspace(thread)
            return workspace

        done = await self._rewinder.perform(run, open_workspace)
        if workspace and isinstance(done.response, RewindResponse) and done.response.restored:
            pending = await self._judge.pending(run.thread_id)
            await self._judge.judge(run.thread_id, pending, workspace, messages)
        return done

    async def _snapshot(self, thread_id: str) -> StateSnapshot:
        """Where the thread stands. Raises StateDamaged."""
        return await self._graph.aget_state({"configurable": {"thread_id": thread_id}})

    async def _workspace(self, thread: ThreadRecord) -> Workspace | None:
        """The project's files, cleared of what a crash left. Raises Misconfigured."""
        unfinished = await self._stores.journal.unfinished_paths(thread.thread_id)
        return await asyncio.to_thread(_open_workspace, thread, unfinished)

    async def _outcome(self, run: Run, reached: Reached, questions: list[Question]) -> Outcome:
        changes = await self._stores.journal.changes(run.thread_id, turn_id=run.turn_id)
        still_open = [q for q in questions if q.status == "open"]
        if self._parts.limits.question_expiry_seconds is not None:
            end = time.time() + self._parts.limits.question_expiry_seconds
            reached = replace(reached, open=[replace(q, expires_at=end) for q in reached.open])
        return await asyncio.to_thread(outcome, run, reached, still_open, changes)

    async def _request(self, run: Run) -> CodeAgentRequest | None:
        """What brought the turn; None if it was given to the thread that this one is a fork of.

        Raises StateDamaged.
        """
        stored = await self._stores.runs.request(run.thread_id, run.turn_id)
        if stored is None:
            return None
        with understanding(run.thread_id, "the request that brought its instruction"):
            return CodeAgentRequest.model_validate_json(stored, extra="ignore")  # of another version, too

    def _refusals(self, run: Run, questions: list[Question], messages: list[AnyMessage]) -> Refusals:
        """What the human said no to since the instruction."""
        if not any(map(is_no, questions)):
            return Refusals(asked=frozenset(q.tool_call_id for q in questions if q.kind == "approval"))
        paths = {
            call["id"] or "": call_path(call["name"], raw_arguments(call["args"]), self._parts.tools)
            for call in calls_since(instruction_id(run.turn_id), messages)
        }
        return Refusals.among(questions, paths)

    async def _project_gate(
        self, run: Run, thread: ThreadRecord, workspace: Workspace | None, questions: list[Question]
    ) -> Question | None:
        """The question to ask first when another folder stands at the project's path now.

        Raises RunEnded when the human does not want to go on with it.
        """
        if workspace is None or workspace.identity == thread.project_identity:
            return None
        gate_id = f"project_{hashlib.sha256((run.turn_id + workspace.identity).encode()).hexdigest()[:40]}"
        asked = next((q for q in questions if q.tool_call_id == gate_id), None)
        if asked is None:
            return Question(
                tool_call_id=gate_id,
                interrupt_id="",
                kind="approval",
                question=f"The folder {thread.project_directory} was replaced since this thread began. "
                "Go on with the new one?",
            )
        if not read_answer(asked.answer or "no")[0]:
            raise Misconfigured("The project folder was replaced, and the answer was not to go on with it.")
        await self._stores.threads.accept_project(run.thread_id, run.fence, workspace.identity)
        return None


def _turn(
    run: Run, request: CodeAgentRequest | None, questions: Sequence[Question], snapshot: StateSnapshot
) -> Turn:
    """The instruction this run works on, as it was asked for."""
    cancelled = [q.tool_call_id for q in questions if q.status == "cancelled"]
    expired = [q.tool_call_id for q in questions if q.status == "expired"]
    if request is None:
        turn: Turn = snapshot.values["turn"]
        return {**turn, "cancelled": cancelled, "expired": expired}
    return {
        "id": run.turn_id,
        "language": request.language,
        "provider": request.provider,
        "model": request.model or AUTO,
        "quality": request.model_quality or "best_quality",
        "approvals": dict(request.approvals or {}),
        "cancelled": cancelled,
        "expired": expired,
    }


def _messages(snapshot: StateSnapshot) -> list[AnyMessage]:
    found: list[AnyMessage] = snapshot.values.get("messages", [])
    return found


def _open_workspace(thread: ThreadRecord, unfinished: list[str]) -> Workspace | None:
    if thread.project_directory is None:
        return None
    try:
        workspace = Workspace(Path(thread.project_directory))
        _ = workspace.identity  # raises when the folder is gone
        if unfinished and (kept := workspace.sweep(unfinished)):
            logger.warning(
                "left by a crash in %s, for a person to look at: %s",
                thread.project_directory,
                ", ".join(kept),
            )
    except (ToolError, OSError):
        raise Misconfigured(
            f"The project folder {thread.project_directory} is gone or unreadable; put it back, then go on."
        ) from None
    return workspace
