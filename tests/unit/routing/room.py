"""A small in-memory provider and a clock that stands still unless told to move."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from routing.config import ModelCard, ProviderSpec, RoutingConfig
from routing.errors import ProviderError
from routing.health import Health
from routing.pool import ProviderPool
from routing.router import ModelRouter
from routing.types import ChatChunk, ChatRequest

HANG = "hang"
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}


class Clock:
    """Seconds that pass only when somebody sleeps on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.stretch = 1.0
        """How much longer a sleep takes than asked for."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """Happens during each sleep."""

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds * self.stretch
        await asyncio.sleep(0)
        if self.meanwhile:
            await self.meanwhile()


@dataclass(frozen=True)
class Cut:
    """A stream that breaks off after its first words."""

    error: ProviderError


@dataclass(frozen=True)
class Raw:
    """A stream of exactly these chunks."""

    chunks: tuple[dict[str, Any], ...]


Step = str | ProviderError | Cut | Raw


@dataclass
class Memory:
    """A `Provider` that takes each answer from its script; the last step goes on for ever."""

    spec: ProviderSpec
    script: deque[Step]
    listing: list[ModelCard] | ProviderError = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    listings: int = 0
    closed: int = 0
    streams_closed: int = 0

    async def complete(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        step = self._next(card, body)
        if isinstance(step, ProviderError):
            raise step
        if step == HANG:
            await asyncio.sleep(60)
        message = {"role": "assistant", "content": step}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}

    async def stream(
        self, card: ModelCard, body: Mapping[str, Any], deadline: float
    ) -> AsyncIterator[ChatChunk]:
        step = self._next(card, body)
        try:
            if isinstance(step, ProviderError):
                raise step
            if step == HANG:
                await asyncio.sleep(60)
            if isinstance(step, Raw):
                for data in step.chunks:
                    yield chunk(data)
                return
            yield delta({"role": "assistant"})
            yield delta({"content": "Half "})
            if isinstance(step, Cut):
                yield chunk({"choices": [], "usage": USAGE})
                raise step.error
            yield delta({"content": step})
            yield delta({}, finish="stop")
            yield chunk({"choices": [], "usage": USAGE})
        finally:
            self.streams_closed += 1

    async def list_models(self) -> list[ModelCard]:
        self.listings += 1
        if isinstance(self.listing, ProviderError):
            raise self.listing
        return self.listing

    async def aclose(self) -> None:
        self.closed += 1

    def _next(self, card: ModelCard, body: Mapping[str, Any]) -> Step:
        self.asked.append((card.id, dict(body)))
        return self.script.popleft() if len(self.script) > 1 else self.script[0]


def chunk(data: dict[str, Any]) -> ChatChunk:
    return ChatChunk(json.dumps(data).encode(), data)


def delta(content: dict[str, Any], finish: str | None = None) -> ChatChunk:
    return chunk({"choices": [{"index": 0, "delta": content, "finish_reason": finish}]})


def memory(name: str, *script: Step, models: Iterable[ModelCard | str] = ("m",), **row: Any) -> Memory:
    """A provider `name` with these models that gives these answers."""
    cards = tuple(each if isinstance(each, ModelCard) else ModelCard(id=each) for each in models)
    spec = ProviderSpec(name=name, base_url=f"https://{name}.example/v1", models=cards, **row)
    return Memory(spec, deque(script or ("ok",)))


def rated(name: str, quality: float, *script: Step, **card: Any) -> Memory:
    """A provider with one model `m` of that quality."""
    return memory(name, *script, models=[ModelCard(id="m", quality=quality, **card)])


@dataclass
class Room:
    """A router over in-memory providers, with what tests look at."""

    router: ModelRouter
    pool: ProviderPool
    health: Health
    clock: Clock
    config: RoutingConfig


def room(*providers: Memory, config: RoutingConfig | None = None) -> Room:
    clock, config = Clock(), config or RoutingConfig()
    pool = ProviderPool(providers, clock=clock)
    health = Health(known=pool.known)
    router = ModelRouter(
        pool,
        config=config,
        health=health,
        clock=clock,
        sleep=clock.sleep,
        random=lambda: 1.0,
    )
    return Room(router, pool, health, clock, config)


def ask(**fields: Any) -> ChatRequest:
    """A request of one short message, for the best model unless said otherwise."""
    body = {"messages": [{"role": "user", "content": "hi"}], **fields.pop("body", {})}
    return ChatRequest(**{"body": body, "quality": "best_quality", **fields})
