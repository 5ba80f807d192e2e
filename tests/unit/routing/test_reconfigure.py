"""Another configuration under requests, and providers that are slow to tell their models or to close."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from routing.config import ChainLink, ModelCard, RoutingConfig
from routing.errors import KeyRefused, ProviderUnavailable
from tests.unit.routing.room import Memory, Room, Step, ask, memory, rated, room

BAD_KEY = KeyRefused("a", "a answered 401", 401)


async def answered(at: Room, **request: Any) -> str:
    """Who answers."""
    return (await at.router.complete(ask(**request))).decision.name


@dataclass
class SlowToClose(Memory):
    """It takes until the event to close its connections."""

    may_close: asyncio.Event = field(default_factory=asyncio.Event)

    async def aclose(self) -> None:
        await self.may_close.wait()
        await super().aclose()


def slow_to_close(name: str, *script: Step, **row: Any) -> SlowToClose:
    return SlowToClose(memory(name, *script, **row).spec, deque(script or ("ok",)))


def chain_to(name: str) -> RoutingConfig:
    return RoutingConfig(aliases={"mine": (ChainLink(provider=name, model="m"),)})


def test_another_configuration_is_in_force_at_once_and_as_a_whole() -> None:
    async def scenario() -> None:
        old = slow_to_close("a", BAD_KEY)
        at = room(old, config=chain_to("a"))
        with pytest.raises(KeyRefused):
            await answered(at, model="mine")
        change = asyncio.create_task(at.router.reconfigure(chain_to("b"), [memory("b")]))
        await asyncio.sleep(0)
        assert at.pool.names == ("b",)
        assert await answered(at, model="mine") == "b/m"
        new_key = memory("a", api_key="another-key")
        await at.router.reconfigure(chain_to("a"), [new_key])
        assert not change.done()
        assert await answered(at, model="mine") == "a/m", "that the old key was refused is over"
        old.may_close.set()
        await change
        assert old.closed == 1
        assert await answered(at, model="mine") == "a/m", "the last change is the one that stays"

    asyncio.run(scenario())


def test_a_request_whose_provider_leaves_between_two_attempts_goes_on_with_the_new_ones() -> None:
    async def scenario() -> None:
        a = rated("a", 0.9, ProviderUnavailable("a", "a answered 500", 500))
        at = room(a, config=chain_to("a"))

        async def change() -> None:
            await at.router.reconfigure(chain_to("b"), [memory("b")])

        at.clock.meanwhile = change
        decision = (await at.router.complete(ask(model="mine"))).decision
        assert (decision.name, decision.attempts, len(a.asked)) == ("b/m", 2, 1)

    asyncio.run(scenario())


def test_a_new_key_starts_with_a_clean_record_though_the_old_one_is_still_closing() -> None:
    async def scenario() -> None:
        old = slow_to_close("a", BAD_KEY)
        at = room(old)
        with pytest.raises(KeyRefused):
            await answered(at)
        change = asyncio.create_task(at.router.reconfigure(at.config, [memory("a", api_key="another-key")]))
        await asyncio.sleep(0)
        assert await answered(at) == "a/m" and not change.done()
        old.may_close.set()
        await change

    asyncio.run(scenario())


def test_who_still_tells_its_models_is_waited_for_only_if_nobody_is_ready() -> None:
    class Slow(Memory):
        async def list_models(self) -> list[ModelCard]:
            await told.wait()
            return [ModelCard(id="m", tools=True)]

    told = asyncio.Event()
    slow, other = Slow(memory("slow", models=[]).spec, deque(["ok"])), rated("other", 0.5, tools=False)

    async def scenario() -> None:
        at = room(slow, other)
        assert await answered(at) == "other/m"
        with_tools = asyncio.create_task(answered(at, body={"tools": [{}]}))
        explained = asyncio.create_task(at.router.explain(ask()))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not with_tools.done() and not explained.done()
        told.set()
        assert await with_tools == "slow/m"
        assert {each.candidate.name for each in (await explained).candidates} == {"slow/m", "other/m"}

    asyncio.run(scenario())
