"""The nodes of the graph: plain functions from state to the change of state.

A node runs again from its top after a crash and after a pause, so each does one thing: `prepare` takes an
instruction in, `call_model` has one answer, and `tool_node.run_tool` carries out one call.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.runtime import Runtime

from agent_service import events
from agent_service.agent.drift import drift_note
from agent_service.agent.errors import EmptyAnswer, LimitReached
from agent_service.agent.limits import RunLimits, StopSignal, limit_reached
from agent_service.agent.messages import (
    NOT_EXECUTED,
    AnswerBuilder,
    dangling_calls,
    known_call_ids,
    to_chat_messages,
    unanswered_calls,
)
from agent_service.agent.prompt import system_prompt
from agent_service.agent.state import AgentContext, AgentState, Spent, instruction_id
from routing.errors import StreamCut
from routing.types import ChatRequest, Payer, RouteDecision
from routing.usage import BudgetExceeded, Prices

_T = TypeVar("_T")

CANCELLED_QUESTION = "Error: the question was cancelled by the user."
ANSWERED = "The human had been asked about it, and had answered: "
EXPIRED_QUESTION = "Error: nobody answered in time. Nothing was agreed to; ask again if it still matters."
_STREAM_ATTEMPTS = 3
"""How often an answer that broke off is asked for again: nothing of it was used yet."""


async def prepare(state: AgentState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
    """Take the instruction in, after answering every call that an earlier turn left open."""
    turn, ctx = state["turn"], runtime.context
    fates = {call_id: f"{NOT_EXECUTED} {ANSWERED}{answer}" for call_id, answer in ctx.answers.items()}
    fates |= dict.fromkeys(turn["cancelled"], CANCELLED_QUESTION)
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
    instruction = HumanMessage(content=ctx.instruction, id=instruction_id(turn["id"]))
    return {"messages": [*repairs, instruction], "spent": spent, "seen": ctx.seen.unsaved()}


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
        "seen": [*ctx.seen.unsaved(), *ctx.seen.tell(drift)],
        "outbox": list(map(events.new_event, told)),
    }


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
    limits, tokens = ctx.limits, spent["prompt_tokens"] + spent["completion_tokens"]
    for used, most, words, name in (
        (spent["model_calls"], limits.max_steps, "{} model calls", "max_steps"),
        (tokens, limits.max_run_tokens, "{} tokens", "max_run_tokens"),
        (spent.get("charged_usd", 0.0), limits.max_run_cost_usd, "${:g}", "max_run_cost_usd"),
    ):
        if most is not None and used >= most:
            raise limit_reached(f"{words.format(most)} for one instruction", name)


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
    prices = Prices.told(decision)
    price, charged = prices.cost(builder.tokens), prices.assumed.cost(builder.tokens) or 0.0
    return {
        "model_calls": spent["model_calls"] + 1,
        "prompt_tokens": spent["prompt_tokens"] + builder.tokens.prompt,
        "completion_tokens": spent["completion_tokens"] + builder.tokens.completion,
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


def _failed(ctx: AgentContext, message: str, code: str) -> events.Failed:
    return events.Failed(thread_id=ctx.run.thread_id, run_id=ctx.run.run_id, message=message, code=code)
