"""What the graph remembers (checkpointed) and what it is given for one run (not checkpointed)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages

from agent_service.agent.approvals import ApprovalPolicy
from agent_service.agent.limits import RunLimits, StopSignal
from agent_service.events import AgentEvent
from checkpoints.journal import EffectJournal
from checkpoints.runs import Run
from routing.router import ModelRouter
from tools.tool import ToolRegistry
from tools.workspace import Workspace


class Turn(TypedDict):
    """One instruction: plain values, so that a checkpoint can be read by any version."""

    id: str
    """The run that brought it."""
    instruction: str
    context: str | None
    language: str | None
    provider: str | None
    model: str
    quality: str
    approvals: dict[str, str]
    cancelled: list[str]
    """Tool calls of earlier turns whose question was cancelled by the user."""


class Spent(TypedDict):
    """Counted over one turn."""

    model_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    models: list[str]


class AgentState(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    turn: Turn
    spent: Spent


class ToolTask(TypedDict):
    """The input of one `run_tool` task."""

    id: str
    name: str
    arguments: dict[str, Any] | str
    approval: str | None
    """The request's wish for this tool, `auto`, `ask` or `deny`."""
    withheld: str | None
    """If set, the call is not carried out and answered with this instead."""


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What the nodes of one run work with."""

    run: Run
    router: ModelRouter
    tools: ToolRegistry
    workspace: Workspace | None
    journal: EffectJournal
    approvals: ApprovalPolicy
    limits: RunLimits
    emit: Callable[[AgentEvent], None]
    stop: StopSignal = field(default_factory=StopSignal)
