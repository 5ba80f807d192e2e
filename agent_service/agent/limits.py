"""Where a run is stopped, and how it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agent_service.agent.errors import LimitReached, RunEnded


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of one turn, that is, of one instruction and everything done for it."""

    max_steps: int = 50
    """Model calls."""
    max_run_seconds: float = 1800
    """Wall time of one run; waiting for a person does not count."""
    max_tool_calls_per_turn: int = 64
    """Tool calls in one answer of a model."""
    max_run_tokens: int | None = None
    """Prompt and answer tokens, all calls together; None = no limit."""
    max_run_cost_usd: float | None = None
    """What all calls may cost at list prices; None = no limit."""
    question_expiry_seconds: float | None = None
    """How long a question waits for its answer; None = for ever."""


class StopSignal:
    """Tells a run to stop: at once when it waits for a model, else after the tools under way."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.reason: RunEnded | None = None
        self.leaving = False
        """Whether it shall leave off without an end, because somebody else goes on from there."""
        self._action: Callable[[], None] | None = None

    def set(self, reason: RunEnded) -> None:
        """End for this reason; the first one stands."""
        self.reason = self.reason or reason
        self.event.set()
        self._act()

    def leave_off(self) -> None:
        """Leave off before the next step."""
        self.leaving = True
        self._act()

    def when_told(self, action: Callable[[], None]) -> None:
        """Call this when the run is told to stop; at once if it was told already."""
        self._action = action
        if self.leaving or self.reason is not None:
            action()

    def check(self) -> None:
        """Raises the reason if there is one."""
        if self.reason is not None:
            raise self.reason

    def _act(self) -> None:
        if self._action:
            self._action()


def limit_reached(what: str, setting: str) -> LimitReached:
    """The end of a run that came to one of the limits; `setting` is its name under `agent`."""
    return LimitReached(
        f"The limit of {what} (agent.{setting}) was reached; send a further instruction to go on."
    )
