"""The nodes of the graph: plain functions from state to the change of state.

A node runs again from its top after a crash and after a pause, so each does one thing: `prepare` takes an
instruction in, `call_model` has one answer, `run_tool` carries out one call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import uuid4

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from sqlalchemy.exc import SQLAlchemyError

from agent_service import events
from agent_service.agent.effects import Done, EffectRunner
from agent_service.agent.errors import EmptyAnswer, LimitReached
from agent_service.agent.files_changed import file_changed
from agent_service.agent.limits import RunLimits, StopSignal
from agent_service.agent.messages import (
    NOT_EXECUTED,
    AnswerBuilder,
    dangling_calls,
    known_call_ids,
    to_chat_messages,
    unanswered_calls,
)
from agent_service.agent.prompt import instruction_text, system_prompt
from agent_service.agent.state import AgentContext, AgentState, Spent, ToolTask
from checkpoints.errors import CheckpointError
from checkpoints.journal import Change
from routing.errors import StreamCut
from routing.types import ChatRequest, RouteDecision
from tools.errors import ToolError
from tools.human import HumanReply, HumanRequest
from tools.tool import ToolCall, ToolContext, ToolResult

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

CANCELLED_QUESTION = "Error: the question was cancelled by the user."
_STREAM_ATTEMPTS = 3
"""How often an answer that broke off is asked for again: nothing of it was used yet."""


async def prepare(state: AgentState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
    """Take the instruction in, after answering every call that an earlier turn left open."""
    turn = state["turn"]
    repairs = [
        ToolMessage(
            content=CANCELLED_QUESTION if call_id in turn["cancelled"] else NOT_EXECUTED,
            tool_call_id=call_id,
            status="error",
        )
        for call_id in dangling_calls(state.get("messages", []))
    ]
    spent: Spent = {
        "model_calls": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cost_usd": 0.0,
        "models": [],
    }
    instruction = HumanMessage(content=instruction_text(turn), id=f"turn_{turn['id']}")
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
    request = _chat_request(state, ctx)
    builder, decision = await _unless_stopped(_answer(request, ctx), ctx.stop)
    message = builder.message(known_call_ids(state["messages"]), decision)
    if not message.content and not message.tool_calls:
        raise EmptyAnswer
    message.id = f"msg_{uuid4().hex}"
    spent = _add(state["spent"], builder, decision)
    _announce(message, state["spent"], decision, ctx)
    return {"messages": [message, *_refuse_surplus(message, ctx.limits)], "spent": spent}


async def run_tool(state: ToolTask, runtime: Runtime[AgentContext]) -> dict[str, Any]:
    """Carry out one tool call; whatever comes of it is the answer to that call."""
    task, ctx = state, runtime.context
    summary = _summary(task)
    if task["withheld"]:
        done = Done(ToolResult.error(task["withheld"]))
    else:
        done = await _attempt(task, ctx)
    _emit_tool(task, done, summary, ctx)
    content = done.result.content
    if not done.result.ok and not content.startswith("Error:"):
        content = f"Error: {content}"
    answer = ToolMessage(
        content=content.encode("utf-8", "replace").decode(),
        tool_call_id=task["id"],
        name=task["name"],
        status="success" if done.result.ok else "error",
        id=f"result_{task['id']}",
    )
    return {"messages": [answer]}


async def _attempt(task: ToolTask, ctx: AgentContext) -> Done:
    """The call's outcome; every refusal and failure becomes an answer. Lets pauses through."""
    try:
        call = ctx.tools[task["name"]].bind(task["arguments"])
        return await _perform(call, task, ctx)
    except ToolError as error:
        return Done(ToolResult.error(str(error)))
    except (GraphBubbleUp, CheckpointError, SQLAlchemyError):
        raise  # a pause, or a store that failed: not the tool's matter
    except Exception as error:  # a user's own tool may raise anything
        logger.exception("tool %s failed", task["name"])
        return Done(ToolResult.error(f"{task['name']} failed ({type(error).__name__}); try another way"))


async def _perform(call: ToolCall, task: ToolTask, ctx: AgentContext) -> Done:
    tool_ctx = ToolContext(workspace=ctx.workspace, ask=lambda request: _ask(request, task["id"]))
    if call.tool.effect in ("none", "human"):
        return Done(await call.run(tool_ctx))
    rule = ctx.approvals.rule(call.tool.name, call.tool.effect, task["approval"])
    return await EffectRunner(ctx.run, ctx.journal, tool_ctx).carry_out(call, task["id"], rule)


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


async def _answer(request: ChatRequest, ctx: AgentContext) -> tuple[AnswerBuilder, RouteDecision]:
    """One whole answer; one that breaks off is asked for again. Raises RoutingError."""
    for attempt in range(1, _STREAM_ATTEMPTS + 1):
        builder = AnswerBuilder()
        stream = await ctx.router.stream(request)
        try:
            async for chunk in stream:
                if text := builder.add(chunk):
                    ctx.emit(events.Token(thread_id=ctx.run.thread_id, run_id=ctx.run.run_id, text=text))
        except StreamCut as cut:
            if attempt == _STREAM_ATTEMPTS:
                raise
            ctx.emit(_failed(ctx, f"{cut} Asking again.", "stream_cut"))
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


def _refuse_surplus(message: AIMessage, limits: RunLimits) -> list[ToolMessage]:
    """Answers to the calls beyond the limit, at once: they are not worth a task each."""
    most = limits.max_tool_calls_per_turn
    content = f"Error: not executed: an answer may hold at most {most} tool calls"
    return [
        ToolMessage(content=content, tool_call_id=call["id"] or "", name=call["name"], status="error")
        for call in message.tool_calls[most:]
    ]


def _chat_request(state: AgentState, ctx: AgentContext) -> ChatRequest:
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
        "messages": to_chat_messages(system_prompt(has_project=has_project), state["messages"]),
        "tools": tools,
    }
    quality: Any = turn["quality"]
    return ChatRequest(body=body, model=turn["model"], provider=turn["provider"], quality=quality)


def _add(spent: Spent, builder: AnswerBuilder, decision: RouteDecision) -> Spent:
    price = decision.cost(builder.prompt_tokens, builder.completion_tokens)
    return {
        "model_calls": spent["model_calls"] + 1,
        "prompt_tokens": spent["prompt_tokens"] + builder.prompt_tokens,
        "completion_tokens": spent["completion_tokens"] + builder.completion_tokens,
        "cost_usd": None if spent["cost_usd"] is None or price is None else spent["cost_usd"] + price,
        "models": [*(m for m in spent["models"] if m != decision.name), decision.name],
    }


def _announce(message: AIMessage, before: Spent, decision: RouteDecision, ctx: AgentContext) -> None:
    ids = {"thread_id": ctx.run.thread_id, "run_id": ctx.run.run_id}
    earlier = before["models"][-1] if before["models"] else None
    if earlier and earlier != decision.name:
        reason = decision.failed[-1].reason if decision.failed else "it is the better choice now"
        ctx.emit(events.ModelSwitched(**ids, from_=earlier, to=decision.name, reason=reason))
    if isinstance(message.content, str) and message.content:
        ctx.emit(events.Message(**ids, role="assistant", text=message.content, model=decision.name))


def _emit_tool(task: ToolTask, done: Done, summary: str, ctx: AgentContext) -> None:
    """Started and finished together: only now is it certain that no pause comes in between."""
    ids = {"thread_id": ctx.run.thread_id, "run_id": ctx.run.run_id, "tool_call_id": task["id"]}
    ctx.emit(events.ToolStarted(**ids, name=task["name"], summary=summary))
    change = done.effect and Change(done.effect.path, done.effect.before, done.effect.after)
    changed = [file_changed(change).model_dump()] if change else []
    ctx.emit(
        events.ToolFinished(
            **ids,
            name=task["name"],
            ok=done.result.ok,
            summary=done.result.summary or done.result.content[:120],
            files_changed=changed,
        )
    )


def _summary(task: ToolTask) -> str:
    arguments = task["arguments"]
    if isinstance(arguments, str):
        return f"{task['name']}(?)"
    shown = ", ".join(str(value)[:60].replace("\n", " ") for value in list(arguments.values())[:1])
    return f"{task['name']}({shown})"


def _failed(ctx: AgentContext, message: str, code: str) -> events.Failed:
    return events.Failed(thread_id=ctx.run.thread_id, run_id=ctx.run.run_id, message=message, code=code)
