"""The nodes of the graph: plain functions from state to the change of state.

A node runs again from its top after a crash and after a pause, so each does one thing: `prepare` takes an
instruction in, `call_model` has one answer, `run_tool` carries out one call.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from sqlalchemy.exc import SQLAlchemyError

from agent_service import events
from agent_service.agent.drift import drift_note
from agent_service.agent.effects import Done, EffectRunner, RefusedByHuman
from agent_service.agent.errors import EmptyAnswer, LimitReached
from agent_service.agent.files_changed import file_changed
from agent_service.agent.limits import RunLimits, StopSignal
from agent_service.agent.messages import (
    NOT_EXECUTED,
    AnswerBuilder,
    clean_text,
    dangling_calls,
    known_call_ids,
    to_chat_messages,
    unanswered_calls,
)
from agent_service.agent.prompt import instruction_text, system_prompt
from agent_service.agent.seen import CallNotes
from agent_service.agent.state import AgentContext, AgentState, Spent, ToolTask, instruction_id
from checkpoints.errors import CheckpointError
from checkpoints.events import NewEvent
from checkpoints.journal import Change
from routing.errors import StreamCut
from routing.learning import Outcome
from routing.types import ChatRequest, Payer, RouteDecision
from routing.usage import BudgetExceeded, Prices, Tokens
from tools.errors import InvalidArguments, PassageNotFound, ToolError, UnknownTool
from tools.human import HumanReply, HumanRequest
from tools.tool import ToolCall, ToolContext, ToolResult

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

CANCELLED_QUESTION = "Error: the question was cancelled by the user."
EXPIRED_QUESTION = "Error: nobody answered in time. Nothing was agreed to; ask again if it still matters."
_TELLING: Mapping[type[ToolError], Outcome] = MappingProxyType(
    {
        InvalidArguments: "tool_call_invalid",
        UnknownTool: "tool_call_invalid",
        PassageNotFound: "edit_missed",
        RefusedByHuman: "change_discarded",
    }
)
"""What a failed call says about the model that made it; the other failures are not its fault alone."""
_STREAM_ATTEMPTS = 3
"""How often an answer that broke off is asked for again: nothing of it was used yet."""


async def prepare(state: AgentState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
    """Take the instruction in, after answering every call that an earlier turn left open."""
    turn = state["turn"]
    fates = dict.fromkeys(turn["cancelled"], CANCELLED_QUESTION)
    fates |= dict.fromkeys(turn["expired"], EXPIRED_QUESTION)
    repairs = [
        ToolMessage(content=fates.get(call_id, NOT_EXECUTED), tool_call_id=call_id, status="error")
        for call_id in dangling_calls(state.get("messages", []))
    ]
    spent: Spent = {
        "model_calls": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cost_usd": 0.0,
        "charged_usd": 0.0,
        "models": [],
    }
    instruction = HumanMessage(content=instruction_text(turn), id=instruction_id(turn["id"]))
    return {"messages": [*repairs, instruction], "spent": spent}


async def call_model(state: AgentState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
    """Have one answer from a model, once all calls of the former one are answered.

    Raises RunEnded, RoutingError.
    """
    ctx = runtime.context
    ctx.stop.check()
    if unanswered_calls(state["messages"]):
        return {}  # the next wave of calls goes out first
    _check_limits(state["spent"], ctx)
    drift = ctx.seen.untold()
    notes = [drift_note(drift)] if drift else []
    request = _chat_request(state, notes, ctx)
    sys.audit("agent_service.model.asked", ctx.run.thread_id)
    told: list[events.AgentEvent] = []
    try:
        builder, decision = await _unless_stopped(_answer(request, ctx, told), ctx.stop)
    except BudgetExceeded as broke:
        raise LimitReached(str(broke)) from broke
    message = builder.message(known_call_ids(state["messages"]) | ctx.used_ids, decision)
    if not message.content and not message.tool_calls:
        raise EmptyAnswer
    message.id = f"msg_{uuid4().hex}"
    message.response_metadata["task"] = decision.task
    spent = _add(state["spent"], builder, decision)
    told += _news(message, state["spent"], decision, ctx)
    sys.audit("agent_service.model.answered", ctx.run.thread_id)
    answer = [message, *_refuse_surplus(message, ctx.limits)]
    return {
        "messages": [*notes, *answer],
        "spent": spent,
        "seen": ctx.seen.tell(drift),
        "outbox": list(map(events.new_event, told)),
    }


async def run_tool(state: ToolTask, runtime: Runtime[AgentContext]) -> dict[str, Any]:
    """Carry out one tool call; whatever comes of it is the answer to that call."""
    task, ctx = state, runtime.context
    notes = CallNotes(ctx.seen, partial(ctx.wrote, ctx.run.thread_id))
    started = _started(task, ctx)
    if task["withheld"]:
        done = Done(ToolResult.error(task["withheld"]))
    else:
        done = await _attempt(task, ctx, notes, events.new_event(started))
    done = replace(done, result=_storable(done.result))
    content = done.result.content
    if not done.result.ok and not content.startswith("Error:"):
        content = f"Error: {content}"
    answer = ToolMessage(
        content=content,
        tool_call_id=task["id"],
        name=task["name"],
        status="success" if done.result.ok else "error",
        id=f"result_{task['id']}",
    )
    told: list[events.AgentEvent] = [] if done.started_told else [started]
    told.append(_finished(task, done, ctx))
    return {"messages": [answer], "seen": notes.entries, "outbox": list(map(events.new_event, told))}


def _storable(result: ToolResult) -> ToolResult:
    """The result without lone surrogates, which a user's own tool may have read from anywhere."""
    return replace(result, content=clean_text(result.content), summary=clean_text(result.summary))


async def _attempt(task: ToolTask, ctx: AgentContext, notes: CallNotes, started: NewEvent) -> Done:
    """The call's outcome; every refusal and failure becomes an answer. Lets pauses through."""
    try:
        call = ctx.tools[task["name"]].bind(task["arguments"])
        done = await _perform(call, task, ctx, notes, started)
        if done.result.ok and call.tool.effect != "workspace":
            notes.shown()
        _learn(
            task, ctx, "edit_applied" if done.effect and task["name"] == "edit_file" else "tool_call_valid"
        )
        return done
    except ToolError as error:
        if outcome := next((told for kind, told in _TELLING.items() if isinstance(error, kind)), None):
            _learn(task, ctx, outcome)
        return Done(ToolResult.error(str(error)))
    except (GraphBubbleUp, CheckpointError, SQLAlchemyError):
        raise  # a pause, or a store that failed: not the tool's matter
    except Exception as error:  # a user's own tool may raise anything
        logger.exception("tool %s failed", task["name"])
        return Done(ToolResult.error(f"{task['name']} failed ({type(error).__name__}); try another way"))


def _learn(task: ToolTask, ctx: AgentContext, outcome: Outcome) -> None:
    """Let the router know what a call of its model was worth."""
    provider, _, model = task.get("model", "").partition("/")
    if model:
        ctx.router.report((provider, model), task.get("task", "tools"), outcome)


async def _perform(
    call: ToolCall, task: ToolTask, ctx: AgentContext, notes: CallNotes, started: NewEvent
) -> Done:
    files = ctx.workspace and ctx.workspace.observed(notes.read)
    tool_ctx = ToolContext(workspace=files, ask=lambda request: _ask(request, task["id"]))
    if call.tool.effect in ("none", "human"):
        return Done(await call.run(tool_ctx))
    decide = partial(ctx.approvals.verdict, call.tool.name, call.tool.effect, wish=task["approval"])
    runner = EffectRunner(ctx.run, ctx.journal, ctx.refusals, tool_ctx, notes, started)
    return await runner.carry_out(call, task["id"], decide)


def _ask(request: HumanRequest, call_id: str) -> HumanReply:
    """Pause the run; comes back with the answer when the run goes on."""
    answer = interrupt(
        {
            "tool_call_id": call_id,
            "question": request.question,
            "kind": request.kind,
            "options": list(request.options),
            "preview": request.preview,
            "proposal": request.proposal,
        }
    )
    return HumanReply(text=answer["text"], proposal=answer["proposal"])


async def _answer(
    request: ChatRequest, ctx: AgentContext, told: list[events.AgentEvent]
) -> tuple[AnswerBuilder, RouteDecision]:
    """One whole answer; one that breaks off is asked for again, and that is told. Raises RoutingError."""
    for attempt in range(1, _STREAM_ATTEMPTS + 1):
        builder = AnswerBuilder()
        stream = await ctx.router.stream(request)
        try:
            async for chunk in stream:
                if text := builder.add(chunk):
                    ctx.stream(events.Token(thread_id=ctx.run.thread_id, run_id=ctx.run.run_id, text=text))
        except StreamCut as cut:
            if attempt == _STREAM_ATTEMPTS:
                raise
            told.append(_failed(ctx, f"{cut} Asking again.", "stream_cut"))
            continue
        finally:
            await stream.aclose()
        return builder, stream.decision
    raise AssertionError("unreachable")


async def _unless_stopped(work: Coroutine[Any, Any, _T], stop: StopSignal) -> _T:
    """The work's result, unless the run is told to stop before. Raises RunEnded."""
    task = asyncio.ensure_future(work)
    signal = asyncio.ensure_future(stop.event.wait())
    try:
        await asyncio.wait({task, signal}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            stop.check()
        return await task
    finally:
        for each in (task, signal):
            if not each.done():
                each.cancel()
        await asyncio.gather(task, signal, return_exceptions=True)


def _check_limits(spent: Spent, ctx: AgentContext) -> None:
    if spent["model_calls"] >= ctx.limits.max_steps:
        raise LimitReached(
            f"The limit of {ctx.limits.max_steps} model calls for one instruction (agent.max_steps) was "
            "reached; send a further instruction to go on."
        )
    tokens = spent["prompt_tokens"] + spent["completion_tokens"]
    if ctx.limits.max_run_tokens is not None and tokens >= ctx.limits.max_run_tokens:
        raise LimitReached(
            f"The limit of {ctx.limits.max_run_tokens} tokens for one instruction (agent.max_run_tokens) was "
            "reached; send a further instruction to go on."
        )
    most = ctx.limits.max_run_cost_usd
    if most is not None and spent.get("charged_usd", 0.0) >= most:
        raise LimitReached(
            f"The limit of ${most:g} for one instruction (agent.max_run_cost_usd) was reached; send a "
            "further instruction to go on."
        )


def _refuse_surplus(message: AIMessage, limits: RunLimits) -> list[ToolMessage]:
    """Answers to the calls beyond the limit, at once: they are not worth a task each."""
    most = limits.max_tool_calls_per_turn
    content = f"Error: not executed: an answer may hold at most {most} tool calls"
    return [
        ToolMessage(content=content, tool_call_id=call["id"] or "", name=call["name"], status="error")
        for call in message.tool_calls[most:]
    ]


def _chat_request(state: AgentState, notes: Sequence[AnyMessage], ctx: AgentContext) -> ChatRequest:
    turn = state["turn"]
    has_project = ctx.workspace is not None
    tools = [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
        }
        for t in ctx.tools
        if has_project or t.effect == "human"
    ]
    body = {
        "messages": to_chat_messages(system_prompt(has_project=has_project), [*state["messages"], *notes]),
        "tools": tools,
    }
    quality: Any = turn["quality"]
    payer = Payer(ctx.run.principal, ctx.run.thread_id, ctx.run.run_id)
    return ChatRequest(
        body=body,
        model=turn["model"],
        provider=turn["provider"],
        quality=quality,
        affinity=ctx.run.thread_id,
        payer=payer,
    )


def _add(spent: Spent, builder: AnswerBuilder, decision: RouteDecision) -> Spent:
    price = decision.cost(builder.prompt_tokens, builder.completion_tokens)
    usual = Prices(decision.input_price, decision.output_price).assumed
    charged = usual.cost(Tokens(builder.prompt_tokens, builder.completion_tokens)) or 0.0
    return {
        "model_calls": spent["model_calls"] + 1,
        "prompt_tokens": spent["prompt_tokens"] + builder.prompt_tokens,
        "completion_tokens": spent["completion_tokens"] + builder.completion_tokens,
        "cost_usd": None if spent["cost_usd"] is None or price is None else spent["cost_usd"] + price,
        "charged_usd": spent.get("charged_usd", 0.0) + charged,
        "models": [*(m for m in spent["models"] if m != decision.name), decision.name],
    }


def _news(
    message: AIMessage, before: Spent, decision: RouteDecision, ctx: AgentContext
) -> list[events.AgentEvent]:
    ids = {"thread_id": ctx.run.thread_id, "run_id": ctx.run.run_id}
    told: list[events.AgentEvent] = []
    earlier = before["models"][-1] if before["models"] else None
    if earlier and earlier != decision.name:
        reason = decision.failed[-1].reason if decision.failed else "it is the better choice now"
        told.append(events.ModelSwitched(**ids, from_=earlier, to=decision.name, reason=reason))
    if isinstance(message.content, str) and message.content:
        told.append(events.Message(**ids, role="assistant", text=message.content, model=decision.name))
    return told


def _started(task: ToolTask, ctx: AgentContext) -> events.ToolStarted:
    arguments = task["arguments"]
    shown = "?"
    if not isinstance(arguments, str):
        shown = ", ".join(str(value)[:60].replace("\n", " ") for value in list(arguments.values())[:1])
    return events.ToolStarted(
        thread_id=ctx.run.thread_id,
        run_id=ctx.run.run_id,
        tool_call_id=task["id"],
        name=task["name"],
        summary=f"{task['name']}({shown})",
    )


def _finished(task: ToolTask, done: Done, ctx: AgentContext) -> events.AgentEvent:
    change = done.effect and Change(done.effect.path, done.effect.before, done.effect.after)
    return events.ToolFinished(
        thread_id=ctx.run.thread_id,
        run_id=ctx.run.run_id,
        tool_call_id=task["id"],
        name=task["name"],
        ok=done.result.ok,
        summary=done.result.summary or done.result.content[:120],
        files_changed=[file_changed(change).model_dump()] if change else [],
    )


def _failed(ctx: AgentContext, message: str, code: str) -> events.Failed:
    return events.Failed(thread_id=ctx.run.thread_id, run_id=ctx.run.run_id, message=message, code=code)
