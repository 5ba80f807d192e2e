"""Answers that come when the account has another key: they say nothing about that one."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from agent_service.model_pool import ModelPool
from routing.config import ModelCard, ProviderSpec, RouterConfig, RoutingConfig
from routing.errors import ProviderError
from routing.types import ChatRequest
from tests.upstream import ScriptedUpstream, Step, says, status, wait

KEY = ("p", "m")
HI = ChatRequest({"messages": [{"role": "user", "content": "hi"}]})
NOTHING_LEFT = {"x-ratelimit-limit": "9", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}


def keyed(upstream: ScriptedUpstream, key: str) -> RoutingConfig:
    spec = ProviderSpec(
        name="p", base_url=upstream.base_url, api_key=SecretStr(key), models=(ModelCard(id="m"),)
    )
    return RoutingConfig(providers=(spec,), router=RouterConfig(num_retries=0))


def telling(step: Step, headers: dict[str, str]) -> Step:
    """The same answer with headers of its own."""

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await step.serve(request, body)
        response.headers.update(headers)
        return response

    return Step(serve)


async def sent(upstream: ScriptedUpstream, requests: int) -> None:
    while len(upstream.requests) < requests:  # noqa: ASYNC110 - the upstream has a loop of its own
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "late",
    [status(401, "revoked"), status(429, "slow down", retry_after=60), status(404, "no such model")],
    ids=["401", "429", "404"],
)
def test_what_is_said_of_the_old_key_is_not_held_against_the_new_one(late: Step) -> None:
    gate = threading.Event()

    async def scenario(upstream: ScriptedUpstream) -> None:
        async with ModelPool(keyed(upstream, "old-key")) as models:
            before = asyncio.create_task(models.router.complete(HI))
            await sent(upstream, 1)
            await models.reconfigure(keyed(upstream, "new-key"))
            assert (await models.router.complete(HI)).message["content"] == "new"
            gate.set()
            with pytest.raises(ProviderError):
                await before
            assert models.health.snapshot(time.monotonic()).block(KEY) is None
            assert models.health.snapshot(time.monotonic()).left(KEY) is None
            assert (await models.router.complete(HI)).message["content"] == "new"

    with ScriptedUpstream([wait(gate, telling(late, NOTHING_LEFT))], otherwise="new") as upstream:
        asyncio.run(scenario(upstream))


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_to_the_old_key_does_not_bring_back_the_new_one(streamed: bool) -> None:
    gate = threading.Event()

    async def first(models: ModelPool) -> None:
        if not streamed:
            await models.router.complete(HI)
            return
        stream = await models.router.stream(HI)
        assert [chunk async for chunk in stream]

    async def scenario(upstream: ScriptedUpstream) -> None:
        async with ModelPool(keyed(upstream, "old-key")) as models:
            before = asyncio.create_task(first(models))
            await sent(upstream, 1)
            await models.reconfigure(keyed(upstream, "new-key"))
            with pytest.raises(ProviderError):
                await models.router.complete(HI)
            gate.set()
            await before
            assert models.health.snapshot(time.monotonic()).block(KEY)
            assert models.health.snapshot(time.monotonic()).of(KEY).ttft is None

    with ScriptedUpstream([wait(gate, says("late")), status(404, "no such model")]) as upstream:
        asyncio.run(scenario(upstream))
