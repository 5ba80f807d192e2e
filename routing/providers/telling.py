"""A streamed answer as it arrives: what it says, who of its choices has spoken, and what is still to come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from routing.answers import check_words, decode, has_content, says_words_alone, without_secrets
from routing.errors import ProviderError
from routing.event_stream import EventLines
from routing.providers.gaps import Gaps
from routing.providers.wire_format import MALFORMED, EventReader
from routing.transport import Patience
from routing.types import ChatChunk

SILENCE_SECONDS = 30.0
"""Longest wait between two pieces of content."""
THINKING_SECONDS = 120.0
"""Longest wait after a model said that it thinks, of which some show nothing until they are done."""
TAIL_SECONDS = 5.0
"""Longest wait for the usage once the answer itself is finished."""
_END = b"[DONE]"


@dataclass(slots=True)
class Telling:
    """One streamed answer on its way.

    A line of it that makes no sense does not end it, as long as it calls nothing: a call that may lack a
    part must not pass for a whole one.
    """

    reader: EventReader
    wanted: int
    """How many choices were asked for."""
    error: Callable[[dict[str, Any]], Any]
    """The error object within an event's data; falsy if there is none."""
    fault: Callable[[Any], ProviderError]
    """What such an object tells of."""
    secrets: tuple[str, ...] = ()
    """What must not be shown of what the provider adds to the answer."""
    said: bool = False
    """Whether it said or called anything."""
    is_over: bool = False
    """Whether its end was told: whatever comes now is no part of it."""
    _broken_by: ProviderError | ValueError | None = None
    """What broke it off. It comes after all that `hear` gave."""
    _is_heard: bool = False
    """Whether there was a sign of life in what came last."""
    _lines: EventLines = field(default_factory=EventLines)
    _gaps: Gaps = field(default_factory=Gaps)
    _calls: bool = False
    _signs: tuple[bytes, ...] = ()
    _is_alive: bool = False
    _held: list[ChatChunk] = field(default_factory=list)
    _begun: set[int] = field(default_factory=set)
    _finishes: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._signs = tuple(secret.encode() for secret in self.secrets)

    def hear(self, piece: bytes | None) -> Sequence[ChatChunk]:
        """What there is to pass on when this has come; None = nothing more comes.

        It goes up to the end of the answer; of each chunk but the last it is noted that more is here.
        """
        if piece is not None:
            lines = self._lines.feed(piece)
        else:
            lines = [] if self.is_over else [*self._lines.finish(), (_END, "")]
        self._is_heard = False
        chunks: list[ChatChunk] = []
        try:
            for payload, name in lines:
                said = self._said_by(payload, name)
                if self._gaps.lost and (self._calls or self._gaps.lost_call):
                    raise ValueError("a part of its answer cannot be read, and it calls tools")
                chunks += said
                if self.is_over:
                    break
        except (ProviderError, ValueError) as fault:
            self._broken_by = fault
        if len(chunks) > 1:
            chunks[:-1] = [ChatChunk(raw, data, more=True) for raw, data, _ in chunks[:-1]]
        return chunks

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

    def pause(self, patience: Patience) -> bool:
        """Before waiting for more; whether there is nothing more to wait for.

        Raises ProviderError or ValueError, when that is what came after all that was given.
        """
        if self._broken_by is not None:
            raise self._broken_by
        if self._is_heard:
            if self._finishes and self.is_told:
                patience.renew(TAIL_SECONDS)
            else:
                patience.renew(THINKING_SECONDS if self.reader.thinking else SILENCE_SECONDS)
        return self.is_over

    def _said_by(self, payload: bytes, name: str) -> Sequence[ChatChunk]:
        """What to pass on of an event: nothing before the first sign of life, with it all that came before.

        Raises ProviderError for a fault that it tells of.
        """
        if payload == _END:
            self.is_over = True
            self._gaps.close()
            return ()
        event = decode(payload)
        if event is not None:
            if self._gaps.open:
                self._gaps.close()
        elif self.is_told or (event := self._gaps.read(payload, exact=self._calls)) is None:
            return ()
        if (error := self.error(event.data)) or name == "error":
            raise self.fault(error or event.data)
        try:
            if self.wanted == 1 and says_words_alone(event.data):  # a short cut, to the same
                self.said = is_alive = True
                self._begun.add(0)
                chunks: Sequence[ChatChunk] | None = (event,)
            else:
                chunks = self.reader.read(event)
                is_alive = chunks is not None and self._note(chunks)
        except MALFORMED:
            if not self.is_told:
                self._gaps.lose(event.raw)
            return ()
        if chunks is None:
            return ()
        for sign in self._signs:
            if sign in event.raw:
                chunks = [self._without_secrets(chunk) for chunk in chunks]
        if is_alive:
            self._is_heard = True
            if not self._is_alive:
                chunks, self._held, self._is_alive = [*self._held, *chunks], [], True
        elif not self._is_alive:
            self._held += chunks
            chunks = ()
        self.is_over = self.reader.ended
        return chunks

    def _without_secrets(self, chunk: ChatChunk) -> ChatChunk:
        data = without_secrets(chunk.data, self.secrets)
        return chunk if data is chunk.data else ChatChunk(orjson.dumps(data), data)

    def _note(self, chunks: Sequence[ChatChunk]) -> bool:
        """Take note of what one event says; whether that is a sign of life.

        Nothing said is one, as the reader means it so; to tell a role or an empty text, again and again, is
        none. Raises ValueError when a chunk is not what it should be.
        """
        for chunk in chunks:  # what is thrown away leaves no trace
            for choice in chunk.data.get("choices") or ():
                check_words(choice.get("delta") or {})
        alive = not chunks
        for chunk in chunks:
            if chunk.data.get("usage"):
                alive = True
            for choice in chunk.data.get("choices") or ():
                if self._notes(choice):
                    alive = True
        return alive

    def _notes(self, choice: dict[str, Any]) -> bool:
        """Whether the choice says, thinks, calls or ends anything."""
        delta, reason = choice.get("delta") or {}, choice.get("finish_reason")
        number = choice.get("index") if self.wanted > 1 else 0  # a single one may be numbered anyhow
        index = number if type(number) is int else 0
        if speaks := has_content(delta):
            self.said = True
            self._begun.add(index)
            if delta.get("tool_calls") or delta.get("function_call"):
                self._calls = True
        if reason:
            self._finishes[index] = reason
            self._calls = self._calls or reason == "tool_calls"
        return speaks or bool(reason) or any(value for name, value in delta.items() if name != "role")
