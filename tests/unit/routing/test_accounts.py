"""Several accounts at one provider: who is asked, what becomes of the others, and what each is told by."""

from __future__ import annotations

import asyncio

import pytest

from routing.config import ChainLink, ModelCard, RateLimits, RoutingConfig
from routing.errors import (
    KeyRefused,
    NoProviderAvailable,
    ProviderError,
    ProviderUnavailable,
    ProviderUnreachable,
    RateLimited,
    StreamCut,
)
from routing.types import Payer
from routing.usage import BudgetExceeded
from tests.unit.routing.room import Cut, Memory, Raw, Room, Step, ask, memory, rated, room

MODEL = ModelCard(id="m", quality=0.9, input_price=1.0, output_price=4.0)
SPENT, BAD_KEY = KeyRefused("a", "a answered 402", 402), KeyRefused("a", "a answered 401", 401)
DOWN = ProviderUnavailable("a", "a answered 500", 500)


def account(name: str, *script: Step, card: ModelCard = MODEL, **row: object) -> Memory:
    """An account of the provider `a`."""
    return memory("a", *script, models=[card], account=name, api_key=f"key-{name}", **row)


def answered(at: Room, **fields: object) -> str:
    """The account that gave the answer."""
    return asyncio.run(at.router.complete(ask(**fields))).decision.account


@pytest.mark.parametrize(
    "fault",
    [SPENT, BAD_KEY, RateLimited("a", "a answered 429", retry_after=3600.0)],
    ids=["402", "401", "429"],
)
def test_what_one_account_may_not_another_may_in_the_same_request(fault: ProviderError) -> None:
    first, second, other = account("default", fault), account("work"), rated("b", 0.1)
    at = room(first, second, other)
    for _ in range(3):
        assert answered(at) == "work"
    assert (len(first.asked), len(second.asked), len(other.asked)) == (1, 3, 0)
    assert at.router.status() == {"a": True, "b": True}


def test_a_provider_that_is_down_is_not_asked_again_by_way_of_its_other_accounts() -> None:
    first, second, other = account("default", DOWN), account("work", DOWN), rated("b", 0.1)
    decision = asyncio.run(room(first, second, other).router.complete(ask())).decision
    assert decision.provider == "b" and len(first.asked) + len(second.asked) == 4


def test_who_has_the_most_left_is_asked_and_it_is_shared_where_nobody_tells() -> None:
    first, second = account("default"), account("work")
    at = room(first, second)
    assert [answered(at) for _ in range(4)].count("work") == 2
    at.health.allowed(("a", "m"), at.clock(), 0.2, 60)
    assert {answered(at) for _ in range(3)} == {"work"}
    at.health.allowed(("a:work", "m"), at.clock(), 0.1, 60)
    assert answered(at) == "default"


def test_a_conversation_stays_where_its_prompt_is_cached_while_something_is_left() -> None:
    at = room(account("default"), account("work"))
    long = {"messages": [{"role": "user", "content": "word " * 4000}]}
    stays = answered(at, body=long)
    assert {answered(at, body=long) for _ in range(3)} == {stays}
    key = ("a", "m") if stays == "default" else ("a:work", "m")
    at.health.allowed(key, at.clock(), 0.0, 60)
    assert answered(at, body=long) != stays


def test_free_accounts_go_before_paid_ones() -> None:
    paid, free = account("default"), account("trial", card=MODEL.model_copy(update={"free": True}))
    at = room(paid, free)
    assert {answered(at) for _ in range(3)} == {"trial"}


@pytest.mark.parametrize(
    "named", [{"model": "a/m"}, {"model": "m"}, {"model": "m", "provider": "a"}, {"model": "chain"}]
)
def test_a_name_means_all_accounts(named: dict[str, str]) -> None:
    config = RoutingConfig(aliases={"chain": (ChainLink(provider="a", model="m"),)})
    at = room(account("default", BAD_KEY), account("work"), config=config)
    assert answered(at, **named) == "work"


def test_what_is_learned_of_a_model_counts_for_all_its_accounts() -> None:
    at = room(account("default"), account("work"), rated("b", 0.8))
    decision = asyncio.run(at.router.complete(ask())).decision
    for _ in range(40):
        at.router.report(decision, decision.task, "tool_call_invalid")
    qualities = {
        each.candidate.key[0]: each.scores.quality
        for each in asyncio.run(at.router.explain(ask())).candidates
    }
    assert qualities["a"] == qualities["a:work"] < 0.8


def test_why_is_told_by_account() -> None:
    at = room(account("default", BAD_KEY), account("work"), account("spare"))
    at.health.used(("a:spare", "m"), at.clock(), 50)
    assert answered(at) == "work"
    at.health.used(("a:spare", "m"), at.clock(), 5000)
    first, second, last = asyncio.run(at.router.explain(ask())).candidates
    assert first.candidate.label == "a/m (account work)"
    assert second.reason == (
        "the same model at another account: asked when account work cannot, or has less left"
    )
    assert last.reason == (
        "its key was refused (a answered 401); asked again when its key is another one, or "
        "`agent-service providers test a` finds it good"
    )


def test_an_account_out_of_money_says_so() -> None:
    at = room(account("default", SPENT), account("work"))
    assert answered(at) == "work"
    assert asyncio.run(at.router.explain(ask())).candidates[-1].reason == (
        "left alone for 300 s: its account is out of money (a answered 402)"
    )
    alone = room(account("default", SPENT))
    for expected in ("a answered 402", "in 300 s, or when `agent-service providers test a` finds it good"):
        with pytest.raises(KeyRefused, match=expected):
            answered(alone)


def test_a_key_that_proves_good_is_asked_again() -> None:
    only = account("work", BAD_KEY, "ok")
    at = room(only)
    with pytest.raises(KeyRefused):
        answered(at)
    at.clock.now += 1e6
    with pytest.raises(KeyRefused, match="asked again when its key is another one"):
        answered(at)
    at.health.proven("a:work")
    assert answered(at) == "work"


def test_an_account_removed_while_a_call_runs_ends_that_call_well() -> None:
    first, second = account("default", DOWN, "late"), account("work", BAD_KEY)
    at = room(first, second)

    async def remove() -> None:
        if at.pool.live(first.spec):
            await at.router.reconfigure(at.config, [second])

    at.clock.meanwhile = remove
    with pytest.raises((KeyRefused, ProviderUnavailable)):
        answered(at, model="a/m")
    assert first.closed == 1

    async def under_way() -> str:
        third = account("default", "whole")
        await at.router.reconfigure(at.config, [third])
        stream = await at.router.stream(ask())
        await at.router.reconfigure(at.config, [second])
        text = "".join([chunk.delta.get("content") or "" async for chunk in stream])
        assert third.closed == 1
        return text

    assert asyncio.run(under_way()) == "Half whole"


def test_an_unreachable_provider_is_noticed_in_one_request() -> None:
    away = ProviderUnreachable("a", "a could not be reached")
    first = memory("a", away, models=[MODEL, ModelCard(id="n", quality=0.8)])
    at = room(first, rated("b", 0.1))
    for _ in range(2):
        assert asyncio.run(at.router.complete(ask())).decision.provider == "b"
    assert len(first.asked) == 4
    assert at.router.status() == {"a": False, "b": True}
    reasons = [each.reason for each in asyncio.run(at.router.explain(ask())).candidates[1:]]
    told = "left alone for 5 s: it failed several times in a row (a could not be reached)"
    assert reasons == [told, told]
    at.clock.now += 6
    first_again, *_ = asyncio.run(at.router.explain(ask())).candidates
    assert first_again.reason.endswith(
        "; it failed lately (a could not be reached), so one request at a time tries it again"
    )


def test_nobody_but_the_owner_limits_an_account_that_has_room() -> None:
    first, second = account("default"), account("work")
    at = room(first, second)
    at.health.limit({"a": RateLimits(requests_per_day=2), "a:work": RateLimits(requests_per_minute=1)})
    assert sorted(answered(at) for _ in range(3)) == ["default", "default", "work"]
    with pytest.raises(RateLimited, match="1 requests a minute are used up") as caught:
        answered(at)
    assert 0 < (caught.value.retry_after or 0) <= 60
    at.clock.now += 60
    assert answered(at) == "work"


def test_calls_at_once_are_counted_until_their_streams_end() -> None:
    at = room(account("default"), account("work"))
    at.health.limit({"a": RateLimits(concurrent=1), "a:work": RateLimits(concurrent=1)})

    async def scenario() -> None:
        streams = [await at.router.stream(ask()) for _ in range(2)]
        assert {each.decision.account for each in streams} == {"default", "work"}
        with pytest.raises((NoProviderAvailable, RateLimited), match="as many as it may have"):
            await at.router.complete(ask())
        await streams[0].aclose()
        again = await at.router.complete(ask())
        assert again.decision.account == streams[0].decision.account
        await streams[1].aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("ending", ["cut", "left"])
def test_what_an_answer_took_counts_however_it_ends(ending: str) -> None:
    step = Cut(DOWN) if ending == "cut" else Raw(({"choices": [{"delta": {"content": "long " * 200}}]},) * 3)
    at = room(account("default", step))
    at.health.limit({"a": RateLimits(tokens_per_day=20)})

    async def scenario() -> None:
        stream = await at.router.stream(ask())
        if ending == "cut":
            with pytest.raises(StreamCut):
                assert not [chunk async for chunk in stream]
        await stream.aclose()
        with pytest.raises(RateLimited, match="20 tokens a day are used up"):
            await at.router.stream(ask())

    asyncio.run(scenario())


def test_a_cap_that_is_used_up_spares_what_is_free() -> None:
    at = room(
        memory("a", models=[MODEL, ModelCard(id="free", quality=0.2, free=True)]),
        rated("b", 0.1, input_price=1.0, output_price=1.0),
    )
    at.health.capped("a", at.clock(), 3600, "its cap is used up")
    assert asyncio.run(at.router.complete(ask())).decision.name == "a/free"
    *_, last = asyncio.run(at.router.explain(ask())).candidates
    assert (last.candidate.name, last.reason) == ("a/m", "its cap is used up")
    with pytest.raises(BudgetExceeded, match="its cap is used up"):
        answered(at, model="a/m", payer=Payer("alice"))
    at.health.uncapped(["a"])
    assert answered(at) == "default"
