"""Calls are measured as they were, told once whatever their end, and stay within what was reserved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.candidate import Candidate
from routing.config import ModelCard, ProviderSpec, RoutingConfig
from routing.errors import ProviderTimeout, ProviderUnavailable, RateLimited, StreamCut
from routing.meter import STRETCH, TEMPLATE_TOKENS, UNNAMED_ANSWER, Meter, MeteredCall
from routing.needs import Needs
from routing.pool import ProviderPool
from routing.router import ModelRouter
from routing.types import Payer
from routing.usage import UNASKED, BudgetExceeded, ModelCall, Prices, Tokens
from tests.unit.routing.room import HANG, USAGE, Clock, Cut, Memory, Raw, ask, memory

ALICE = Payer("alice", "thread-01", "r1")
PRICED = ModelCard(id="m", quality=0.5, input_price=1.0, output_price=10.0, cached_input_price=0.1)
COST = (10 * 1.0 + 20 * 10.0) / 1e6
"""Of the usage that providers in memory tell."""
MESSAGES = [{"role": "user", "content": "say it ten times"}]
PROMPT = Needs.of({"messages": MESSAGES}).prompt_tokens


@dataclass
class Notes:
    """Implements `UsageSink` and `Budgets`: notes everything, and reserves up to `most`."""

    most: float = float("inf")
    calls: list[ModelCall] = field(default_factory=list)
    held: list[tuple[str, float]] = field(default_factory=list)

    def record(self, call: ModelCall) -> None:
        self.calls.append(call)

    async def reserve(
        self, call_id: str, payer: Payer, usd: float, seconds: float, spec: ProviderSpec
    ) -> None:
        assert payer == ALICE
        assert seconds > 0
        if usd > self.most:
            raise BudgetExceeded("The budget is used up.")
        self.held.append((call_id, usd))

    async def refusals(
        self, payer: Payer, calls: Sequence[tuple[float, ProviderSpec]]
    ) -> list[BudgetExceeded | None]:
        return [BudgetExceeded("The budget is used up.") if usd > self.most else None for usd, _ in calls]


def metered(provider: Memory, notes: Notes, body: Mapping[str, Any], card: ModelCard = PRICED) -> MeteredCall:
    meter = Meter(notes, notes, Clock())
    return meter.over(provider, Candidate(provider.spec, card), ALICE, "tools", Needs.of(body))


def whole(provider: Memory, notes: Notes, card: ModelCard = PRICED, **body: Any) -> dict[str, Any]:
    async def scenario() -> dict[str, Any]:
        call = metered(provider, notes, {"messages": [], **body}, card)
        return await call.complete(card, body, asyncio.get_running_loop().time() + 5)

    return asyncio.run(scenario())


def chunks(provider: Memory, notes: Notes, card: ModelCard = PRICED, **body: Any) -> int:
    """How many came before it ended."""
    count = 0

    async def scenario() -> None:
        nonlocal count
        call = metered(provider, notes, {"messages": [], **body}, card)
        until = asyncio.get_running_loop().time() + 5
        async for _ in call.stream(card, body, until, until):
            count += 1

    asyncio.run(scenario())
    return count


def long_stream(words: int) -> Raw:
    pieces = [{"choices": [{"index": 0, "delta": {"content": "abc" * 64}}]} for _ in range(words)]
    return Raw((*pieces, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))


@pytest.mark.parametrize("run", [whole, chunks], ids=["whole", "streamed"])
def test_a_good_call_is_told_with_the_providers_counts(run: Callable[..., Any]) -> None:
    notes = Notes()
    run(memory("acme", "hello"), notes)
    [call] = notes.calls
    assert (call.payer, call.task, call.provider, call.model) == (ALICE, "tools", "acme", "m")
    assert call.account == "default"
    assert (call.tokens, call.estimated, call.outcome) == (Tokens(10, 20), False, "ok")
    assert call.cost_usd == call.charged_usd == pytest.approx(COST)
    assert (call.ttft is None) == (run is whole)
    assert [name for name, _ in notes.held] == [call.id]


@pytest.mark.parametrize("run", [whole, chunks], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [(RateLimited("acme", "slow down"), "rate_limited"), (ProviderUnavailable("acme", "x"), "unavailable")],
)
def test_a_failed_call_is_told_and_costs_nothing(run: Callable[..., Any], error: Any, outcome: str) -> None:
    notes = Notes()
    with pytest.raises(type(error)):
        run(memory("acme", error), notes)
    [call] = notes.calls
    assert (call.tokens, call.estimated, call.cost_usd, call.outcome) == (Tokens(), False, 0.0, outcome)


def told(usage: Any, text: str = "abc" * 10) -> Raw:
    """A stream that tells this usage at its end."""
    said = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
    return Raw((said, {"choices": [], "usage": usage}))


@pytest.mark.parametrize(
    ("usage", "tokens", "estimated"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Tokens(PROMPT, 10), True),
        ({"prompt_tokens": None, "completion_tokens": None}, Tokens(PROMPT, 10), True),
        ({"prompt_tokens": "11", "completion_tokens": "7"}, Tokens(PROMPT, 10), True),
        ({"total_tokens": 18}, Tokens(PROMPT, 10), True),
        ({"prompt_tokens": 11}, Tokens(11, 10), True),
        ({"completion_tokens": 7}, Tokens(PROMPT, 7), True),
        ({"prompt_tokens": 11, "completion_tokens": 0}, Tokens(11, 10), True),
        ({"prompt_tokens": 11.0, "completion_tokens": 7.0}, Tokens(11, 7), False),
        ({"input_tokens": 11, "output_tokens": 7}, Tokens(11, 7), False),
    ],
)
def test_counts_that_cannot_be_right_are_estimated(
    usage: dict[str, Any], tokens: Tokens, estimated: bool
) -> None:
    notes = Notes()
    chunks(memory("acme", told(usage)), notes, messages=MESSAGES)
    [call] = notes.calls
    assert (call.tokens, call.estimated) == (tokens, estimated)
    assert call.charged_usd == pytest.approx((tokens.prompt + 10 * tokens.completion) / 1e6)


def test_an_answer_without_words_may_have_no_tokens() -> None:
    notes = Notes()
    chunks(memory("acme", told({"prompt_tokens": 11, "completion_tokens": 0}, "")), notes)
    assert [(call.tokens, call.estimated) for call in notes.calls] == [(Tokens(11, 0), False)]


@pytest.mark.parametrize(("early", "completion"), [(0, 10), (1, 10), (99, 99)])
def test_counts_that_were_told_before_the_words_do_not_stand_for_them(early: int, completion: int) -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": early, "prompt_tokens_details": {"cached_tokens": 4}}
    notes, provider = Notes(), memory("acme", Raw(tuple(reversed(told(usage).chunks))))

    async def scenario() -> MeteredCall:
        call = metered(provider, notes, {"messages": []})
        until = asyncio.get_running_loop().time() + 5
        assert len([chunk async for chunk in call.stream(PRICED, {}, until, until)]) == 2
        return call

    call = asyncio.run(scenario())
    assert (call.tokens, call.told_tokens) == (Tokens(11, completion, 4), None)
    assert call.usage == {**usage, "completion_tokens": completion, "total_tokens": 11 + completion}
    assert [call.estimated for call in notes.calls] == [True]


def test_an_answer_that_no_model_was_asked_for_costs_nothing() -> None:
    notes = Notes()
    chunks(memory("acme", told(UNASKED)), notes, messages=MESSAGES)
    assert [(call.tokens, call.estimated, call.charged_usd) for call in notes.calls] == [(Tokens(), False, 0)]


def test_a_stream_that_is_cut_costs_what_it_brought() -> None:
    notes = Notes()
    with pytest.raises(ProviderUnavailable):
        chunks(memory("acme", Cut(ProviderUnavailable("acme", "gone"))), notes)
    [call] = notes.calls
    assert (call.tokens, call.outcome) == (Tokens(10, 20), "unavailable")
    assert call.cost_usd == pytest.approx(COST)


def test_a_call_that_nobody_waits_for_is_told() -> None:
    notes = Notes()

    async def scenario() -> None:
        call = metered(memory("acme", HANG), notes, {"messages": []})
        async with asyncio.timeout(0.05):
            await call.complete(PRICED, {}, asyncio.get_running_loop().time() + 5)

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())
    [told] = notes.calls
    assert (told.outcome, told.estimated) == ("abandoned", True)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_that_does_not_begin_in_time_is_a_timeout_and_costs_nothing(streamed: bool) -> None:
    notes = Notes()

    async def scenario() -> None:
        call = metered(memory("acme", HANG), notes, {"messages": []})
        now = asyncio.get_running_loop().time()
        if streamed:
            await anext(call.stream(PRICED, {}, now + 30, now + 0.05))
        else:
            await call.complete(PRICED, {}, now + 0.05)

    with pytest.raises(ProviderTimeout):
        asyncio.run(scenario())
    [told] = notes.calls
    assert (told.outcome, told.tokens, told.charged_usd) == ("timeout", Tokens(), 0.0)


def test_a_stream_that_is_left_is_told_and_closed() -> None:
    notes, provider = Notes(), memory("acme", "hello")

    async def scenario() -> None:
        call = metered(provider, notes, {"messages": []})
        until = asyncio.get_running_loop().time() + 5
        stream = call.stream(PRICED, {}, until, until)
        await anext(stream)
        await anext(stream)
        await stream.aclose()

    asyncio.run(scenario())
    assert provider.streams_closed == 1
    assert [(call.outcome, call.estimated) for call in notes.calls] == [("abandoned", True)]


@pytest.mark.parametrize(
    ("card", "body", "answer"),
    [
        (PRICED, {}, UNNAMED_ANSWER),
        (PRICED, {"max_tokens": 7}, 7),
        (PRICED, {"max_tokens": 7, "n": 3}, 21),
        (PRICED.model_copy(update={"max_output": 100}), {}, 100),
        (PRICED.model_copy(update={"max_output": 100}), {"max_completion_tokens": 500}, 100),
    ],
)
def test_what_a_whole_answer_may_cost_is_reserved(card: ModelCard, body: Any, answer: int) -> None:
    notes = Notes()
    whole(memory("acme", "hello"), notes, card, **body)
    prompt = Needs.of({"messages": [], **body}).prompt_tokens + TEMPLATE_TOKENS
    assert notes.held[0][1] == pytest.approx((prompt + answer * 10) / 1e6)


def test_a_reservation_that_is_refused_is_no_call() -> None:
    notes, provider = Notes(most=0.0), memory("acme", "hello")
    with pytest.raises(BudgetExceeded):
        whole(provider, notes)
    assert (notes.calls, provider.asked) == ([], [])


def test_without_a_payer_nobody_is_told_and_the_tokens_are_counted_all_the_same() -> None:
    notes, provider = Notes(most=0.0), memory("acme", long_stream(2))

    async def scenario() -> MeteredCall:
        call = Meter(notes, notes).over(provider, Candidate(provider.spec, PRICED), None, "chat", Needs())
        until = asyncio.get_running_loop().time() + 5
        assert not call.asked
        assert len([chunk async for chunk in call.stream(PRICED, {}, until, until)]) == 3
        return call

    call = asyncio.run(scenario())
    assert (call.asked, call.tokens, call.told_tokens) == (True, Tokens(0, 128), None)
    assert call.usage == {"prompt_tokens": 0, "completion_tokens": 128, "total_tokens": 128}
    assert (notes.calls, notes.held) == ([], [])


def test_what_is_free_needs_no_money() -> None:
    notes = Notes(most=0.0)
    whole(memory("acme", "hello"), notes, PRICED.model_copy(update={"free": True}))
    assert notes.held == []
    assert [call.cost_usd for call in notes.calls] == [0.0]


def test_an_unknown_price_is_not_told_as_a_cost_but_counts_against_budgets() -> None:
    notes = Notes()
    whole(memory("acme", "hello"), notes, ModelCard(id="m"))
    [call] = notes.calls
    assert call.cost_usd is None
    assert call.charged_usd > 0
    assert len(notes.held) == 1


def test_a_stream_reserves_more_as_it_grows_and_stops_when_there_is_no_more() -> None:
    growing = Notes()
    chunks(memory("acme", long_stream(40)), growing)  # 64 estimated tokens each
    assert len(growing.held) == 3
    assert sorted(usd for _, usd in growing.held) == [usd for _, usd in growing.held]
    stopped = Notes(most=1.5 * STRETCH * 10 / 1e6)
    with pytest.raises(BudgetExceeded) as raised:
        chunks(memory("acme", long_stream(40)), stopped)
    [call] = stopped.calls
    assert (call.outcome, call.estimated) == ("over_budget", True)
    assert STRETCH <= call.tokens.completion < 2 * STRETCH
    assert raised.value.usage == call.tokens.as_usage()
    assert call.charged_usd <= stopped.most


def test_a_stream_with_a_limit_of_its_own_is_not_stopped_within_it() -> None:
    """Long words: 960 tokens are the fewest they can be, although the cautious estimate is 2,560."""
    notes = Notes(most=0.01)
    assert chunks(memory("acme", long_stream(40)), notes, max_tokens=960) == 41
    assert len(notes.held) == 1


def test_a_stream_that_does_not_keep_to_its_limit_is_stopped_where_the_budget_ends() -> None:
    notes = Notes(most=0.001)
    with pytest.raises(BudgetExceeded):
        chunks(memory("acme", long_stream(400)), notes, max_tokens=50)
    [call] = notes.calls
    assert (call.outcome, call.estimated) == ("over_budget", True)
    assert 50 < call.tokens.completion < 200
    rich = Notes()
    assert chunks(memory("acme", long_stream(40)), rich, max_tokens=50) == 41
    assert len(rich.held) > 1


def routed(notes: Notes, *providers: Memory, streamed: bool = False) -> Callable[[], Awaitable[str]]:
    async def scenario() -> str:
        pool, clock = ProviderPool(providers), Clock()
        router = ModelRouter(
            pool,
            config=RoutingConfig(),
            meter=Meter(notes, notes),
            clock=clock,
            sleep=clock.sleep,
            random=lambda: 1.0,
        )
        request = ask(payer=ALICE)
        if not streamed:
            return (await router.complete(request)).decision.provider
        stream = await router.stream(request)
        try:
            async for _ in stream:
                pass
        finally:
            await stream.aclose()
        return stream.decision.provider

    return scenario


@pytest.mark.parametrize("streamed", [False, True])
def test_the_router_goes_on_to_what_is_free(streamed: bool) -> None:
    dear = [PRICED.model_copy(update={"id": f"m{n}", "quality": 0.9}) for n in range(9)]
    free = ModelCard(id="free", quality=0.2, free=True)
    one, other = memory("one", models=[*dear, free]), memory("other", models=[PRICED])
    notes = Notes(most=0.0)
    assert asyncio.run(_run(routed(notes, one, other, streamed=streamed))) == "one"
    assert [name for name, _ in one.asked] == ["free"]
    assert [call.model for call in notes.calls] == ["free"]


async def _run(scenario: Callable[[], Awaitable[str]]) -> str:
    return await scenario()


def test_the_router_says_so_when_nothing_is() -> None:
    with pytest.raises(BudgetExceeded):
        asyncio.run(_run(routed(Notes(most=0.0), memory("one", models=[PRICED]))))


def test_each_try_of_the_router_is_told() -> None:
    notes = Notes()
    flaky = memory("one", ProviderUnavailable("one", "down"), "fine", models=[PRICED])
    asyncio.run(_run(routed(notes, flaky)))
    assert [call.outcome for call in notes.calls] == ["unavailable", "ok"]
    assert len({call.id for call in notes.calls}) == 2


def test_a_cut_stream_of_the_router_is_told_once() -> None:
    notes = Notes()
    cut = memory("one", Cut(ProviderUnavailable("one", "gone")), models=[PRICED])
    with pytest.raises(StreamCut):
        asyncio.run(_run(routed(notes, cut, streamed=True)))
    assert [(call.outcome, call.tokens) for call in notes.calls] == [("unavailable", Tokens(10, 20))]


def test_cached_tokens_have_their_own_price() -> None:
    tokens = Tokens.of({**USAGE, "prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 900}})
    assert tokens.cached == 900
    assert Prices(1.0, 10.0, 0.1).cost(tokens) == pytest.approx((100 + 90 + 200) / 1e6)
    assert Prices(1.0, 10.0).cost(tokens) == pytest.approx((1000 + 200) / 1e6)
    assert Prices(1.0, None).cost(tokens) is None
    assert Tokens.of({"prompt_tokens": 5, "prompt_cache_hit_tokens": 3}).cached == 3


NOISE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = (
    "prompt_tokens",
    "completion_tokens",
    "prompt_cache_hit_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
)


@given(st.dictionaries(st.sampled_from(NAMES), NOISE | st.fixed_dictionaries({"cached_tokens": NOISE})))
def test_any_usage_is_read_as_counts(usage: dict[str, Any]) -> None:
    tokens = Tokens.of(usage)
    cost = Prices(1.0, 10.0, 0.1).cost(tokens)
    assert cost is not None
    assert cost >= 0
    assert all(0 <= each < 1 << 31 for each in (tokens.prompt, tokens.completion, tokens.cached))
