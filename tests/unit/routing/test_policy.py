"""Who can answer, and in which order they are asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.config import ModelCard, ProviderSpec
from routing.health import Health, HealthSnapshot
from routing.needs import Needs
from routing.policy import Candidate, eligible, rank
from routing.types import Quality

BLANK = HealthSnapshot()


def candidate(name: str, *, spec: dict[str, Any] | None = None, **card: Any) -> Candidate:
    row = ProviderSpec(name=name, base_url="https://x.example/v1", **(spec or {}))
    return Candidate(row, ModelCard(id="m", **card))


def order(candidates: list[Candidate], quality: Quality, **more: Any) -> list[str]:
    more.setdefault("snapshot", BLANK)
    return [entry.candidate.spec.name for entry in rank(candidates, quality, **more)]


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
        health.faulted(("a", "m"))
    steady = candidate("b", quality=0.5, tokens_per_second=60)
    shaky = candidate("a", quality=0.5, tokens_per_second=90)
    assert order([shaky, steady], "fastest") == ["a", "b"]
    assert order([shaky, steady], "fastest", snapshot=health.snapshot(0)) == ["b", "a"]


def test_measured_speed_beats_the_card() -> None:
    health = Health()
    health.measured(("a", "m"), ttft=0.2, latency=2.2, tokens=2000)
    told, slow = candidate("b", quality=0.5, tokens_per_second=500), candidate("a", quality=0.5)
    assert order([told, slow], "fastest", snapshot=health.snapshot(0))[0] == "a"


def test_what_may_not_fit_comes_after_what_surely_fits() -> None:
    tight = candidate("tight", quality=0.9, context_window=1000)
    roomy = candidate("roomy", quality=0.2, context_window=100_000)
    small = candidate("small", quality=0.9, context_window=300)
    needs = Needs(prompt_tokens=1200, least_prompt_tokens=450)
    ranked = rank([tight, small, roomy], "best_quality", BLANK, needs)
    assert [entry.candidate.spec.name for entry in ranked] == ["roomy", "tight", "small"]
    assert "may be too small" in ranked[1].reason
    assert ranked[2].refusal and not ranked[1].refusal


def test_a_chain_keeps_its_order() -> None:
    chain = [candidate("z", quality=0.1), candidate("a", quality=0.9), candidate("b", tools=False)]
    ranked = rank(chain, "best_quality", BLANK, Needs(tools=True), in_order=True)
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
    ranked = rank(candidates, "best_quality", health.snapshot(10), Needs(tools=True))
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
    ranked = rank(candidates, quality, BLANK, needs, free_only=free_only)
    assert {entry.candidate.key for entry in ranked} == {each.key for each in candidates}
    for entry in ranked:
        assert entry.refusal == eligible(entry.candidate, needs, free_only=free_only)
        assert entry.reason
    refused = [entry.refusal is not None for entry in ranked]
    assert refused == sorted(refused)  # nobody who can serve stands behind one who cannot
    shuffled = random.sample(candidates, len(candidates))
    assert rank(shuffled, quality, BLANK, needs, free_only=free_only) == ranked
