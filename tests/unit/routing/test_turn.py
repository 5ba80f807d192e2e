"""Requests over real connections to a provider that does badly and one that does well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from routing.config import ModelCard, ProviderSpec, RouterConfig, RoutingConfig
from routing.health import Health
from routing.pool import ProviderPool
from routing.providers.formats import http_provider
from routing.router import ModelRouter
from routing.transport import open_client
from routing.types import RouteDecision
from tests.unit.routing.room import ask
from tests.upstream import ScriptedUpstream, Step, drip, hang, raw

EMPTY_DELTA = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
ODD_CALLS = b'{"choices":[{"index":0,"%s":{"content":"hi","tool_calls":5},"finish_reason":"stop"}]}'

Question = Callable[[ModelRouter], Awaitable[RouteDecision]]


async def whole(router: ModelRouter) -> RouteDecision:
    return (await router.complete(ask())).decision


async def streamed(router: ModelRouter) -> RouteDecision:
    stream = await router.stream(ask())
    await stream.aclose()
    return stream.decision


def asked(step: Step, question: Question, seconds: float) -> tuple[RouteDecision, Health]:
    """Who answers within so many seconds where `bad` does this and `good` answers, and what was learned."""

    async def scenario() -> tuple[RouteDecision, Health]:
        health, config = Health(), RoutingConfig(router=RouterConfig(timeout=seconds, num_retries=0))
        pool = ProviderPool(
            http_provider(
                ProviderSpec(name=name, base_url=up.base_url, models=(ModelCard(id="m", quality=quality),)),
                open_client(),
            )
            for name, up, quality in (("bad", bad, 0.9), ("good", good, 0.5))
        )
        try:
            router = ModelRouter(pool, config=config, health=health, clock=asyncio.get_running_loop().time)
            return await question(router), health
        finally:
            await pool.aclose()

    with ScriptedUpstream([step]) as bad, ScriptedUpstream(["fine"]) as good:
        return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("step", "question"),
    [
        (raw(ODD_CALLS % b"message"), whole),
        (raw(b"data: " + ODD_CALLS % b"delta" + b"\n\n", content_type="text/event-stream"), streamed),
    ],
    ids=["whole", "streamed"],
)
def test_after_a_misshapen_answer_the_next_is_asked_and_it_is_learned(step: Step, question: Question) -> None:
    decision, health = asked(step, question, 20)
    assert (decision.name, decision.attempts) == ("good/m", 2)
    assert health.snapshot(0).of(("bad", "m")).success_rate < 1


@pytest.mark.parametrize(
    ("step", "question"),
    [(hang(), whole), (drip(), whole), (drip(), streamed), (drip(saying=EMPTY_DELTA), streamed)],
    ids=["hang", "blanks", "comments", "empty deltas"],
)
def test_whoever_says_nothing_in_half_of_the_time_leaves_the_other_half_to_the_next(
    step: Step, question: Question
) -> None:
    decision, _ = asked(step, question, 1.2)
    assert (decision.name, decision.attempts) == ("good/m", 2)
