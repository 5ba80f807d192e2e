"""What all runs of one service share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent_service.agent.approvals import ApprovalPolicy
from agent_service.agent.findings import OutcomeBook
from agent_service.agent.limits import RunLimits
from agent_service.events import Token
from routing.router import ModelRouter
from tools.tool import ToolRegistry


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What all runs of a service share."""

    router: Callable[[], ModelRouter]
    """Gives the present router."""
    find_models: Callable[[], Awaitable[None]]
    """Sees to it that the router has models, if there are any to be found. Raises RoutingError."""
    tools: ToolRegistry
    approvals: ApprovalPolicy
    limits: RunLimits
    wrote: Callable[[str, str, str], None]
    """Told (thread id, path, fingerprint) just before an agent writes a file."""
    outcomes: OutcomeBook
    """Learns what became of earlier changes."""
    stream: Callable[[Token], None]
    """Passes a piece of a model's text on to whoever follows."""
