"""What was found out about the answers of models, and who learns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from routing.health import Key
from routing.learning import Outcome
from routing.types import TaskClass


@dataclass(frozen=True, slots=True)
class Maker:
    """Who made a tool call."""

    model: Key
    """Provider and model."""
    task: TaskClass
    """The kind of request that the call was the answer to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about a change."""

    maker: Maker
    outcome: Outcome


class OutcomeBook(Protocol):
    """Learns findings, and remembers how far it has come in each thread."""

    async def judged(self, thread_id: str) -> int:
        """The number of the thread's latest effect that was judged; 0 before the first."""
        ...

    async def learn(self, thread_id: str, latest: int, findings: Sequence[Finding]) -> None:
        """Take the findings, and that the thread's effects are judged up to that number: both or neither."""
        ...
