"""Staying where a conversation's prompt is cached."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.affinity import LEAST_TOKENS, MOST_THREADS, WARM_SECONDS, Affinity, thread_of
from routing.config import ChainLink, RoutingConfig
from routing.policy import Warm
from routing.types import ChatRequest
from tests.unit.routing.room import ask, rated, room

KEY = ("p", "m")
USER = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "Be brief."}


def test_a_cache_is_warm_for_five_minutes_since_the_last_visit() -> None:
    affinity = Affinity()
    affinity.visited("t", KEY, 5000, 0)
    assert affinity.warm("t", WARM_SECONDS - 1) == Warm(KEY, 5000)
    assert affinity.warm("t", WARM_SECONDS) is None and affinity.warm("other", 1) is None
    affinity.visited("t", KEY, 6000, WARM_SECONDS - 1)
    assert affinity.warm("t", WARM_SECONDS + 1) == Warm(KEY, 6000)


def test_short_prompts_are_not_cached_and_the_oldest_threads_go() -> None:
    affinity = Affinity()
    affinity.visited("short", KEY, LEAST_TOKENS - 1, 0)
    assert affinity.warm("short", 0) is None
    for number in range(MOST_THREADS + 1):
        affinity.visited(number, KEY, LEAST_TOKENS, 0)
        affinity.visited(0, KEY, LEAST_TOKENS, 0)
    assert affinity.warm(0, 0) and affinity.warm(1, 0) is None


@pytest.mark.parametrize(
    ("messages", "same"),
    [
        ([SYSTEM, USER, {"role": "assistant", "content": "yes?"}, USER], True),
        ([SYSTEM, {**USER, "content": "ho"}], False),
        ([USER], False),
        ([SYSTEM, {**USER, "content": "hi" + "x" * 5000}], False),
    ],
)
def test_a_conversation_is_known_by_how_it_begins(messages: list[dict[str, Any]], same: bool) -> None:
    known = thread_of({"messages": [SYSTEM, USER]}, None)
    assert (thread_of({"messages": messages}, None) == known) is same
    assert thread_of({"messages": messages}, "thread-1") == "thread-1"


_part = (
    st.none() | st.text(max_size=5) | st.integers() | st.lists(st.none() | st.text(max_size=3), max_size=2)
)


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "x"]), _part, max_size=3), max_size=3))
def test_any_messages_stand_for_something(messages: list[dict[str, Any]]) -> None:
    assert thread_of({"messages": messages}, None) == thread_of({"messages": messages}, None)


def long(**fields: Any) -> ChatRequest:
    body = {"messages": [SYSTEM, {"role": "user", "content": "x" * 4 * LEAST_TOKENS}]}
    return ask(body=body, **fields)


@pytest.mark.parametrize("affinity", ["thread-1", None])
def test_a_thread_stays_until_its_cache_is_cold(affinity: str | None) -> None:
    async def scenario() -> None:
        a, b = rated("a", 0.9), rated("b", 0.9)
        at = room(a, b)
        at.health.limited(("a", "m"), at.clock(), 10)
        assert (await at.router.complete(long(affinity=affinity))).decision.name == "b/m"
        at.clock.now += 20
        assert (await at.router.complete(ask(affinity="another"))).decision.name == "a/m"
        stream = await at.router.stream(long(affinity=affinity))
        assert stream.decision.name == "b/m"
        await stream.aclose()
        explained = await at.router.explain(long(affinity=affinity))
        assert "prompt cache is warm" in explained.candidates[0].reason
        at.clock.now += WARM_SECONDS
        assert (await at.router.complete(long(affinity=affinity))).decision.name == "a/m"

    asyncio.run(scenario())


def test_a_chain_is_a_chain_whatever_is_warm() -> None:
    async def scenario() -> None:
        chain = (ChainLink(provider="a", model="m"), ChainLink(provider="b", model="m"))
        at = room(rated("a", 0.5), rated("b", 0.9), config=RoutingConfig(aliases={"mine": chain}))
        assert (await at.router.complete(long(affinity="t"))).decision.name == "b/m"
        assert (await at.router.complete(long(affinity="t", model="mine"))).decision.name == "a/m"

    asyncio.run(scenario())
