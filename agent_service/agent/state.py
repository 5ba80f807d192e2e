"""What the graph remembers (checkpointed) and what it is given for one run (not checkpointed)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages

from agent_service.agent.approvals import ApprovalPolicy, ToolRules
from agent_service.agent.limits import RunLimits, StopSignal
from agent_service.agent.refusals import Refusals
from agent_service.agent.seen import SeenFiles
from agent_service.events import Token
from checkpoints.events import EventLog, NewEvent
from checkpoints.journal import EffectJournal
from checkpoints.runs import Run
from routing.router import ModelRouter
from routing.types import TaskClass
from tools.tool import ToolRegistry
from tools.workspace import Workspace


class Turn(TypedDict):
    """One instruction: plain values, so that a checkpoint can be read by any version."""

    id: str
    """The run that brought it; that run's request has the words, which may be many."""
    language: str | None
    provider: str | None
    model: str
    quality: str
    approvals: dict[str, ToolRules]
    cancelled: list[str]
    """Tool calls of earlier turns whose question was cancelled by the user."""
    expired: list[str]
    """Tool calls of earlier turns whose question nobody answered in time."""


def instruction_id(turn_id: str) -> str:
    """The id of the message that a turn begins with."""
    return f"turn_{turn_id}"


class Spent(TypedDict):
    """Counted over one turn."""

    model_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    charged_usd: NotRequired[float]
    """The same with usual prices in the place of unknown ones; states of earlier versions lack it."""
    models: list[str]


def _nothing(_kept: list[NewEvent], _told: list[NewEvent]) -> list[NewEvent]:
    return []


class AgentState(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    turn: Turn
    spent: Spent
    outbox: Annotated[list[NewEvent], _nothing]
    """What a task tells; the saver takes it to the event log, and nothing stays here."""
    seen: Annotated[list[str], operator.add]
    """What the agent knows of the project's files (`agent.seen`)."""


class ToolTask(TypedDict):
    """The input of one `run_tool` task."""

    id: str
    name: str
    arguments: dict[str, Any] | str
    approval: ToolRules | None
    """The request's wish for this tool."""
    withheld: str | None
    """If set, the call is not carried out and answered with this instead."""
    model: NotRequired[str]
    """Who made the call, as `provider/model`; tasks of earlier versions do not say."""
    task: NotRequired[TaskClass]
    """The kind of request it was the answer to."""


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What the nodes of one run work with."""

    run: Run
    instruction: str
    """The person's message that the turn begins with; empty in a fork of a thread that is past it."""
    router: ModelRouter
    tools: ToolRegistry
    workspace: Workspace | None
    journal: EffectJournal
    log: EventLog
    approvals: ApprovalPolicy
    refusals: Refusals
    limits: RunLimits
    stream: Callable[[Token], None]
    wrote: Callable[[str, str, str], None]
    """Told (thread id, path, fingerprint) just before the agent writes a file."""
    used_ids: frozenset[str] = frozenset()
    """Tool call ids that questions and effects of earlier runs go by, also on branches that a rewind left: a
    model that counts its calls would name them again."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """What the human answered, by tool call: told of one that was not carried out, too."""
    stop: StopSignal = field(default_factory=StopSignal)
    seen: SeenFiles = field(default_factory=SeenFiles)
