"""What a run came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.agent.contract import CodeAgentResponse
from agent_service.events import AgentEvent
from checkpoints.questions import Question
from checkpoints.threads import ThreadStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """The response, and what is stored with it."""

    response: CodeAgentResponse
    status: ThreadStatus
    """How the thread stands now."""
    questions: list[Question]
    """Those that were opened by this run."""
    error_code: str = ""
    """For programs, where the response has `error_details`."""
    told: Sequence[AgentEvent] = ()
    """What is told of the end of the run besides what follows from the response."""
