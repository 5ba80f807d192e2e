"""A streamed answer that has begun: from here on it is this provider's, whole or cut."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Self

from routing.candidate import Candidate
from routing.errors import ProviderError, StreamCut
from routing.experience import Experience
from routing.meter import MeteredCall
from routing.types import ChatChunk, RouteDecision


class RoutedStream:
    """The chunks of an answer, in order, each once; and who gives it.

    Iterating raises StreamCut when the answer breaks off: what came before is not a whole answer. Call
    `aclose()` in any case; it ends the connection of a stream that is not read to its end.
    """

    def __init__(
        self,
        decision: RouteDecision,
        held: Iterable[ChatChunk],
        chunks: AsyncIterator[ChatChunk],
        call: MeteredCall,
        resources: AsyncExitStack,
        watch: Stopwatch,
    ) -> None:
        self.decision = decision
        self._held, self._chunks = deque(held), chunks
        self._call, self._resources, self._watch = call, resources, watch
        self._open = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatChunk:
        if self._held:
            return self._held.popleft()
        if not self._open:
            raise StopAsyncIteration
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            self._watch.finished(self._call.told_tokens)
            await self._close()
            raise
        except ProviderError as error:
            self._watch.cut()
            await self._close()
            words = f"The answer of {self.decision.name} broke off: {error}."
            raise StreamCut(self.decision.provider, words, self._call.usage) from error

    async def aclose(self) -> None:
        """Let go of the provider. What was not read yet is lost."""
        self._held.clear()
        if self._open:
            await self._close()

    async def _close(self) -> None:
        self._open = False
        await self._resources.aclose()


class Stopwatch:
    """Times one stream and tells how it goes."""

    def __init__(
        self, experience: Experience, candidate: Candidate, clock: Callable[[], float], prompt: int
    ) -> None:
        """`prompt` tokens are to be read before."""
        self._experience, self._candidate = experience, candidate
        self._clock, self._prompt = clock, prompt
        self._start = clock()
        self._ttft: float | None = None

    def began(self) -> None:
        """The first text or tool call is there."""
        self._ttft = self._clock() - self._start
        self._experience.answered(self._candidate)

    def finished(self, tokens: int | None) -> None:
        """The answer is whole, and has so many tokens if the provider told."""
        latency = self._clock() - self._start
        self._experience.measured(
            self._candidate, ttft=self._ttft, latency=latency, tokens=tokens, prompt=self._prompt
        )

    def cut(self) -> None:
        """The answer broke off."""
        self._experience.cut(self._candidate)
