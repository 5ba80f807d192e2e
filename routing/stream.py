"""A streamed answer that has begun: from here on it is this provider's, whole or cut."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Self, cast

from routing.errors import ProviderError, StreamCut
from routing.health import Health, Key
from routing.types import ChatChunk, RouteDecision, Usage


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
        resources: AsyncExitStack,
        watch: Stopwatch,
    ) -> None:
        self.decision = decision
        self._held, self._chunks = deque(held), chunks
        self._resources, self._watch = resources, watch
        self._open = True
        self._usage: Usage | None = None
        for chunk in self._held:
            self._note_usage(chunk)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatChunk:
        if self._held:
            return self._held.popleft()
        if not self._open:
            raise StopAsyncIteration
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._watch.finished(self._usage)
            await self._close()
            raise
        except ProviderError as error:
            self._watch.cut()
            await self._close()
            raise StreamCut(
                self.decision.provider, f"The answer of {self.decision.name} broke off: {error}.", self._usage
            ) from error
        self._note_usage(chunk)
        return chunk

    async def aclose(self) -> None:
        """Let go of the provider. What was not read yet is lost."""
        self._held.clear()
        if self._open:
            await self._close()

    async def _close(self) -> None:
        self._open = False
        await self._resources.aclose()

    def _note_usage(self, chunk: ChatChunk) -> None:
        if isinstance(usage := chunk.data.get("usage"), dict):
            self._usage = cast(Usage, usage)


class Stopwatch:
    """Times one stream and tells the health record how it goes."""

    def __init__(self, health: Health, key: Key, clock: Callable[[], float], prompt: int) -> None:
        """`prompt` tokens are to be read before."""
        self._health, self._key, self._clock, self._prompt = health, key, clock, prompt
        self._start = clock()
        self._ttft: float | None = None

    def began(self) -> None:
        """The first text or tool call is there."""
        self._ttft = self._clock() - self._start
        self._health.answered(self._key, self._start + self._ttft)

    def finished(self, usage: Usage | None) -> None:
        """The answer is whole."""
        counted = usage.get("completion_tokens") if usage else None
        tokens = counted if type(counted) is int else None
        now = self._clock()
        latency = now - self._start
        self._health.measured(
            self._key, now, ttft=self._ttft, latency=latency, tokens=tokens, prompt=self._prompt
        )

    def cut(self) -> None:
        """The answer broke off."""
        now = self._clock()
        self._health.faulted(self._key, now)
        self._health.gave_up(self._key, now)
