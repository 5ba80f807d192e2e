"""Naming a model, listing models, and changing providers under requests in flight."""

from __future__ import annotations

import asyncio

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
    return [candidate.name for candidate in choice.candidates]


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
    assert len(choice.candidates) == 5 and choice.strategy is None and choice.is_open
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
        assert names(await pool.resolve("auto")) == ["team/a", "team/b"]
        assert server.listings == 2

    asyncio.run(scenario())


def test_a_failed_listing_is_remembered_and_not_fatal() -> None:
    clock = Clock()
    server, other = memory("team", models=[]), memory("other", models=["b"])
    server.listing = ProviderUnavailable("team", "down")
    pool = ProviderPool([server, other], clock=clock)

    async def scenario() -> None:
        for _ in range(3):
            assert names(await pool.resolve("auto")) == ["other/b"]
        assert server.listings == 1
        # What nobody can look up is taken at the caller's word, if the provider is named.
        assert names(await pool.resolve("team/x")) == ["team/x"]
        with pytest.raises(ModelNotFound):
            await pool.resolve("x")
        clock.now += LISTING_KEPT
        server.listing = [ModelCard(id="a")]
        assert names(await pool.resolve("auto")) == ["team/a", "other/b"]
        clock.now += LISTING_KEPT
        server.listing = ProviderUnavailable("team", "down again")
        assert names(await pool.resolve("auto")) == ["team/a", "other/b"]

    asyncio.run(scenario())


def test_listed_models_are_filled_up_from_the_catalogue() -> None:
    elsewhere = memory("openai", models=[])
    elsewhere.listing = [ModelCard(id="gpt-4o", context_window=4096), ModelCard(id="mine")]
    known, mine = resolve(ProviderPool([elsewhere]), "auto").candidates
    assert known.card.context_window == 4096 and known.card.tools is True
    assert mine.card == ModelCard(id="mine")


def test_an_address_that_lists_nothing_falls_back_on_the_catalogue() -> None:
    elsewhere = memory("openai", models=[])
    elsewhere.listing = ProviderUnavailable("openai", "404")
    assert "openai/gpt-4o" in names(resolve(ProviderPool([elsewhere]), "auto"))


def test_swap_closes_who_is_idle_and_keeps_who_stays() -> None:
    a, b, c = memory("a"), memory("b"), memory("c")

    async def scenario() -> None:
        pool = ProviderPool([a, b])
        assert pool.live(b.spec) is b and pool.live(c.spec) is None
        assert await pool.swap([b, c]) == {"a", "c"}
        assert pool.names == ("b", "c")
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
                assert await pool.swap([new]) == set(), "nothing that health knows is about another account"
                async with pool.lease("a") as fresh:
                    assert outer is old and fresh is new
            assert old.closed == 0
        assert (old.closed, new.closed) == (1, 0)
        await pool.swap([])
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
        assert [each.key[0] for each in (await pool.resolve("a/m")).candidates] == ["a", "a:work"]
        assert await pool.swap([default, other]) == {"a:work"}
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
