"""Driving the graph from wherever a thread stands to the end of a run, and saying what came of it.

What to do next follows from durable state alone (`next_input`), so a run whose process died is taken up
again by doing the same thing once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command, StateSnapshot

from agent_service.agent.code_blocks import split_answer
from agent_service.agent.contract import (
    CodeAgentResponse,
    HumanInputRequest,
    RunUsage,
)
from agent_service.agent.drift import find_drift
from agent_service.agent.errors import AnswerTruncated, RunCancelled, RunEnded
from agent_service.agent.files_changed import file_changed
from agent_service.agent.graph import AgentGraph
from agent_service.agent.messages import dangling_calls
from agent_service.agent.outcome import Outcome, request_params
from agent_service.agent.state import AgentContext, Turn
from checkpoints.journal import Change
from checkpoints.leases import FENCE
from checkpoints.questions import Question
from checkpoints.runs import Run
from checkpoints.threads import ThreadStatus
from routing.errors import RoutingError

_NO_STEP_LIMIT = 1_000_000
"""LangGraph's own limit counts supersteps; ours counts model calls (RunLimits.max_steps)."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the graph stands after a run."""

    state: dict[str, Any]
    open: list[Question]
    """What it waits for."""
    ended: Exception | None
    """Why it stopped early, if it did."""
    drained: bool = False
    """It was asked to pause for a shutdown; whoever comes next goes on from here."""


async def execute(
    graph: AgentGraph,
    snapshot: StateSnapshot,
    turn: Turn,
    questions: Sequence[Question],
    context: AgentContext,
    control: RunControl,
) -> Reached:
    """Run the graph from where its thread stands, the snapshot, until it ends, pauses or is stopped."""
    config: RunnableConfig = {
        "configurable": {"thread_id": context.run.thread_id, FENCE: context.run.fence},
        "metadata": {"run_id": context.run.run_id},
        "recursion_limit": _NO_STEP_LIMIT,
    }
    ended: Exception | None = None
    drained = False
    step = next_input(snapshot, turn, questions)
    if step is not None:
        context.seen.load(snapshot.values.get("seen", ()))
        await find_drift(context, dangling_calls(snapshot.values.get("messages", [])))
        try:
            await graph.ainvoke(step.input, config, context=context, durability="sync", control=control)
        except GraphDrained:
            drained = context.stop.reason is None
            ended = context.stop.reason
        except (RunEnded, RoutingError) as error:
            ended = error
        snapshot = await graph.aget_state(config)
    answered = {q.interrupt_id for q in questions if q.status != "open"}
    waiting = [] if ended else [_question(i.id, i.value) for i in snapshot.interrupts if i.id not in answered]
    return Reached(dict(snapshot.values), waiting, ended, drained)


@dataclass(frozen=True, slots=True)
class _Step:
    input: Any


def next_input(snapshot: StateSnapshot, turn: Turn, questions: Sequence[Question]) -> _Step | None:
    """What the graph is to be called with; None when nothing is left to do for this turn."""
    if (snapshot.values.get("turn") or {}).get("id") != turn["id"]:
        return _Step({"turn": turn, **_finished_beside(snapshot)})
    if not snapshot.interrupts:
        # Not `snapshot.next`: that leaves out tasks whose results are stored, but not yet their checkpoint.
        return _Step(None) if snapshot.tasks else None
    replies = {
        q.interrupt_id: {"text": q.answer, "proposal": q.proposal}
        for q in questions
        if q.status == "answered"
    }
    resume = {i.id: replies[i.id] for i in snapshot.interrupts if i.id in replies}
    return _Step(Command(resume=resume)) if resume else None


def _finished_beside(snapshot: StateSnapshot) -> dict[str, list[Any]]:
    """What tasks came to whose superstep never ended, because a question beside them was withdrawn."""
    kept: dict[str, list[Any]] = {}
    for result in (task.result or {} for task in snapshot.tasks):
        for channel in {"messages", "seen"} & result.keys():
            kept.setdefault(channel, []).extend(result[channel])
    return kept


def _question(interrupt_id: str, value: dict[str, Any]) -> Question:
    return Question(
        tool_call_id=value["tool_call_id"],
        interrupt_id=interrupt_id,
        kind=value["kind"],
        question=value["question"],
        options=tuple(value["options"]),
        preview=value["preview"],
        proposal=value["proposal"],
    )


def outcome(run: Run, reached: Reached, still_open: Sequence[Question], changes: Sequence[Change]) -> Outcome:
    """The response to the run's request, and how its thread stands now."""
    state, ended = reached.state, reached.ended
    messages: list[AnyMessage] = state.get("messages", [])
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    if (state.get("turn") or {}).get("id") != run.turn_id:
        last = None  # the turn did not get as far as a message of its own
    turn = state.get("turn") or {}
    answer = split_answer(_text(last), turn.get("language"))
    waiting = {q.tool_call_id: q for q in (*still_open, *reached.open)}
    if ended is None and not waiting:
        if last is not None and last.response_metadata.get("finish_reason") == "length":
            ended = AnswerTruncated("it reached its length limit; ask for less, or choose another model")
        elif answer.truncated:
            ended = AnswerTruncated("its last code block was not closed")
    requests = [human_input_request(q) for q in waiting.values()] if ended is None else []
    spent = state.get("spent") or {}
    models = spent.get("models", [])
    code = getattr(ended, "code", "provider_error") if ended else None
    response = CodeAgentResponse(
        generated_code=None if changes or waiting else answer.code,
        explanation=answer.prose or None,
        agent_status="error" if ended else "requires_human_input" if requests else "completed",
        human_input_request=requests[0] if requests else None,
        pending_requests=requests,
        request_params=request_params(run),
        model_used=models[-1] if models else None,
        models_used=models,
        error_details=str(ended) if ended else None,
        error_code=code,
        thread_id=run.thread_id,
        run_id=run.run_id,
        files_changed=[file_changed(change) for change in changes],
        usage=RunUsage(**{k: v for k, v in spent.items() if k != "models"}),
    )
    status: ThreadStatus = "idle"
    if ended:
        status = "idle" if isinstance(ended, RunCancelled) else "error"
    elif requests:
        status = "requires_human_input"
    return Outcome(response, status, list(reached.open) if ended is None else [])


def human_input_request(question: Question) -> HumanInputRequest:
    """The question as clients see it."""
    return HumanInputRequest(
        tool_call_id=question.tool_call_id,
        question_for_human=question.question,
        kind=question.kind,
        options=list(question.options) or None,
        preview=question.preview,
        expires_at=None if question.expires_at is None else datetime.fromtimestamp(question.expires_at, UTC),
    )


def _text(message: AIMessage | None) -> str:
    return message.content if message is not None and isinstance(message.content, str) else ""
