"""Where a run is stopped, and how it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agent_service.agent.errors import RunEnded


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
    question_expiry_seconds: float | None = None
    """How long a question waits for its answer; None = for ever."""


class StopSignal:
    """Tells a run to end: at once when it waits for a model, else after the tools under way."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.reason: RunEnded | None = None
        self._on_pause: Callable[[], None] | None = None
        self._pausing = False

    def set(self, reason: RunEnded) -> None:
        """End for this reason; the first one stands."""
        self.reason = self.reason or reason
        self.event.set()
        self.pause()

    def pause(self) -> None:
        """Leave off before the next step, without ending the run: somebody goes on from there later."""
        self._pausing = True
        if self._on_pause:
            self._on_pause()

    @property
    def pausing(self) -> bool:
        """Whether the run is asked to leave off, for whatever reason."""
        return self._pausing

    def when_pausing(self, action: Callable[[], None]) -> None:
        """Call this on a pause; at once if it was asked for already."""
        self._on_pause = action
        if self._pausing:
            action()

    def check(self) -> None:
        """Raises the reason if there is one."""
        if self.reason is not None:
            raise self.reason
