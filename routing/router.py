"""One request in, one good answer out: rank the candidates, ask the best, go on to the next."""

from __future__ import annotations

import asyncio
import random as random_module
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from routing.answers import has_content
from routing.config import RoutingConfig
from routing.errors import (
    KeyRefused,
    ProviderError,
    ProviderNotFound,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from routing.fallback import KEY_STATUSES, Course, nobody_ready
from routing.fields import forwarded
from routing.health import Health, RetryBudget
from routing.naming import Choice
from routing.needs import Needs
from routing.policy import Candidate, Ranked, rank
from routing.pool import ProviderPool
from routing.providers.base import Provider
from routing.stream import RoutedStream, Stopwatch
from routing.types import ChatChunk, ChatCompletion, ChatRequest, RouteDecision

__all__ = ["ModelRouter", "RoutedStream"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Turn:
    """One attempt: whom to ask for what, and what to let go of afterwards."""

    provider: Provider
    candidate: Candidate
    body: dict[str, Any]
    decision: RouteDecision
    deadline: float
    """On the event loop's clock."""
    begin_by: float
    """On the event loop's clock: when an answer must have begun, so that others still can be asked."""
    resources: AsyncExitStack


class ModelRouter:
    """Answers chat requests from whichever model fits best and works now. Safe to use from many tasks."""

    def __init__(
        self,
        pool: ProviderPool,
        *,
        config: RoutingConfig,
        health: Health | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._pool, self._config, self._health = pool, config, health or Health()
        self._clock, self._sleep, self._random = clock, sleep, random
        self._budget = RetryBudget()

    @property
    def pool(self) -> ProviderPool:
        """The providers in service."""
        return self._pool

    async def complete(self, request: ChatRequest) -> ChatCompletion:
        """A whole answer.

        Raises NoProviderConfigured, NoProviderAvailable, ModelNotFound, ProviderNotFound, Unsupported,
        or the ProviderError that tells most.
        """
        return await self._route(request, self._ask_whole)

    async def stream(self, request: ChatRequest) -> RoutedStream:
        """An answer that has begun: its first text or tool call is there. Close it.

        Until then other candidates are tried as for `complete`, with the same errors; afterwards a fault
        raises StreamCut from the stream.
        """
        return await self._route(request, self._ask_stream)

    async def explain(self, request: ChatRequest) -> list[Ranked]:
        """All candidates for the request in their order, with the reasons. Asks no model."""
        _, _, ranked = await self._plan(request)
        return ranked

    def status(self) -> dict[str, bool]:
        """For each provider, whether it may be asked now, as far as we know."""
        snapshot = self._health.snapshot(self._clock())
        return {name: snapshot.is_up(name) for name in self._pool.names}

    async def reconfigure(self, config: RoutingConfig, providers: Iterable[Provider]) -> None:
        """Take over another configuration; requests in flight end as they began.

        Providers to be kept are given as the same objects (`ProviderPool.live`). The others start with a
        clean record, and are closed when their last request is done.
        """
        changed = await self._pool.swap(providers)
        self._config = config
        self._health.forget(changed)

    async def _plan(self, request: ChatRequest) -> tuple[Choice, Needs, list[Ranked]]:
        choice = await self._pool.resolve(request.model, request.provider, self._config.aliases)
        needs = Needs.of(request.body, prefers_tools=choice.prefers_tools)
        ranked = rank(
            choice.candidates,
            choice.quality or request.quality,
            self._health.snapshot(self._clock()),
            needs,
            free_only=self._config.router.free_only,
            in_order=choice.in_order,
        )
        return choice, needs, ranked

    async def _route(self, request: ChatRequest, ask: Callable[[_Turn], Awaitable[T]]) -> T:
        """The one retry loop. Raises the error that tells most when nobody answered."""
        start = self._clock()
        deadline = start + self._config.router.timeout
        self._budget.request(start)
        choice, needs, ranked = await self._plan(request)
        course = Course(
            _worth_asking(ranked),
            needs,
            self._config,
            in_order=choice.in_order,
            deadline=deadline,
            budget=self._budget,
            random=self._random,
        )
        while self._clock() < deadline and (candidate := course.next()):
            if (claim := self._health.claim(candidate.key)) == "closed":
                continue
            try:
                return await self._attempt(request, candidate, course, deadline, ask, probe=claim == "probe")
            except ProviderError as error:
                failure = error
            pause = course.fail(candidate, failure, self._clock())
            self._record(candidate, failure, gave_up=pause is None)
            if pause is None:
                course.check_fallback(failure)
            else:
                await self._sleep(pause)
        if course.failed or any(entry.is_ready for entry in ranked):
            raise course.outcome()
        raise nobody_ready(ranked)

    async def _attempt(
        self,
        request: ChatRequest,
        candidate: Candidate,
        course: Course,
        deadline: float,
        ask: Callable[[_Turn], Awaitable[T]],
        *,
        probe: bool,
    ) -> T:
        """One try at one candidate. Raises ProviderError."""
        async with AsyncExitStack() as resources:
            if probe:
                resources.callback(self._health.release, candidate.key)
            try:
                provider = await resources.enter_async_context(self._pool.lease(candidate.spec.name))
            except ProviderNotFound as gone:
                raise KeyRefused(candidate.spec.name, f"{gone} It was removed just now.") from gone
            body, dropped = forwarded(request.body, provider.spec.unsupported)
            prices = candidate.prices
            decision = RouteDecision(*candidate.key, tuple(course.failed), dropped, *prices)
            now, left = asyncio.get_running_loop().time(), deadline - self._clock()
            begin_by = now + (left / 2 if course.others_left else left)
            return await ask(_Turn(provider, candidate, body, decision, now + left, begin_by, resources))

    async def _ask_whole(self, turn: _Turn) -> ChatCompletion:
        key, start = turn.candidate.key, self._clock()
        with _late_is_silent(turn):
            async with asyncio.timeout_at(turn.begin_by):
                data = await turn.provider.complete(turn.candidate.card, turn.body, turn.deadline)
        self._health.answered(key)
        tokens = (data.get("usage") or {}).get("completion_tokens")
        self._health.measured(key, latency=self._clock() - start, tokens=tokens)
        return ChatCompletion(data, turn.decision)

    async def _ask_stream(self, turn: _Turn) -> RoutedStream:
        watch = Stopwatch(self._health, turn.candidate.key, self._clock)
        chunks = turn.provider.stream(turn.candidate.card, turn.body, turn.deadline)
        if isinstance(chunks, AsyncGenerator):
            turn.resources.push_async_callback(chunks.aclose)
        held = await _first_words(turn, chunks)
        watch.began()
        return RoutedStream(turn.decision, held, chunks, turn.resources.pop_all(), watch)

    def _record(self, candidate: Candidate, error: ProviderError, *, gave_up: bool) -> None:
        key, now = candidate.key, self._clock()
        if isinstance(error, RateLimited):
            named = error.retry_after
            self._health.limited(
                key, now, self._config.router.retry_after_seconds if named is None else named
            )
        elif isinstance(error, KeyRefused):
            self._health.refused(key, now, str(error), whole_account=error.status in KEY_STATUSES)
        elif isinstance(error, ProviderUnavailable):
            self._health.faulted(key)
            if gave_up:
                self._health.gave_up(key, now)


def _worth_asking(ranked: list[Ranked]) -> list[Ranked]:
    """Who is ready; when nobody is, who failed lately: there is nothing to lose by asking again."""
    ready = [entry for entry in ranked if entry.is_ready]
    return ready or [
        entry for entry in ranked if entry.refusal is None and entry.block and entry.block.cause == "faults"
    ]


async def _first_words(turn: _Turn, chunks: AsyncIterator[ChatChunk]) -> list[ChatChunk]:
    """The chunks up to the first that says or calls something. Raises ProviderError."""
    held: list[ChatChunk] = []
    with _late_is_silent(turn):
        async with asyncio.timeout_at(turn.begin_by) as limit:
            async for chunk in chunks:
                limit.reschedule(turn.deadline)  # it is alive: it may think as long as there is time
                held.append(chunk)
                if any(has_content(choice.get("delta") or {}) for choice in _choices(chunk)):
                    return held
    if any(choice.get("finish_reason") == "length" for chunk in held for choice in _choices(chunk)):
        return held  # all its room went into thinking: that is the caller's to see
    name = turn.candidate.spec.name
    raise ProviderUnavailable(name, f"{name} sent an empty answer")


def _choices(chunk: ChatChunk) -> list[dict[str, Any]]:
    return chunk.data.get("choices") or []


@contextmanager
def _late_is_silent(turn: _Turn) -> Iterator[None]:
    """Turns the end of our own patience into ProviderTimeout."""
    try:
        yield
    except TimeoutError as late:
        name = turn.candidate.name
        raise ProviderTimeout(turn.candidate.spec.name, f"{name} did not answer in time") from late
