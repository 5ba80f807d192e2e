"""How far a streamed answer is: who of its choices has spoken, who is finished, and what is still to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from routing.answers import choices_of, has_content
from routing.providers.wire_format import EventReader
from routing.types import ChatChunk


@dataclass(slots=True)
class Telling:
    """One streamed answer on its way."""

    reader: EventReader
    wanted: int
    """How many choices were asked for."""
    said: bool = False
    """Whether it said or called anything."""
    is_over: bool = False
    """Whether its end was told: whatever comes now is no part of it."""
    _is_alive: bool = False
    _held: list[ChatChunk] = field(default_factory=list)
    _begun: set[int] = field(default_factory=set)
    _finishes: dict[int, str] = field(default_factory=dict)

    @property
    def finish(self) -> str | None:
        """Why it ended; None while a choice that has begun goes on."""
        if not self._begun <= self._finishes.keys():
            return None
        reasons = self._finishes.values()
        return "error" if "error" in reasons else next(reversed(reasons), None)

    @property
    def is_told(self) -> bool:
        """Whether all choices are finished, so that nothing but the usage is to come."""
        return len(self._finishes) >= self.wanted and self.finish is not None

    def note(self, chunks: Sequence[ChatChunk]) -> bool:
        """Take note of what one event says; whether that is a sign of life.

        Nothing said is one, as the reader means it so; to tell a role or an empty text, again and again, is
        none. Raises ValueError when a chunk is not what it should be.
        """
        alive = not chunks
        for chunk in chunks:
            alive = alive or bool(chunk.data.get("usage"))
            for choice in choices_of(chunk.data):
                alive = self._notes(choice) or alive
        return alive

    def passed_on(self, chunks: Sequence[ChatChunk], *, alive: bool) -> Sequence[ChatChunk]:
        """What to pass on now: nothing before the first sign of life, with it all that came before."""
        if self._is_alive:
            return chunks
        self._held += chunks
        self._is_alive = alive
        return self._held if alive else ()

    def _notes(self, choice: dict[str, Any]) -> bool:
        """Whether the choice says, thinks, calls or ends anything."""
        number = choice.get("index") if self.wanted > 1 else 0  # a single one may be numbered anyhow
        index = number if type(number) is int else 0
        delta = choice.get("delta") or {}
        if speaks := has_content(delta):
            self.said = True
            self._begun.add(index)
        if reason := choice.get("finish_reason"):
            self._finishes[index] = reason
        return speaks or bool(reason) or any(value for name, value in delta.items() if name != "role")
