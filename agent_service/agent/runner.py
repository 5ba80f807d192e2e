"""One run from its claim to its outcome: gathers what the graph needs, runs it, and reads the result.

Imports LangGraph, which takes a second: `agent.supervisor` imports this module when it is first needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.runtime import RunControl

from agent_service.agent.approvals import read_answer
from agent_service.agent.contract import CodeAgentRequest, ThreadMessage
from agent_service.agent.errors import LimitReached, Misconfigured, RunEnded
from agent_service.agent.execution import Reached, execute, outcome
from agent_service.agent.graph import build_graph
from agent_service.agent.limits import RunLimits, StopSignal
from agent_service.agent.messages import thread_message
from agent_service.agent.outcome import Outcome
from agent_service.agent.parts import AgentParts
from agent_service.agent.state import AgentContext, Turn
from checkpoints.questions import Question
from checkpoints.runs import Run
from checkpoints.stores import Stores
from checkpoints.threads import ThreadRecord
from routing.errors import RoutingError
from tools.errors import ToolError
from tools.workspace import Workspace

logger = logging.getLogger(__name__)

AUTO_MODEL = "auto"


class Runner:
    """Performs runs on one graph."""

    def __init__(self, parts: AgentParts, stores: Stores, saver: BaseCheckpointSaver[str]) -> None:
        self._parts = parts
        self._stores = stores
        self._graph = build_graph(parts.tools, saver)

    async def perform(self, run: Run, stop: StopSignal) -> Outcome | None:
        """What the run came to; None when it was left off for a shutdown, to be taken up again."""
        questions = await self._stores.questions.all(run.thread_id)
        thread = await self._stores.threads.get(run.principal, run.thread_id)
        try:
            await self._parts.find_models()
            unfinished = await self._stores.journal.unfinished_paths(run.thread_id)
            workspace = await asyncio.to_thread(_open_workspace, thread, unfinished)
            gate = await self._project_gate(run, thread, workspace, questions)
        except (RunEnded, RoutingError) as ended:
            return await self._outcome(run, Reached({}, [], ended), questions)
        if gate is not None:
            return await self._outcome(run, Reached({}, [gate], None), questions)
        control = RunControl()
        stop.when_pausing(control.request_drain)
        context = AgentContext(
            run=run,
            router=self._parts.router(),
            tools=self._parts.tools,
            workspace=workspace,
            journal=self._stores.journal,
            approvals=self._parts.approvals,
            limits=self._parts.limits,
            emit=self._parts.emit,
            stop=stop,
        )
        turn = await self._turn(run, questions)
        timer = asyncio.get_running_loop().call_later(
            self._parts.limits.max_run_seconds, stop.set, _time_is_up(self._parts.limits)
        )
        try:
            reached = await execute(self._graph, turn, questions, context, control)
        finally:
            timer.cancel()
        return None if reached.drained else await self._outcome(run, reached, questions)

    async def messages(self, thread_id: str) -> list[ThreadMessage]:
        """The conversation so far."""
        snapshot = await self._graph.aget_state({"configurable": {"thread_id": thread_id}})
        return [thread_message(each) for each in snapshot.values.get("messages", [])]

    async def _outcome(self, run: Run, reached: Reached, questions: list[Question]) -> Outcome:
        changes = await self._stores.journal.changes(run.thread_id, turn_id=run.turn_id)
        still_open = [q for q in questions if q.status == "open"]
        return await asyncio.to_thread(outcome, run, reached, still_open, changes)

    async def _turn(self, run: Run, questions: list[Question]) -> Turn:
        """The instruction this run works on, as it was asked for."""
        request = CodeAgentRequest.model_validate_json(await self._stores.runs.request(run.turn_id))
        return {
            "id": run.turn_id,
            "instruction": request.instruction,
            "context": request.context,
            "language": request.language,
            "provider": request.provider,
            "model": request.model or AUTO_MODEL,
            "quality": request.model_quality or "best_quality",
            "approvals": dict(request.approvals or {}),
            "cancelled": [q.tool_call_id for q in questions if q.status == "cancelled"],
        }

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
        await self._stores.runs.accept_project(run.thread_id, workspace.identity)
        return None


def _open_workspace(thread: ThreadRecord, unfinished: list[str]) -> Workspace | None:
    if thread.project_directory is None:
        return None
    try:
        workspace = Workspace(Path(thread.project_directory))
        _ = workspace.identity  # raises when the folder is gone
        if unfinished and (kept := workspace.sweep(unfinished).kept):
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


def _time_is_up(limits: RunLimits) -> LimitReached:
    return LimitReached(
        f"The limit of {limits.max_run_seconds:g} seconds for one run (agent.max_run_seconds) was reached; "
        "send a further instruction to go on."
    )
