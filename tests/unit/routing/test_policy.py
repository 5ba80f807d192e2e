"""Who can answer, and in which order they are asked."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.candidate import Candidate
from routing.config import ModelCard, ProviderSpec
from routing.eligibility import doubt, eligible
from routing.exploration import NOVELTY, explore
from routing.health import WHOLE_ACCOUNT, Health, HealthSnapshot
from routing.learning import Beliefs, Evidence
from routing.needs import Needs
from routing.policy import FLOORS, Goal, Ranked, Ranking, Warm, rank
from routing.reasons import explain
from routing.slate import Slate
from routing.types import Quality

BLANK = HealthSnapshot()


def candidate(name: str, *, spec: dict[str, Any] | None = None, **card: Any) -> Candidate:
    row = ProviderSpec(name=name, base_url="https://x.example/v1", **(spec or {}))
    return Candidate(row, ModelCard(id="m", **card))


def explained(
    candidates: list[Candidate],
    goal: Goal,
    snapshot: HealthSnapshot = BLANK,
    needs: Needs | None = None,
    **more: Any,
) -> list[Ranked]:
    return explain(rank(Slate(candidates), goal, snapshot, needs, **more))


def order(candidates: list[Candidate], goal: Goal, **more: Any) -> list[str]:
    return [entry.candidate.spec.name for entry in explained(candidates, goal, **more)]


@pytest.mark.parametrize(
    ("card", "needs", "reason"),
    [
        ({}, Needs(), None),
        ({"tools": False}, Needs(), None),
        ({"tools": False}, Needs(tools=True), "tools"),
        ({"tools": None}, Needs(tools=True), None),
        ({"tools": False, "tool_calling": "constrained"}, Needs(tools=True), None),
        ({"tools": False, "tool_calling": "native"}, Needs(tools=True), None),
        ({"tools": True, "tool_calling": "none"}, Needs(tools=True), "tools"),
        ({"vision": False}, Needs(vision=True), "images"),
        ({"vision": None}, Needs(vision=True), None),
        ({"json_schema": False}, Needs(json_schema=True), "JSON schema"),
        ({"max_output": 10}, Needs(output_tokens=11), "at most 10"),
        ({"context_window": 100}, Needs(prompt_tokens=300, least_prompt_tokens=100), None),
        ({"context_window": 100}, Needs(prompt_tokens=300, least_prompt_tokens=101), "window"),
        (
            {"context_window": 100},
            Needs(prompt_tokens=50, least_prompt_tokens=50, output_tokens=51),
            "window",
        ),
    ],
)
def test_eligible(card: dict[str, Any], needs: Needs, reason: str | None) -> None:
    refusal = eligible(candidate("a", **card), needs)
    assert refusal is None if reason is None else reason in (refusal or "")


@pytest.mark.parametrize(
    ("spec", "card", "free"),
    [
        ({"tier": "local"}, {}, True),
        ({"tier": "free"}, {}, True),
        ({"tier": "free"}, {"input_price": 1, "output_price": 1}, False),
        ({"tier": "free"}, {"free": True, "input_price": 1, "output_price": 1}, True),
        ({"tier": "free"}, {"free": False}, False),
        ({"tier": "trial"}, {}, False),
        ({"tier": "paid"}, {}, False),
        ({"tier": "paid"}, {"input_price": 0, "output_price": 0}, True),
    ],
)
def test_free_only(spec: dict[str, Any], card: dict[str, Any], free: bool) -> None:
    refusal = eligible(candidate("a", spec=spec, **card), Needs(), free_only=True)
    assert (refusal is None) is free


def test_constrained_provider_calls_tools() -> None:
    weak = candidate("weak", spec={"tool_calling": "constrained"})
    unknown = candidate("unknown", quality=0.9)
    assert order([unknown, weak], "best_quality", needs=Needs(tools=True)) == ["weak", "unknown"]


@pytest.mark.parametrize(
    ("quality", "cards", "expected"),
    [
        ("best_quality", {"a": {"quality": 0.5}, "b": {"quality": 0.9}, "c": {}}, "bac"),
        (
            "best_quality",  # equal quality: cost decides, then speed
            {
                "a": {"quality": 0.9, "input_price": 3, "output_price": 9},
                "b": {"quality": 0.9, "input_price": 1, "output_price": 3, "tokens_per_second": 20},
                "c": {"quality": 0.9, "input_price": 1, "output_price": 3, "tokens_per_second": 90},
            },
            "cba",
        ),
        (
            "fastest",  # a is fastest but below the floor
            {
                "a": {"quality": 0.1, "tokens_per_second": 900},
                "b": {"quality": 0.5, "tokens_per_second": 200},
                "c": {"quality": 0.9, "tokens_per_second": 100},
            },
            "bca",
        ),
        (
            "fastest",  # time to the first token counts, too
            {
                "a": {"quality": 0.5, "tokens_per_second": 300, "ttft_seconds": 20},
                "b": {"quality": 0.5, "tokens_per_second": 100, "ttft_seconds": 0.5},
            },
            "ba",
        ),
        (
            "balanced",  # the cheap good one before the dear excellent one, the poor one last
            {
                "a": {"quality": 0.9, "input_price": 30, "output_price": 150},
                "b": {"quality": 0.75, "input_price": 0.3, "output_price": 1},
                "c": {"quality": 0.3, "input_price": 0, "output_price": 0},
            },
            "bac",
        ),
    ],
)
def test_order(quality: Quality, cards: dict[str, dict[str, Any]], expected: str) -> None:
    candidates = [candidate(name, **card) for name, card in cards.items()]
    needs = Needs(prompt_tokens=4000)
    assert "".join(order(candidates, quality, needs=needs)) == expected
    assert "".join(order(candidates[::-1], quality, needs=needs)) == expected


def test_failures_make_slow() -> None:
    health = Health()
    for _ in range(5):
        health.faulted(("a", "m"), 0)
    steady = candidate("b", quality=0.5, tokens_per_second=60)
    shaky = candidate("a", quality=0.5, tokens_per_second=90)
    assert order([shaky, steady], "fastest") == ["a", "b"]
    assert order([shaky, steady], "fastest", snapshot=health.snapshot(0)) == ["b", "a"]


def test_measured_speed_beats_the_card() -> None:
    health = Health()
    health.measured(("a", "m"), 0, ttft=0.2, latency=2.2, tokens=2000)
    told, slow = candidate("b", quality=0.5, tokens_per_second=500), candidate("a", quality=0.5)
    assert order([told, slow], "fastest", snapshot=health.snapshot(0))[0] == "a"


def test_what_may_not_fit_comes_after_what_surely_fits() -> None:
    tight = candidate("tight", quality=0.9, context_window=1000)
    roomy = candidate("roomy", quality=0.2, context_window=100_000)
    small = candidate("small", quality=0.9, context_window=300)
    needs = Needs(prompt_tokens=1200, least_prompt_tokens=450)
    ranked = explained([tight, small, roomy], "best_quality", BLANK, needs)
    assert [entry.candidate.spec.name for entry in ranked] == ["roomy", "tight", "small"]
    assert "may be too small" in ranked[1].reason
    assert ranked[2].refusal and not ranked[1].refusal


def test_a_chain_keeps_its_order() -> None:
    chain = [candidate("z", quality=0.1), candidate("a", quality=0.9), candidate("b", tools=False)]
    ranked = explained(chain, "in-order", BLANK, Needs(tools=True))
    assert [entry.candidate.spec.name for entry in ranked] == ["z", "a", "b"]
    assert ranked[1].reason == "number 2 of the chain" and ranked[2].reason == "cannot call tools"


def test_everyone_says_why() -> None:
    health = Health()
    health.limited(("cooling", "m"), 0, 30)
    candidates = [
        candidate("best", quality=0.9, tools=True),
        candidate("next", quality=0.7, tools=True),
        candidate("unsure", quality=0.8),
        candidate("cooling", quality=0.99, tools=True),
        candidate("never", quality=0.99, tools=False),
    ]
    ranked = explained(candidates, "best_quality", health.snapshot(10), Needs(tools=True))
    assert [(entry.candidate.spec.name, entry.reason) for entry in ranked] == [
        ("best", "the highest quality: 0.90"),
        ("next", "quality 0.70 against 0.90 of best/m"),
        ("unsure", "is not known to call tools"),
        ("cooling", "left alone for 20 s: rate limit"),
        ("never", "cannot call tools"),
    ]


_numbers = st.none() | st.floats(min_value=0, max_value=1)
_candidates = st.lists(
    st.builds(
        lambda name, quality, price, speed, window, tools, tier: candidate(
            name,
            spec={"tier": tier},
            quality=quality,
            input_price=price,
            output_price=price,
            tokens_per_second=speed,
            context_window=window,
            tools=tools,
        ),
        st.sampled_from("abcdefghij"),
        _numbers,
        _numbers,
        st.none() | st.floats(min_value=0.01, max_value=1e5),
        st.none() | st.integers(1, 5000),
        st.none() | st.booleans(),
        st.sampled_from(["free", "paid", "local"]),
    ),
    max_size=8,
    unique_by=lambda each: each.key,
)
_needs = st.builds(
    lambda tools, low, more, out: Needs(
        tools=tools, prompt_tokens=low + more, least_prompt_tokens=low, output_tokens=out
    ),
    st.booleans(),
    st.integers(0, 4000),
    st.integers(0, 4000),
    st.none() | st.integers(1, 4000),
)
_quality: st.SearchStrategy[Quality] = st.sampled_from(["fastest", "balanced", "best_quality"])


@given(_candidates, _quality, _needs, st.booleans(), st.randoms())
def test_rank_is_a_total_order(
    candidates: list[Candidate], quality: Quality, needs: Needs, free_only: bool, random: Any
) -> None:
    ranked = explained(candidates, quality, BLANK, needs, free_only=free_only)
    assert {entry.candidate.key for entry in ranked} == {each.key for each in candidates}
    for entry in ranked:
        assert entry.refusal == eligible(entry.candidate, needs, free_only=free_only)
        assert entry.reason
    # First the sure, then the doubtful, last who cannot: the columns sort as the words say.
    groups = [2 if entry.refusal else 1 if doubt(entry.candidate, needs) else 0 for entry in ranked]
    assert groups == sorted(groups)
    shuffled = random.sample(candidates, len(candidates))
    assert explained(shuffled, quality, BLANK, needs, free_only=free_only) == ranked


@given(_candidates, _needs)
def test_balanced_sorts_by_the_expense_that_it_tells_of(candidates: list[Candidate], needs: Needs) -> None:
    sure = [each for each in explained(candidates, "balanced", BLANK, needs) if each.refusal is None]
    places = [
        (
            doubt(each.candidate, needs) is not None,
            each.scores.quality < FLOORS["balanced"],
            each.scores.expense,
        )
        for each in sure
    ]
    for (*group, expense), (*next_group, next_expense) in pairwise(places):
        assert group <= next_group
        if group == next_group:
            assert expense <= next_expense * (1 + 1e-9)


# ---- beliefs, caches, allowances --------------------------------------------------------------------


def test_what_was_found_out_moves_the_order() -> None:
    rated, proven = candidate("rated", quality=0.8), candidate("proven", quality=0.7)
    beliefs = Beliefs({("tools", proven.key): Evidence(good=30.0)})
    needs = Needs(tools=True)
    known = [candidate(each.spec.name, quality=each.card.quality, tools=True) for each in (rated, proven)]
    assert order(known, "best_quality", needs=needs) == ["rated", "proven"]
    assert order(known, "best_quality", needs=needs, beliefs=beliefs) == ["proven", "rated"]
    assert order(known, "best_quality", beliefs=beliefs) == ["rated", "proven"]  # other tasks, other beliefs


@pytest.mark.parametrize(("better", "first"), [(0.02, "here"), (0.06, "there")])
def test_a_warm_cache_keeps_a_thread_unless_the_gain_is_larger(better: float, first: str) -> None:
    both = [candidate("here", quality=0.8), candidate("there", quality=0.8 + better)]
    needs = Needs(prompt_tokens=20_000)
    warm = Warm(("here", "m"), 20_000)
    assert order(both, "best_quality", needs=needs)[0] == "there"
    assert order(both, "best_quality", needs=needs, warm=warm)[0] == first


@pytest.mark.parametrize(("price", "speed", "first"), [(0.4, 50, "here"), (0.05, 900, "there")])
def test_a_warm_cache_is_worth_its_price(price: float, speed: float, first: str) -> None:
    here = candidate("here", quality=0.8, input_price=1.0, output_price=1.0)
    prices: dict[str, Any] = {"input_price": price, "output_price": price}
    there = candidate("there", quality=0.8, tokens_per_second=speed, **prices)
    needs = Needs(prompt_tokens=10_000)
    warm = Warm(("here", "m"), 10_000)
    assert order([here, there], "balanced", needs=needs)[0] == "there"
    assert order([here, there], "balanced", needs=needs, warm=warm)[0] == first
    assert order([here, there], "balanced", needs=needs, warm=Warm(("gone", "m"), 10_000))[0] == "there"


def test_the_last_of_a_free_allowance_is_spared_by_balanced() -> None:
    health = Health()
    scarce = candidate("scarce", quality=0.8, free=True)
    cheap = candidate("cheap", quality=0.8, input_price=0.3, output_price=0.6)
    needs = Needs(prompt_tokens=20_000)
    health.allowed(("scarce", WHOLE_ACCOUNT), 0, 0.9, 100)
    assert order([scarce, cheap], "balanced", needs=needs, snapshot=health.snapshot(0))[0] == "scarce"
    health.allowed(("scarce", WHOLE_ACCOUNT), 0, 0.1, 100)
    ranked = explained([scarce, cheap], "balanced", health.snapshot(0), needs)
    assert (
        ranked[0].candidate.spec.name == "cheap" and "its scarce free allowance counted" in ranked[1].reason
    )
    assert order([scarce, cheap], "best_quality", needs=needs, snapshot=health.snapshot(0))[0] == "scarce"


# ---- exploration ------------------------------------------------------------------------------------


def explored(ranking: Ranking, *lots: float, share: float = 0.1) -> str | None:
    draw = iter(lots)
    number = explore(ranking, share, lambda: next(draw))
    return None if number is None else ranking.slate.candidates[number].spec.name


def test_exploration_is_a_small_share_and_drawn_by_lot() -> None:
    slate = Slate([candidate(name, quality=0.9) for name in "abc"])
    ranking = rank(slate, "best_quality", BLANK)
    assert explored(ranking, 0.1) is None
    assert explored(ranking, 0.09, 0.0) == "b" and explored(ranking, 0.09, 0.99) == "c"
    assert explored(ranking, 0.0, share=0.0) is None
    health = Health()
    for name, at in (("b", 100), ("c", 50)):
        health.measured((name, "m"), at, latency=1.0, tokens=100)
    known = rank(slate, "fastest", health.snapshot(5000))
    assert known.candidates[-1].spec.name == "a"
    assert explored(known, 0.1 * NOVELTY) is None
    assert explored(known, 0.09 * NOVELTY, 0.0) == "a"  # never timed: more interesting
    health.measured(("a", "m"), 4999, latency=9.0, tokens=10)
    known = rank(slate, "best_quality", health.snapshot(5000))
    assert explored(known, 0.1) is None and explored(known, 0.09, 0.0) == "c"  # unseen for the longest
    assert explored(rank(Slate([]), "fastest", BLANK), 0.0) is None


def test_where_quality_is_the_goal_none_is_lost_on_purpose() -> None:
    health = Health()
    health.measured(("seen", "m"), 900, latency=1.0, tokens=100)
    health.limited(("alone", "m"), 900, 500)
    cheap: dict[str, Any] = {"input_price": 1.0, "output_price": 1.0}
    dear: dict[str, Any] = {"input_price": 30.0, "output_price": 90.0}
    slate = Slate(
        [
            candidate("best", quality=0.9, input_price=0.9, output_price=0.9, tools=True),
            candidate("seen", quality=0.9, **cheap, tools=True),
            candidate("alone", quality=0.9, **cheap, tools=True),
            candidate("dearer", quality=0.9, **dear, tools=True),
            candidate("worse", quality=0.89, **cheap, tools=True),
            candidate("unsure", quality=0.9, **cheap),
            candidate("fallen", quality=0.95, **dear, tools=True),
        ]
    )
    beliefs = Beliefs({("tools", ("fallen", "m")): Evidence(0.0, 10.0)})

    def found(now: float, warm: Warm | None = None) -> set[str | None]:
        needs, snapshot = Needs(tools=True, prompt_tokens=5000), health.snapshot(now)
        ranking = rank(slate, "best_quality", snapshot, needs, beliefs=beliefs, warm=warm)
        assert ranking.candidates[0].spec.name == "best"
        return {explored(ranking, 0.0, lot / 100) for lot in range(100)}

    assert found(1000) == {"fallen"}  # rated above the winner: it may do better again
    assert found(1000, Warm(("best", "m"), 5000)) == {None}  # a thread under way stays where its cache is
    assert found(9000) == {"fallen", "alone"}
    health.measured(("fallen", "m"), 9000, latency=1.0, tokens=100)
    health.measured(("alone", "m"), 9000, latency=1.0, tokens=100)
    assert found(9000) == {"seen"}


def test_where_speed_counts_all_above_the_floor_may_be_tried() -> None:
    cheap: dict[str, Any] = {"input_price": 1.0, "output_price": 1.0}
    slate = Slate(
        [
            candidate("best", quality=0.9, tokens_per_second=100, **cheap),
            candidate("good", quality=0.7, tokens_per_second=50, **cheap),
            candidate("poor", quality=0.1, tokens_per_second=90, **cheap),
            candidate("dearer", quality=0.9, tokens_per_second=90, input_price=9.0, output_price=9.0),
        ]
    )
    ranking = rank(slate, "fastest", BLANK, Needs(prompt_tokens=5000))
    assert {explored(ranking, 0.0, lot / 100) for lot in range(100)} == {"good"}


# ---- the strategies of groups -----------------------------------------------------------------------


def test_strategies() -> None:
    health = Health()
    health.used(("dear", "m"), 0, 100)
    health.used(("slow", "m"), 0, 500)
    able: dict[str, Any] = {"tools": True}
    group = [
        candidate("slow", quality=0.2, input_price=1, output_price=1, tokens_per_second=10, **able),
        candidate("dear", quality=0.9, input_price=9, output_price=9, tokens_per_second=90, **able),
        candidate("never", tools=False),
        candidate("idle", quality=0.5, input_price=5, output_price=5, tokens_per_second=50, **able),
    ]
    by: dict[Goal, list[str]] = {
        "in-order": ["slow", "dear", "idle", "never"],
        "least-cost": ["slow", "idle", "dear", "never"],
        "latency-based": ["dear", "idle", "slow", "never"],
        "usage-based": ["idle", "dear", "slow", "never"],
    }
    for goal, expected in by.items():
        ranked = explained(group, goal, health.snapshot(0), Needs(tools=True))
        assert [entry.candidate.spec.name for entry in ranked] == expected
        assert all(entry.reason for entry in ranked)


def test_simple_shuffle_goes_by_lot() -> None:
    slate = Slate([candidate(name) for name in "abc"])
    lots = iter([0.5, 0.1, 0.9])
    ranking = rank(slate, "simple-shuffle", BLANK, random=lambda: next(lots))
    assert [each.spec.name for each in ranking.candidates] == ["b", "a", "c"]
    assert "lot" in explain(ranking)[0].reason
