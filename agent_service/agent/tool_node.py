"""The node that carries out one tool call: whatever comes of it is the answer to the call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from sqlalchemy.exc import SQLAlchemyError

from agent_service import events
from agent_service.agent.effects import Done, EffectRunner, RefusedByHuman
from agent_service.agent.files_changed import file_changed
from agent_service.agent.messages import clean_text
from agent_service.agent.seen import CallNotes
from agent_service.agent.state import AgentContext, ToolTask
from checkpoints.errors import CheckpointError
from checkpoints.events import NewEvent
from checkpoints.journal import Change
from routing.learning import Outcome
from tools.errors import InvalidArguments, PassageNotFound, ToolError, UnknownTool
from tools.human import HumanReply, HumanRequest
from tools.tool import ToolCall, ToolContext, ToolResult

logger = logging.getLogger(__name__)

_TELLING: Mapping[type[ToolError], Outcome] = MappingProxyType(
    {
        InvalidArguments: "tool_call_invalid",
        UnknownTool: "tool_call_invalid",
        PassageNotFound: "edit_missed",
        RefusedByHuman: "change_discarded",
    }
)
"""What a failed call says about the model that made it; the other failures are not its fault alone."""
ASKED_TWICE = (
    "a tool may ask the human once in one call, and an approval counts; nothing more was done. "
    "Do without it, and tell the user."
)


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
    return {
        "messages": [answer],
        "seen": [*ctx.seen.unsaved(), *notes.entries],
        "outbox": list(map(events.new_event, told)),
    }


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
        outcome = next((told for kind, told in _TELLING.items() if isinstance(error, kind)), None)
        # A no counts where it was said, and not again for a call that proposes the same.
        if outcome and (outcome != "change_discarded" or task["id"] in ctx.refusals.asked):
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
    tool_ctx = ToolContext(workspace=files, ask=_ask_once(task["id"]))
    if call.tool.effect in ("none", "human"):
        return Done(await call.run(tool_ctx))
    decide = partial(ctx.approvals.verdict, call.tool.name, call.tool.effect, wish=task["approval"])
    runner = EffectRunner(ctx.run, ctx.journal, ctx.refusals, tool_ctx, notes, started)
    return await runner.carry_out(call, task["id"], decide)


def _ask_once(call_id: str) -> Callable[[HumanRequest], HumanReply]:
    """What a call asks the human with; a question goes by the name of its call, so there is one of each."""
    asked = False

    def ask(request: HumanRequest) -> HumanReply:
        """Pause the run; comes back with the answer when it goes on. Raises ToolError the second time."""
        nonlocal asked
        if asked:
            raise ToolError(ASKED_TWICE)
        asked = True
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

    return ask


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
