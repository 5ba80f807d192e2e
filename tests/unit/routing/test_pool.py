"""Naming a model, listing models, and changing providers under requests in flight."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from routing.catalogue import known_models
from routing.config import ChainLink, ModelCard
from routing.errors import (
    ModelNotFound,
    NoProviderConfigured,
    ProviderError,
    ProviderNotFound,
    ProviderUnavailable,
)
from routing.listing import LISTING_KEPT
from routing.naming import Choice
from routing.pool import ProviderPool
from tests.unit.routing.room import Clock, Memory, memory


def resolve(
    pool: ProviderPool, model: str, provider: str | None = None, **aliases: list[ChainLink]
) -> Choice:
    return asyncio.run(pool.resolve(model, provider, aliases))


def names(choice: Choice) -> list[str]:
    return [candidate.name for candidate in choice.slate.candidates]


async def others_work() -> None:
    """Let the tasks that are under way come to their end; none of them does any I/O."""
    for _ in range(10):
        await asyncio.sleep(0)


def two() -> ProviderPool:
    return ProviderPool(
        [memory("groq", models=["openai/big", "shared", "llama"]), memory("openai", models=["big", "shared"])]
    )


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        ("auto", None, ["groq/openai/big", "groq/shared", "groq/llama", "openai/big", "openai/shared"]),
        ("auto", "openai", ["openai/big", "openai/shared"]),
        ("big", "openai", ["openai/big"]),
        ("openai/big", "openai", ["openai/big"]),  # its own prefix is taken off
        ("openai/big", "groq", ["groq/openai/big"]),  # another one's is part of the name
        ("groq/groq/x", "groq", ["groq/groq/x"]),  # and once only
        ("brand-new", "openai", ["openai/brand-new"]),  # unknown ones are passed through
        ("fast", "openai", ["openai/fast"]),  # so are names that mean something elsewhere
        ("groq/llama", None, ["groq/llama"]),
        ("openai/big", None, ["openai/big"]),  # a provider before a bare id with a slash
        ("groq/openai/big", None, ["groq/openai/big"]),
        ("shared", None, ["groq/shared", "openai/shared"]),
    ],
)
def test_naming(model: str, provider: str | None, expected: list[str]) -> None:
    assert names(resolve(two(), model, provider)) == expected


def test_a_bare_id_with_a_slash() -> None:
    pool = ProviderPool([memory("groq", models=["openai/oss"]), memory("openai", models=["big"])])
    assert names(resolve(pool, "openai/oss")) == ["groq/openai/oss"]


def test_an_alias_comes_first_and_keeps_its_order() -> None:
    chain = [ChainLink(provider="openai", model="x"), ChainLink(provider="gone", model="y")]
    choice = resolve(two(), "shared", shared=[*chain, ChainLink(provider="groq", model="llama")])
    assert names(choice) == ["openai/x", "groq/llama"] and choice.strategy == "in-order"
    with pytest.raises(ProviderNotFound, match="gone"):
        resolve(two(), "shared", shared=chain[1:])


@pytest.mark.parametrize(
    ("alias", "quality", "prefers_tools"),
    [
        ("default", None, False),
        ("fast", "fastest", False),
        ("code", "best_quality", True),
        ("reasoning", "best_quality", False),
    ],
)
def test_built_in_aliases(alias: str, quality: str | None, prefers_tools: bool) -> None:
    choice = resolve(two(), alias)
    assert len(choice.slate.candidates) == 5 and choice.strategy is None and choice.is_open
    assert (choice.quality, choice.prefers_tools) == (quality, prefers_tools)


@pytest.mark.parametrize("model", ["lama", "groq/lama", "openai/llamas", "x" * 20_000, "", "/", "groq/"])
def test_unknown_models(model: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(two(), model)
    assert len(str(caught.value)) < 400
    if "lama" in model:
        assert any("llama" in name for name in caught.value.nearest)


def test_unknown_provider_gets_the_nearest() -> None:
    with pytest.raises(ProviderNotFound) as caught:
        resolve(two(), "big", "Grok")
    assert caught.value.nearest == ("groq",)


def test_nobody_configured_says_what_to_do() -> None:
    with pytest.raises(NoProviderConfigured, match=r"agent-service local install"):
        resolve(ProviderPool(), "auto")


def test_models_are_listed_once_a_minute() -> None:
    clock = Clock()
    server = memory("team", models=[])
    server.listing = [ModelCard(id="a")]
    pool = ProviderPool([server], clock=clock)

    async def scenario() -> None:
        await asyncio.gather(*(pool.candidates() for _ in range(5)))
        assert server.listings == 1
        clock.now += LISTING_KEPT
        server.listing = [ModelCard(id="a"), ModelCard(id="b")]
        assert names(await pool.resolve("auto")) == ["team/a"], "what is known is not waited for"
        await others_work()
        assert names(await pool.resolve("auto")) == ["team/a", "team/b"]
        assert server.listings == 2

    asyncio.run(scenario())


def test_who_takes_its_time_to_list_its_models_keeps_nobody_waiting() -> None:
    class Slow(Memory):
        async def list_models(self) -> list[ModelCard]:
            listing = await super().list_models()
            await told.wait()
            return listing

    told = asyncio.Event()
    slow, other = Slow(memory("slow", models=[]).spec, deque()), memory("other", models=["b"])
    slow.listing = [ModelCard(id="a")]

    async def scenario() -> None:
        pool = ProviderPool()
        await pool.swap([slow, other]).finish()
        await others_work()
        assert slow.listings == 1, "it is asked before the first request"
        assert names(await pool.resolve("auto")) == names(await pool.resolve("b")) == ["other/b"]
        assert names(await pool.resolve("auto", "slow")) == []
        everything = asyncio.create_task(pool.candidates())
        await others_work()
        assert not everything.done()
        told.set()
        assert [each.name for each in await everything] == ["slow/a", "other/b"]
        assert names(await pool.resolve("auto")) == ["slow/a", "other/b"]

    asyncio.run(scenario())


def test_looking_for_models_ends_with_the_pool() -> None:
    class Silent(Memory):
        async def list_models(self) -> list[ModelCard]:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(self.closed)
            raise AssertionError("unreachable")

    ended: list[int] = []
    silent = Silent(memory("silent", models=[]).spec, deque())

    async def scenario() -> None:
        pool = ProviderPool()
        await pool.swap([silent]).finish()
        waiting = asyncio.create_task(pool.candidates())
        await others_work()
        await pool.aclose()
        assert ended == [0] and silent.closed == 1, "and is not cut off by the closing of its client"
        assert await waiting == (), "whoever waited for it goes on"

    asyncio.run(scenario())


def test_a_failed_listing_is_remembered_and_not_fatal() -> None:
    clock = Clock()
    server, other = memory("team", models=[]), memory("other", models=["b"])
    server.listing = ProviderUnavailable("team", "down")
    pool = ProviderPool([server, other], clock=clock)

    async def scenario() -> None:
        for _ in range(3):
            assert [each.name for each in await pool.candidates()] == ["other/b"]
        assert server.listings == 1
        # What nobody can look up is taken at the caller's word, if the provider is named.
        assert names(await pool.resolve("team/x")) == ["team/x"]
        with pytest.raises(ModelNotFound):
            await pool.resolve("x")
        clock.now += LISTING_KEPT
        server.listing = [ModelCard(id="a")]
        assert [each.name for each in await pool.candidates()] == ["team/a", "other/b"]
        clock.now += LISTING_KEPT
        server.listing = ProviderUnavailable("team", "down again")
        await pool.resolve("auto")
        await others_work()
        assert server.listings == 3
        assert names(await pool.resolve("auto")) == ["team/a", "other/b"]

    asyncio.run(scenario())


def test_listed_models_are_filled_up_from_the_catalogue() -> None:
    elsewhere = memory("openai", models=[])
    elsewhere.listing = [ModelCard(id="gpt-4o", context_window=4096), ModelCard(id="mine")]
    known, mine = asyncio.run(ProviderPool([elsewhere]).candidates())
    assert known.card.context_window == 4096 and known.card.tools is True
    assert mine.card == ModelCard(id="mine")


def test_an_address_that_lists_nothing_falls_back_on_the_catalogue() -> None:
    elsewhere = memory("openai", models=[])
    elsewhere.listing = ProviderUnavailable("openai", "404")
    assert "openai/gpt-4o" in [each.name for each in asyncio.run(ProviderPool([elsewhere]).candidates())]


def test_swap_closes_who_is_idle_and_keeps_who_stays() -> None:
    a, b, c = memory("a"), memory("b"), memory("c")

    async def scenario() -> None:
        pool = ProviderPool([a, b])
        assert pool.live(b.spec) is b and pool.live(c.spec) is None
        swap = pool.swap([b, c])
        assert swap.changed == {"a", "c"} and pool.names == ("b", "c")
        assert a.closed == 0, "that may take a while; the others are in service already"
        await swap.finish()
        assert (a.closed, b.closed, c.closed) == (1, 0, 0)
        await pool.aclose()
        assert (a.closed, b.closed, c.closed) == (1, 1, 1)

    asyncio.run(scenario())


def test_swap_waits_for_requests_in_flight() -> None:
    old, new = memory("a"), memory("a")

    async def scenario() -> None:
        pool = ProviderPool([old])
        async with pool.lease("a") as outer:
            async with pool.lease("a"):
                swap = pool.swap([new])
                assert swap.changed == set(), "nothing that health knows is about another account"
                await swap.finish()
                async with pool.lease("a") as fresh:
                    assert outer is old and fresh is new
            assert old.closed == 0
        assert (old.closed, new.closed) == (1, 0)
        await pool.swap([]).finish()
        with pytest.raises(ProviderNotFound):
            await pool.lease("a").__aenter__()

    asyncio.run(scenario())


def test_two_of_one_name_are_refused() -> None:
    both: list[Memory] = [memory("a"), memory("a")]
    with pytest.raises(ValueError, match="rename one"):
        ProviderPool(both)


def test_several_accounts_are_members_of_their_own() -> None:
    default, work, other = memory("a"), memory("a", account="work"), memory("b")

    async def scenario() -> None:
        pool = ProviderPool([default, work, other])
        assert pool.names == ("a", "b")
        assert pool.accounts == {"a": ("a", "a:work"), "b": ("b",)}
        assert [each.key[0] for each in (await pool.resolve("a/m")).slate.candidates] == ["a", "a:work"]
        swap = pool.swap([default, other])
        await swap.finish()
        assert swap.changed == {"a:work"}
        assert (default.closed, work.closed) == (0, 1)
        with pytest.raises(ProviderNotFound):
            await pool.lease("a:work").__aenter__()

    asyncio.run(scenario())


def shipped() -> Memory:
    """A provider whose models are those of the catalogue."""
    return memory("groq", models=known_models("groq"))


def test_what_a_shipped_provider_lists_is_offered_and_not_chosen_from() -> None:
    groq, clock = shipped(), Clock()
    groq.listing = [groq.spec.models[0].model_copy(update={"context_window": 7}), ModelCard(id="brand-new")]

    async def scenario() -> None:
        pool = ProviderPool([groq], clock=clock)
        assert "groq/brand-new" not in names(await pool.resolve("auto")) and groq.listings == 0
        offered = {each.name: each.card for each in await pool.offered()}
        assert [*offered] == [f"groq/{groq.spec.models[0].id}", "groq/brand-new"]
        assert offered[f"groq/{groq.spec.models[0].id}"].context_window == 7
        assert names(await pool.resolve("groq/brand-new")) == ["groq/brand-new"]
        assert names(await pool.resolve("brand-new")) == ["groq/brand-new"]
        assert groq.listings == 1
        clock.now += LISTING_KEPT
        groq.listing = ProviderUnavailable("groq", "down")
        assert len(await pool.offered()) == 2 and groq.listings == 2, "what was listed before stays"

    asyncio.run(scenario())


@pytest.mark.parametrize("listing", [ProviderUnavailable("groq", "down"), []])
def test_a_shipped_provider_that_lists_nothing_keeps_its_row(
    listing: list[ModelCard] | ProviderError,
) -> None:
    groq = shipped()
    groq.listing = listing
    offered = asyncio.run(ProviderPool([groq]).offered())
    assert [each.card for each in offered] == list(groq.spec.models)


def test_models_that_somebody_named_are_all_there_are() -> None:
    named = memory("groq", models=["mine"])
    assert [each.card.id for each in asyncio.run(ProviderPool([named]).offered())] == ["mine"]
    assert named.listings == 0
