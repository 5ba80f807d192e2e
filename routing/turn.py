"""One attempt at one candidate: the answer whole, or its stream once it has begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from routing.answers import has_content
from routing.candidate import Candidate
from routing.errors import ProviderTimeout, ProviderUnavailable
from routing.health import Health
from routing.meter import MeteredCall
from routing.providers.base import Provider
from routing.stream import RoutedStream, Stopwatch
from routing.types import ChatChunk, ChatCompletion, RouteDecision


@dataclass(frozen=True, slots=True)
class Turn:
    """Whom to ask for what, until when, and what to let go of afterwards."""

    provider: Provider | MeteredCall
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
    health: Health
    clock: Callable[[], float]

    async def whole(self) -> ChatCompletion:
        """The answer. Raises ProviderError."""
        key, start = self.candidate.key, self.clock()
        with self._late_is_silent():
            async with asyncio.timeout_at(self.begin_by):
                data = await self.provider.complete(self.candidate.card, self.body, self.deadline)
        now = self.clock()
        tokens = (data.get("usage") or {}).get("completion_tokens")
        self.health.answered(key, now)
        tokens = tokens if type(tokens) is int else None
        self.health.measured(key, now, latency=now - start, tokens=tokens, prompt=self.unread)
        return ChatCompletion(data, self.decision)

    async def stream(self) -> RoutedStream:
        """The answer as soon as it has begun. Raises ProviderError."""
        watch = Stopwatch(self.health, self.candidate.key, self.clock, self.unread)
        chunks = self.provider.stream(self.candidate.card, self.body, self.deadline)
        if isinstance(chunks, AsyncGenerator):
            self.resources.push_async_callback(chunks.aclose)
        held = await self._first_words(chunks)
        watch.began()
        return RoutedStream(self.decision, held, chunks, self.resources.pop_all(), watch)

    async def _first_words(self, chunks: AsyncIterator[ChatChunk]) -> list[ChatChunk]:
        """The chunks up to the first that says or calls something. Raises ProviderError."""
        held: list[ChatChunk] = []
        with self._late_is_silent():
            async with asyncio.timeout_at(self.begin_by) as limit:
                async for chunk in chunks:
                    limit.reschedule(self.deadline)  # it is alive: it may think as long as there is time
                    held.append(chunk)
                    if any(has_content(choice.get("delta") or {}) for choice in _choices(chunk)):
                        return held
        if any(choice.get("finish_reason") == "length" for chunk in held for choice in _choices(chunk)):
            return held  # all its room went into thinking: that is the caller's to see
        name = self.candidate.spec.name
        raise ProviderUnavailable(name, f"{name} sent an empty answer")

    @contextmanager
    def _late_is_silent(self) -> Iterator[None]:
        """Turns the end of our own patience into ProviderTimeout."""
        try:
            yield
        except TimeoutError as late:
            provider, name = self.candidate.spec.name, self.candidate.name
            raise ProviderTimeout(provider, f"{name} did not answer in time") from late


def _choices(chunk: ChatChunk) -> list[dict[str, Any]]:
    return chunk.data.get("choices") or []
