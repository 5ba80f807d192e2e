"""The fault table of the contract, row by row, whole and streamed; and what the two do not share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from agent_service.api.errors import classify
from routing.config import ChainLink, FallbackConfig, ModelCard, RouterConfig, RoutingConfig
from routing.errors import (
    ContentRefused,
    ContextTooLong,
    KeyRefused,
    NoProviderAvailable,
    NoProviderConfigured,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    RoutingError,
    StreamCut,
    Unsupported,
)
from routing.records import MOST_STRANGERS
from routing.types import ChatRequest, RouteDecision
from routing.usage import Prices, Tokens
from tests.unit.routing.room import HANG, USAGE, Cut, Raw, Room, ask, memory, rated, room

Answer = tuple[str, RouteDecision]

DOWN = ProviderUnavailable("a", "a answered 500", 500)
SILENT = ProviderTimeout("a", "a did not answer")
LIMITED = RateLimited("a", "a answered 429")
LIMITED_SOON = RateLimited("a", "a answered 429", retry_after=2)
BAD_KEY = KeyRefused("a", "a answered 401", 401)
NO_MODEL = KeyRefused("a", "a answered 404", 404)
TOO_LONG = ContextTooLong("a", "a answered 400: too long", 400)
REJECTED = RequestRejected("a", "a answered 422: bad temperature", 422)


def limited(seconds: float) -> RateLimited:
    return RateLimited("a", "a answered 429", retry_after=seconds)


async def whole(at: Room, request: ChatRequest) -> Answer:
    completion = await at.router.complete(request)
    return completion.message["content"], completion.decision


async def streamed(at: Room, request: ChatRequest) -> Answer:
    stream = await at.router.stream(request)
    try:
        text = "".join([chunk.delta.get("content") or "" for chunk in [each async for each in stream]])
    finally:
        await stream.aclose()
    return text.removeprefix("Half "), stream.decision


@dataclass(frozen=True)
class Mode:
    """Whole or streamed: the same requests, the same outcomes."""

    get: Callable[[Room, ChatRequest], Any]

    def __call__(self, at: Room, **request: Any) -> Answer:
        answer: Answer = asyncio.run(self.get(at, ask(**request)))
        return answer


@pytest.fixture(params=[whole, streamed])
def answer(request: pytest.FixtureRequest) -> Mode:
    return Mode(request.param)


# ---- which fault leads where -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", [DOWN, ProviderUnavailable("a", "empty"), ProviderTimeout("a", "504", 504)])
def test_down_is_repeated_then_the_next_is_asked(answer: Mode, fault: ProviderError) -> None:
    a, b = rated("a", 0.9, fault), rated("b", 0.5)
    at = room(a, b)
    text, decision = answer(at)
    assert (text, decision.name, decision.attempts) == ("ok", "b/m", 5)
    assert len(a.asked) == 4 and at.clock.slept == [0.5, 1.0, 2.0]
    assert [attempt.reason for attempt in decision.failed] == [str(fault)] * 4


def test_down_once_is_repeated_at_the_same(answer: Mode) -> None:
    a, b = rated("a", 0.9, DOWN, "ok"), rated("b", 0.5)
    _, decision = answer(room(a, b))
    assert decision.name == "a/m" and decision.attempts == 2


def test_down_everywhere_is_told_so(answer: Mode) -> None:
    with pytest.raises(ProviderUnavailable, match="500"):
        answer(room(rated("a", 0.9, DOWN), rated("b", 0.5, DOWN)))


def test_silence_goes_to_the_next_at_once_and_is_told_as_a_timeout(answer: Mode) -> None:
    a, b = rated("a", 0.9, SILENT), rated("b", 0.5)
    _, decision = answer(room(a, b))
    assert decision.name == "b/m" and len(a.asked) == 1
    alone = rated("a", 0.9, SILENT)
    with pytest.raises(ProviderTimeout):
        answer(room(alone))
    assert len(alone.asked) == 4


def test_on_error_off_stays_at_the_first(answer: Mode) -> None:
    a, b = rated("a", 0.9, DOWN), rated("b", 0.5)
    with pytest.raises(ProviderUnavailable):
        answer(room(a, b, config=RoutingConfig(fallbacks=FallbackConfig(on_error=False))))
    assert len(a.asked) == 4 and not b.asked


def test_limited_goes_to_the_next_and_cools_down(answer: Mode) -> None:
    a, b = rated("a", 0.9, LIMITED), rated("b", 0.5)
    at = room(a, b)
    for _ in range(2):
        assert answer(at)[1].name == "b/m"
    assert len(a.asked) == 1 and at.clock.slept == []
    at.clock.now += RouterConfig().retry_after_seconds
    answer(at)
    assert len(a.asked) == 2


def test_a_short_retry_after_is_obeyed(answer: Mode) -> None:
    a, b = rated("a", 0.9, limited(3), "ok"), rated("b", 0.5)
    at = room(a, b)
    assert answer(at)[1].name == "a/m"
    assert at.clock.slept == [3]


def test_a_longer_one_only_when_nobody_else_is_there(answer: Mode) -> None:
    a, b = rated("a", 0.9, limited(30), "ok"), rated("b", 0.5)
    assert answer(room(a, b))[1].name == "b/m"
    alone = room(rated("a", 0.9, limited(30), "ok"))
    assert answer(alone)[1].attempts == 2
    assert alone.clock.slept == [30]


def test_a_retry_after_beyond_the_deadline_is_told_at_once(answer: Mode) -> None:
    a = rated("a", 0.9, limited(3600))
    at = room(a)
    with pytest.raises(RateLimited) as caught:
        answer(at)
    assert caught.value.retry_after == 3600 and len(a.asked) == 1 and at.clock.slept == []


def test_limited_everywhere_names_the_shortest_wait(answer: Mode) -> None:
    with pytest.raises(RateLimited) as caught:
        answer(room(rated("a", 0.9, limited(900)), rated("b", 0.5, limited(600)), rated("c", 0.4, LIMITED)))
    assert caught.value.retry_after == 600
    with pytest.raises(RateLimited) as caught:
        answer(room(rated("a", 0.9, LIMITED)))
    assert caught.value.retry_after == 60


def test_on_rate_limit_off_stays_at_the_first(answer: Mode) -> None:
    a, b = rated("a", 0.9, LIMITED), rated("b", 0.5)
    with pytest.raises(RateLimited):
        answer(room(a, b, config=RoutingConfig(fallbacks=FallbackConfig(on_rate_limit=False))))
    assert not b.asked


@pytest.mark.parametrize("status", [401, 402])
def test_a_refused_key_parks_all_its_models(answer: Mode, status: int) -> None:
    refused = KeyRefused("a", "a refuses our key", status)
    a, b = memory("a", refused, models=["m", "n"], tier="free"), rated("b", 0.5)
    at = room(a, b)
    for _ in range(2):
        assert answer(at)[1].name == "b/m"
    assert answer(at, provider="b")[1].name == "b/m"
    a_first = room(memory("a", refused, models=[ModelCard(id=x, quality=0.9) for x in "mn"]), rated("b", 0.5))
    for _ in range(2):
        assert answer(a_first)[1].name == "b/m"
    assert a_first.router.status() == {"a": False, "b": True}


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_model_is_parked_alone(answer: Mode, status: int) -> None:
    cards = [ModelCard(id="m", quality=0.9), ModelCard(id="n", quality=0.8)]
    a = memory("a", KeyRefused("a", "a has no m", status), "ok", models=cards)
    at = room(a)
    for _ in range(2):
        assert answer(at)[1].name == "a/n"
    assert [model for model, _ in a.asked] == ["m", "n", "n"]


def test_a_parked_key_says_why_and_comes_back_with_another_configuration(answer: Mode) -> None:
    a = rated("a", 0.9, BAD_KEY)
    at = room(a)
    for _ in range(2):
        with pytest.raises(KeyRefused, match="a answered 401"):
            answer(at)
    assert len(a.asked) == 1
    asyncio.run(at.router.reconfigure(RoutingConfig(), [rated("a", 0.9)]))
    with pytest.raises(KeyRefused, match="providers test a"):  # with the key that was refused
        answer(at)
    asyncio.run(at.router.reconfigure(RoutingConfig(), [memory("a", api_key="another-key")]))
    assert answer(at)[1].name == "a/m" and a.closed == 1


def test_too_long_goes_only_to_larger_windows(answer: Mode) -> None:
    small, smaller = rated("a", 0.9, TOO_LONG, context_window=8000), rated("b", 0.8, context_window=4000)
    large = rated("d", 0.2, context_window=128_000)
    _, decision = answer(room(small, smaller, large))
    assert decision.name == "d/m" and decision.attempts == 2
    assert not smaller.asked


def test_too_long_for_one_a_window_of_unknown_size_is_worth_a_try(answer: Mode) -> None:
    small, unknown = rated("a", 0.9, TOO_LONG, context_window=128_000), rated("b", 0.7, TOO_LONG)
    same = memory("b", models=[ModelCard(id="m", quality=0.6)], account="work")
    other = rated("c", 0.5)
    _, decision = answer(room(small, unknown, same, other))
    assert decision.name == "c/m" and decision.attempts == 3
    assert not same.asked, "the same model has the same window at another account"


def test_too_long_for_all_is_told_so(answer: Mode) -> None:
    with pytest.raises(ContextTooLong):
        answer(room(rated("a", 0.9, TOO_LONG, context_window=8000), rated("b", 0.8, context_window=8000)))


def test_on_context_window_off_stays_at_the_first(answer: Mode) -> None:
    a, b = rated("a", 0.9, TOO_LONG, context_window=8000), rated("b", 0.8, context_window=128_000)
    with pytest.raises(ContextTooLong):
        answer(room(a, b, config=RoutingConfig(fallbacks=FallbackConfig(on_context_window=False))))
    assert not b.asked


def test_a_rejected_request_is_not_tried_elsewhere(answer: Mode) -> None:
    a, b = rated("a", 0.9, REJECTED), rated("b", 0.5)
    with pytest.raises(RequestRejected, match="bad temperature"):
        answer(room(a, b))
    assert len(a.asked) == 1 and not b.asked


def test_a_rejection_after_other_faults_is_what_is_told(answer: Mode) -> None:
    with pytest.raises(RequestRejected):
        answer(room(rated("a", 0.9, LIMITED), rated("b", 0.5, REJECTED)))


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (DOWN, BAD_KEY, ProviderUnavailable),
        (LIMITED, DOWN, ProviderUnavailable),
        (LIMITED, BAD_KEY, RateLimited),
        (BAD_KEY, NO_MODEL, KeyRefused),
        (TOO_LONG, DOWN, ProviderUnavailable),
    ],
)
def test_the_error_that_may_pass_by_itself_is_told(
    answer: Mode, first: ProviderError, second: ProviderError, told: type[RoutingError]
) -> None:
    a, b = rated("a", 0.9, first, context_window=8000), rated("b", 0.5, second, context_window=9000)
    with pytest.raises(told):
        answer(room(a, b))


# ---- limits ----------------------------------------------------------------------------------------


def test_a_provider_gets_its_allowance_over_all_its_models(answer: Mode) -> None:
    a = memory("a", DOWN, models=["m", "n", "o"])
    with pytest.raises(ProviderUnavailable):
        answer(room(a))
    assert len(a.asked) == 4


def test_every_link_of_a_chain_gets_its_turn(answer: Mode) -> None:
    links = tuple(ChainLink(provider="a", model=model) for model in "mn")
    config = RoutingConfig(aliases={"mine": links}, router=RouterConfig(num_retries=0))
    a = memory("a", DOWN, "ok")
    assert answer(room(a, config=config), model="mine")[1].name == "a/n"
    assert [model for model, _ in a.asked] == ["m", "n"]


def test_repeats_end_before_the_deadline(answer: Mode) -> None:
    a = rated("a", 0.9, DOWN)
    at = room(a, config=RoutingConfig(router=RouterConfig(timeout=1.2)))
    with pytest.raises(ProviderUnavailable):
        answer(at)
    assert at.clock.slept == [0.5]  # the second pause, of 1 s, would end too late


def test_no_candidate_is_asked_after_the_deadline(answer: Mode) -> None:
    a, b = rated("a", 0.9, limited(4), DOWN), rated("b", 0.5)
    at = room(a, b, config=RoutingConfig(router=RouterConfig(timeout=5)))
    at.clock.stretch = 2.0  # a busy machine wakes up late
    with pytest.raises(RateLimited):
        answer(at)
    assert not b.asked


def test_hanging_leaves_time_for_the_next(answer: Mode) -> None:
    a, b = rated("a", 0.9, HANG), rated("b", 0.5)
    config = RoutingConfig(router=RouterConfig(timeout=0.2))
    assert answer(room(a, b, config=config))[1].name == "b/m"
    with pytest.raises(ProviderTimeout):
        answer(
            room(rated("a", 0.9, HANG), config=RoutingConfig(router=RouterConfig(timeout=0.1, num_retries=0)))
        )


def test_who_has_nobody_behind_it_gets_all_the_time(answer: Mode) -> None:
    alone = RoutingConfig(
        fallbacks=FallbackConfig(on_error=False), router=RouterConfig(timeout=0.3, num_retries=0)
    )
    start = time.monotonic()
    with pytest.raises(ProviderTimeout):
        answer(room(rated("a", 0.9, HANG), rated("b", 0.5), config=alone))
    assert time.monotonic() - start >= 0.3


def test_the_retry_budget_bounds_repeats_over_all_requests(answer: Mode) -> None:
    models = [f"m{i}" for i in range(9)]
    a = memory("a", DOWN, models=models)
    at = room(a)
    at.clock.stretch = 0.0  # all in one window
    for model in models:
        with pytest.raises(ProviderUnavailable):
            answer(at, provider="a", model=model)
    assert len(a.asked) == len(models) + 10


# ---- health ----------------------------------------------------------------------------------------


def test_repeated_failure_cools_down_and_recovers_by_a_probe(answer: Mode) -> None:
    a, b = rated("a", 0.9, DOWN), rated("b", 0.5)
    at = room(a, b, config=RoutingConfig(router=RouterConfig(num_retries=0)))
    for _ in range(5):
        answer(at)
    assert len(a.asked) == 3  # then it was left alone
    at.clock.now += 60
    answer(at)
    assert len(a.asked) == 4  # the probe failed: alone again, for longer
    answer(at)
    assert len(a.asked) == 4
    at.clock.now += 600
    a.script.clear()
    a.script.append("ok")
    for _ in range(3):
        assert answer(at)[1].name == "a/m"


def test_a_probe_is_one_attempt(answer: Mode) -> None:
    a, b = rated("a", 0.9, DOWN), rated("b", 0.5)
    at = room(a, b)
    while at.health.snapshot(at.clock()).is_up("a", ["m"]):
        answer(at)
    before, slept = len(a.asked), len(at.clock.slept)
    at.clock.now += 60
    assert answer(at)[1].name == "b/m"
    assert (len(a.asked), len(at.clock.slept)) == (before + 1, slept)


def test_who_fails_is_asked_all_the_same_when_nobody_else_is_there(answer: Mode) -> None:
    a = rated("a", 0.9, DOWN)
    at = room(a, config=RoutingConfig(router=RouterConfig(num_retries=0)))
    for _ in range(6):
        with pytest.raises(ProviderUnavailable):
            answer(at)
    a.script[0] = "ok"
    assert answer(at)[1].name == "a/m"


def test_one_probe_at_a_time() -> None:
    async def scenario() -> None:
        a = rated("a", 0.9, HANG)
        at = room(a, config=RoutingConfig(router=RouterConfig(num_retries=0)))
        for _ in range(3):
            at.health.gave_up(("a", "m"), at.clock())
        probe = asyncio.create_task(at.router.complete(ask()))
        await asyncio.sleep(0.01)
        with pytest.raises(NoProviderAvailable) as caught:
            await at.router.complete(ask())
        assert caught.value.retry_after
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        a.script[0] = "ok"  # a probe that was given up leaves the way free
        assert (await at.router.complete(ask())).decision.name == "a/m"

    asyncio.run(scenario())


def test_all_limited_before_is_told_with_the_wait(answer: Mode) -> None:
    at = room(rated("a", 0.9, limited(900)), rated("b", 0.5, limited(600)))
    with pytest.raises(RateLimited):
        answer(at)
    at.clock.now += 100
    with pytest.raises(RateLimited, match="b/m: left alone for 500 s: rate limit") as caught:
        answer(at)
    assert caught.value.retry_after == 500


def test_who_used_up_its_allowance_is_asked_only_when_nobody_else_can(answer: Mode) -> None:
    a, b = rated("a", 0.9), rated("b", 0.5)
    at = room(a, b)
    at.health.allowed(("a", "m"), at.clock(), 0.0, 60)
    assert answer(at)[1].name == "b/m" and not a.asked
    assert answer(at, provider="a", model="m")[1].name == "a/m", "it may have been filled bit by bit"
    a.script[0] = limited(600)
    with pytest.raises(RateLimited):
        answer(at, provider="a", model="m")
    at.health.limited(("b", "m"), at.clock(), 900)
    with pytest.raises(RateLimited, match="a/m: left alone for 10 min: rate limit"):
        answer(at)
    assert len(a.asked) == 2


def test_who_was_found_bad_while_a_request_waited_is_not_asked_by_it() -> None:
    async def scenario() -> None:
        a, b, c = rated("a", 0.9, LIMITED_SOON, DOWN), rated("b", 0.8, BAD_KEY), rated("c", 0.5)
        at = room(a, b, c, config=RoutingConfig(router=RouterConfig(num_retries=1)))

        async def others_ask() -> None:
            with pytest.raises(KeyRefused):
                await at.router.complete(ask(provider="b", model="m"))

        at.clock.meanwhile = others_ask
        assert (await whole(at, ask()))[1].name == "c/m"
        assert len(b.asked) == 1 and len(a.asked) == 2

    asyncio.run(scenario())


def test_a_request_repeats_itself_after_its_pause_though_others_are_to_stay_away_longer() -> None:
    async def scenario() -> None:
        at = room(rated("a", 0.9, LIMITED_SOON, "ok"))

        async def others_are_told() -> None:
            at.health.limited(("a", "m"), at.clock(), 30)

        at.clock.meanwhile = others_are_told
        assert (await whole(at, ask()))[0] == "ok"

    asyncio.run(scenario())


def test_names_that_mean_nothing_do_not_pile_up() -> None:
    async def scenario() -> None:
        at = room(rated("a", 0.9, NO_MODEL), rated("b", 0.5))
        with pytest.raises(KeyRefused):
            await at.router.complete(ask(provider="a", model="m"))
        for number in range(3 * MOST_STRANGERS):
            with pytest.raises(KeyRefused):
                await at.router.complete(ask(provider="a", model=f"junk-{number}"))
        snapshot = at.health.snapshot(at.clock())
        assert len(snapshot.records) <= 2 * MOST_STRANGERS + 2 and snapshot.block(("a", "m"))

    asyncio.run(scenario())


def test_speed_and_success_are_learned(answer: Mode) -> None:
    a = rated("a", 0.9, DOWN, "ok")
    at = room(a)
    answer(at)
    vitals = at.health.snapshot(at.clock()).of(("a", "m"))
    assert 0 < vitals.success_rate < 1 and vitals.timed_at == at.clock()


# ---- choice ----------------------------------------------------------------------------------------


def test_an_explicit_provider_has_no_other(answer: Mode) -> None:
    a, b = rated("a", 0.9, DOWN), rated("b", 0.5)
    with pytest.raises(ProviderUnavailable):
        answer(room(a, b), provider="a")
    assert not b.asked


def test_a_named_model_falls_over_to_other_hosts_of_it(answer: Mode) -> None:
    a, b = memory("a", DOWN, models=["m"]), memory("b", models=["x", "m"])
    assert answer(room(a, b), model="m")[1].name == "b/m"


def test_a_conversation_goes_on_elsewhere_as_it_is(answer: Mode) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{ "x" : 1}'}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    a, b = rated("a", 0.9, "first", LIMITED, tools=True), rated("b", 0.5, tools=True)
    at = room(a, b)
    body = {"messages": messages, "tools": [{"type": "function"}]}
    assert answer(at, body=body)[1].name == "a/m"
    assert answer(at, body=body)[1].name == "b/m"
    assert b.asked[0][1] == body and a.asked[0][1] == body


def test_nobody_can_ever_serve_it(answer: Mode) -> None:
    with pytest.raises(Unsupported, match="a/m: cannot call tools"):
        answer(room(rated("a", 0.9, tools=False)), body={"tools": [{}]})


def test_nobody_is_configured(answer: Mode) -> None:
    with pytest.raises(NoProviderConfigured):
        answer(room())


def test_nobody_tells_its_models(answer: Mode) -> None:
    silent = memory("a", models=[])
    silent.listing = DOWN
    with pytest.raises(NoProviderAvailable, match="add `models`"):
        answer(room(silent))


def test_only_what_the_provider_takes_is_sent_and_the_rest_named(answer: Mode) -> None:
    a = memory("a", unsupported={"seed"})
    body = {"seed": 1, "temperature": 0.5, "api_base": "http://evil.example", "api_key": "k"}
    _, decision = answer(room(a), body=body)
    assert decision.dropped == ("api_base", "api_key", "seed")
    assert set(a.asked[0][1]) == {"messages", "temperature"}


def test_the_decision_carries_prices(answer: Mode) -> None:
    paid = rated("a", 0.9, input_price=2, output_price=8)
    assert Prices.told(answer(room(paid))[1]).cost(Tokens(1_000_000, 500_000)) == 6
    free = memory("a", tier="local")
    assert Prices.told(answer(room(free))[1]).cost(Tokens(1, 1)) == 0


def test_explain_asks_nobody() -> None:
    a, b = rated("a", 0.5), rated("b", 0.9)
    at = room(a, b)
    ranked = asyncio.run(at.router.explain(ask())).candidates
    assert [entry.candidate.name for entry in ranked] == ["b/m", "a/m"]
    assert "0.50 against 0.90 of b/m" in ranked[1].reason
    assert not a.asked and not b.asked


def test_explain_says_what_experience_made_of_a_rating() -> None:
    at = room(rated("a", 0.8), rated("b", 0.75))
    for _ in range(12):
        at.router.report(("a", "m"), "chat", "edit_missed")
    told = {each.candidate.name: each for each in asyncio.run(at.router.explain(ask())).candidates}
    fallen = told["a/m"].scores.quality
    assert fallen < 0.7 and told["b/m"].reason == "the highest quality: 0.75"
    assert told["a/m"].reason == f"quality {fallen:.2f} by experience (rated 0.80) against 0.75 of b/m"


# ---- streams ---------------------------------------------------------------------------------------


def test_chunks_arrive_whole_in_order_and_close() -> None:
    async def scenario() -> None:
        a = rated("a", 0.9, "answer")
        stream = await room(a).router.stream(ask())
        chunks = [chunk async for chunk in stream]
        assert chunks[0].delta == {"role": "assistant"}
        assert [chunk.delta.get("content") for chunk in chunks[1:3]] == ["Half ", "answer"]
        assert chunks[-1].data["usage"] == USAGE
        assert [chunk async for chunk in stream] == [] and a.streams_closed == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "held",
    [
        Raw(()),
        Raw(({"choices": [{"delta": {"role": "assistant"}}]},)),
        Raw(
            (
                {"choices": [{"delta": {"role": "assistant"}}]},
                {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            )
        ),
    ],
)
def test_a_stream_without_words_is_tried_elsewhere(held: Raw) -> None:
    a, b = rated("a", 0.9, held), rated("b", 0.5)
    text, decision = asyncio.run(streamed(room(a, b), ask()))
    assert (text, decision.name) == ("ok", "b/m") and a.streams_closed == 4


def test_thinking_that_took_all_the_room_is_the_callers_to_see() -> None:
    only = Raw(
        (
            {"choices": [{"delta": {"reasoning": "hm"}}]},
            {"choices": [{"delta": {}, "finish_reason": "length"}]},
        )
    )
    text, decision = asyncio.run(streamed(room(rated("a", 0.9, only)), ask()))
    assert (text, decision.attempts) == ("", 1)


def test_a_tool_call_is_a_beginning() -> None:
    call = Raw(
        (
            {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c"}]}}]},
            {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        )
    )
    assert asyncio.run(streamed(room(rated("a", 0.9, call)), ask()))[1].attempts == 1


def test_a_cut_after_words_is_told_with_the_usage_and_not_repeated() -> None:
    async def scenario() -> None:
        a, b = rated("a", 0.9, Cut(DOWN)), rated("b", 0.5)
        at = room(a, b)
        stream = await at.router.stream(ask())
        read = []
        with pytest.raises(StreamCut, match="a/m broke off") as caught:
            async for chunk in stream:
                read.append(chunk.delta.get("content"))
        assert caught.value.usage == USAGE and "Half " in read
        assert (len(a.asked), len(b.asked), a.streams_closed) == (1, 0, 1)
        assert at.health.snapshot(at.clock()).of(("a", "m")).faults == 1
        assert [chunk async for chunk in stream] == []

    asyncio.run(scenario())


def test_leaving_early_closes_the_connection() -> None:
    async def scenario() -> None:
        a = rated("a", 0.9)
        at = room(a)
        stream = await at.router.stream(ask())
        await anext(stream)
        await stream.aclose()
        await stream.aclose()
        assert a.streams_closed == 1 and [chunk async for chunk in stream] == []
        assert at.health.snapshot(at.clock()).of(("a", "m")).faults == 0

    asyncio.run(scenario())


def test_a_change_of_configuration_lets_streams_end() -> None:
    async def scenario() -> None:
        old, new = rated("a", 0.9, "old"), rated("a", 0.9, "new")
        at = room(old)
        stream = await at.router.stream(ask())
        await at.router.reconfigure(RoutingConfig(), [new])
        assert (await whole(at, ask()))[0] == "new" and old.closed == 0
        assert "old" in [chunk.delta.get("content") async for chunk in stream]
        assert (old.closed, new.closed) == (1, 0)

    asyncio.run(scenario())


def test_a_cancelled_request_lets_go_of_its_provider() -> None:
    async def scenario() -> None:
        a = rated("a", 0.9, HANG)
        at = room(a)
        for call in (at.router.complete, at.router.stream):
            task: asyncio.Task[Any] = asyncio.create_task(call(ask()))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await at.pool.swap([]).finish()
        assert a.closed == 1

    asyncio.run(scenario())


def test_a_provider_that_left_meanwhile_is_passed_over() -> None:
    async def scenario() -> None:
        a, b = rated("a", 0.9, DOWN), rated("b", 0.8)
        c = rated("c", 0.5)
        at = room(a, b, c, config=RoutingConfig(router=RouterConfig(num_retries=1)))

        async def leave() -> None:
            await at.pool.swap([a, c]).finish()

        at.clock.meanwhile = leave
        assert (await whole(at, ask()))[1].name == "c/m"

    asyncio.run(scenario())


# ---- the table as a table ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What follows from one fault: how often the same is asked, whether the next is, what is told then."""

    fault: ProviderError
    asked: int
    next_asked: bool
    status: int
    code: str
    switch: str | None = None
    """The setting that keeps it from the next."""


ROWS = {
    "408": Row(ProviderTimeout("a", "a answered 408", 408), 4, True, 504, "provider_timeout", "on_error"),
    "5xx": Row(DOWN, 4, True, 502, "provider_error", "on_error"),
    "connection": Row(ProviderUnavailable("a", "unreachable"), 4, True, 502, "provider_error", "on_error"),
    "silence": Row(SILENT, 1, True, 504, "provider_timeout", "on_error"),
    "429": Row(LIMITED, 1, True, 429, "rate_limited", "on_rate_limit"),
    "429, 2 s": Row(limited(2), 4, True, 429, "rate_limited", "on_rate_limit"),
    "429, an hour": Row(limited(3600), 1, True, 429, "rate_limited", "on_rate_limit"),
    "401": Row(BAD_KEY, 1, True, 502, "provider_refused_key"),
    "402": Row(KeyRefused("a", "no money", 402), 1, True, 502, "provider_refused_key"),
    "403": Row(KeyRefused("a", "forbidden", 403), 1, True, 502, "provider_refused_key"),
    "404": Row(NO_MODEL, 1, True, 502, "provider_refused_key"),
    "too long": Row(TOO_LONG, 1, True, 400, "context_length_exceeded", "on_context_window"),
    "422": Row(REJECTED, 1, False, 400, "rejected_by_provider"),
    "content": Row(ContentRefused("a", "a refuses", 400), 1, False, 400, "content_policy_violation"),
}


def answered(error: Exception) -> tuple[int, str]:
    """Status and code of the answer that the error becomes."""
    code = classify(error)
    return code.status, code.code


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("switched", ["on", "off"])
def test_every_cell_of_the_table(answer: Mode, row: Row, switched: str) -> None:
    fallbacks = FallbackConfig(**{row.switch: switched == "on"} if row.switch else {})
    a, b = rated("a", 0.9, row.fault, context_window=8000), rated("b", 0.8, context_window=9000)
    at = room(a, b, config=RoutingConfig(fallbacks=fallbacks))
    goes_on = row.next_asked and (switched == "on" or row.switch is None)
    if goes_on:
        assert answer(at)[1].name == "b/m"
        assert len(a.asked) == row.asked
    else:
        with pytest.raises(RoutingError) as caught:
            answer(at)
        assert answered(caught.value) == (row.status, row.code) and not b.asked
    with pytest.raises(RoutingError) as caught:
        answer(room(rated("a", 0.9, row.fault, context_window=8000)))
    assert answered(caught.value) == (row.status, row.code)


@pytest.mark.parametrize("named", [30, None])
def test_while_all_cool_down_requests_are_told_when_to_come_back(answer: Mode, named: float | None) -> None:
    fault = LIMITED if named is None else limited(3600)
    at = room(rated("a", 0.9, fault), rated("b", 0.5, KeyRefused("b", "b answered 401", 401)))
    with pytest.raises(RateLimited):
        answer(at)
    at.clock.now += 10
    with pytest.raises(RateLimited, match="a/m: left alone") as caught:
        answer(at)
    assert caught.value.retry_after == (3590 if named else 50) and caught.value.status == 429


def test_what_a_constrained_model_does_not_get_is_named(answer: Mode) -> None:
    a = memory("a", tool_calling="constrained")
    tool = {"type": "function", "function": {"name": "f"}}
    sampling = {"temperature": 1, "seed": 3, "max_tokens": 9}
    _, decision = answer(room(a), body={**sampling, "tools": [tool]})
    assert decision.dropped == ("seed", "temperature")
    assert set(a.asked[0][1]) == {"messages", "tools", "max_tokens"}
    for free in ({}, {"tools": [tool], "tool_choice": "none"}):
        assert answer(room(a), body={**sampling, **free})[1].dropped == ()
