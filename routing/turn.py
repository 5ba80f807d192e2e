"""One attempt at one candidate: the answer whole, or its stream once it has begun."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from routing.answers import has_content
from routing.candidate import Candidate
from routing.errors import ProviderUnavailable
from routing.experience import Experience
from routing.meter import MeteredCall
from routing.stream import RoutedStream, Stopwatch
from routing.types import ChatChunk, ChatCompletion, RouteDecision


@dataclass(frozen=True, slots=True)
class Turn:
    """Whom to ask for what, until when, and what to let go of afterwards."""

    call: MeteredCall
    candidate: Candidate
    body: dict[str, Any]
    decision: RouteDecision
    deadline: float
    """On the event loop's clock."""
    begin_by: float
    """On the event loop's clock: when an answer must have begun, so that others still can be asked."""
    unread: int
    """Prompt tokens that are not in its cache, estimated."""
    resources: AsyncExitStack
    experience: Experience
    clock: Callable[[], float]

    async def whole(self) -> ChatCompletion:
        """The answer. Raises ProviderError."""
        start = self.clock()
        data = await self.call.complete(self.candidate.card, self.body, self.begin_by)
        latency, tokens = self.clock() - start, self.call.told_tokens
        self.experience.answered(self.candidate)
        self.experience.measured(
            self.candidate, ttft=None, latency=latency, tokens=tokens, prompt=self.unread
        )
        return ChatCompletion(data, self.decision)

    async def stream(self) -> RoutedStream:
        """The answer as soon as it has begun. Raises ProviderError."""
        watch = Stopwatch(self.experience, self.candidate, self.clock, self.unread)
        chunks = self.call.stream(self.candidate.card, self.body, self.deadline, self.begin_by)
        self.resources.push_async_callback(chunks.aclose)
        held = await self._first_words(chunks)
        watch.began()
        return RoutedStream(self.decision, held, chunks, self.call, self.resources.pop_all(), watch)

    async def _first_words(self, chunks: AsyncIterator[ChatChunk]) -> list[ChatChunk]:
        """The chunks up to the first that says or calls something. Raises ProviderError."""
        held: list[ChatChunk] = []
        async for chunk in chunks:
            held.append(chunk)
            if any(has_content(choice.get("delta") or {}) for choice in _choices(chunk)):
                return held
        if any(choice.get("finish_reason") == "length" for chunk in held for choice in _choices(chunk)):
            return held  # all its room went into thinking: that is the caller's to see
        name = self.candidate.spec.name
        raise ProviderUnavailable(name, f"{name} sent an empty answer")


def _choices(chunk: ChatChunk) -> list[dict[str, Any]]:
    return chunk.data.get("choices") or []
