"""What must hold of every order, whatever the candidates are and however they fared."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.candidate import Candidate
from routing.config import ModelCard, ProviderSpec
from routing.exploration import explore
from routing.health import WHOLE_ACCOUNT, Health, HealthSnapshot, Key
from routing.learning import Beliefs, Evidence
from routing.needs import Needs
from routing.policy import Goal, Ranking, Warm, rank
from routing.reasons import explain
from routing.slate import Slate
from routing.types import Quality

GOALS: tuple[Goal, ...] = (
    *get_args(Quality),
    "in-order",
    "simple-shuffle",
    "least-cost",
    "latency-based",
    "usage-based",
)
NOW = 1000.0


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    def maybe(values: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | values)

    return ModelCard(
        id=draw(st.sampled_from("mn")),
        quality=maybe(st.floats(0, 1)),
        context_window=maybe(st.sampled_from([100, 5000, 100_000])),
        max_output=maybe(st.sampled_from([10, 5000])),
        tools=maybe(st.booleans()),
        free=maybe(st.booleans()),
        input_price=maybe(st.floats(0, 100)),
        output_price=maybe(st.floats(0, 100)),
        ttft_seconds=maybe(st.floats(0, 30)),
        tokens_per_second=maybe(st.floats(0.1, 3000)),
    )


def candidate(number: int, card: ModelCard, tier: Any = "paid") -> Candidate:
    return Candidate(ProviderSpec(name=f"p{number}", base_url="https://x.example", tier=tier), card)


@st.composite
def groups(draw: st.DrawFn) -> list[Candidate]:
    tiers = st.sampled_from(["free", "paid", "local", "trial"])
    drawn = draw(st.lists(st.tuples(st.integers(0, 3), cards(), tiers), max_size=8))
    return [candidate(number, card, tier) for number, card, tier in drawn]


@st.composite
def fates(draw: st.DrawFn, keys: list[Key]) -> HealthSnapshot:
    """How models fared: faults, limits, use, measured times."""
    health = Health()
    for key in keys:
        at = draw(st.floats(0, NOW))
        for what in draw(st.lists(st.sampled_from(["answer", "fault", "limit", "use", "left"]), max_size=5)):
            if what == "answer":
                health.answered(key, at)
                health.measured(key, at, ttft=draw(st.floats(0, 60)), latency=90.0, tokens=100)
            elif what == "fault":
                health.faulted(key, at)
                health.gave_up(key, at)
            elif what == "limit":
                health.limited(key, at, draw(st.floats(0, 5000)))
            elif what == "use":
                health.used(key, at, draw(st.integers(0, 10**6)))
            else:
                health.allowed((key[0], WHOLE_ACCOUNT), at, draw(st.floats(0, 1)), 500)
    return health.snapshot(NOW)


@st.composite
def rankings(draw: st.DrawFn, goals: tuple[Goal, ...] = GOALS) -> tuple[list[Candidate], Ranking, Ranking]:
    """A group, and its order made twice from the same facts and the same seed."""
    group = draw(groups())
    keys = [each.key for each in group]
    snapshot, seed = draw(fates(keys)), draw(st.integers(0, 9))
    goal = draw(st.sampled_from(goals))
    needs = Needs(tools=draw(st.booleans()), prompt_tokens=draw(st.sampled_from([0, 200, 20_000])))
    evidence = {("tools", key): Evidence(draw(st.floats(0, 50)), draw(st.floats(0, 50))) for key in keys[:3]}
    more: dict[str, Any] = {
        "beliefs": Beliefs(evidence),  # type: ignore[arg-type]
        "free_only": draw(st.booleans()),
        "warm": Warm(keys[0], 150) if keys and goal in get_args(Quality) and draw(st.booleans()) else None,
    }
    once, again = (
        rank(Slate(group), goal, snapshot, needs, random=random.Random(seed).random, **more) for _ in range(2)
    )
    return group, once, again


@given(rankings())
def test_each_of_the_group_has_one_place_and_nobody_else_has(
    made: tuple[list[Candidate], Ranking, Ranking],
) -> None:
    group, ranking, _ = made
    places = Counter([*ranking.ready, *ranking.blocked, *ranking.refused])
    assert set(places.values()) <= {1} and len(places) == len({each.key for each in group})
    assert {each.candidate.key for each in explain(ranking)} == {each.key for each in group}
    assert all(each.reason for each in explain(ranking))


@given(rankings())
def test_the_same_facts_and_seed_give_the_same_order(
    made: tuple[list[Candidate], Ranking, Ranking],
) -> None:
    _, once, again = made
    assert (once.ready, once.blocked, once.refused) == (again.ready, again.blocked, again.refused)
    assert explain(once) == explain(again)


@given(rankings(("least-cost", "latency-based", "usage-based")))
def test_who_is_asked_first_has_the_least_of_what_the_strategy_wants_little_of(
    made: tuple[list[Candidate], Ranking, Ranking],
) -> None:
    _, ranking, _ = made
    scores = {number: ranking.scores(number) for number in ranking.ready}
    keys, snapshot = ranking.slate.keys, ranking.snapshot
    left = {n: snapshot.left(keys[n]) for n in ranking.ready}
    gone = {n: 0.0 if share is None else 1 - round(share, 1) for n, share in left.items()}
    used = {n: (gone[n], round(snapshot.of(keys[n]).load(NOW), 2)) for n in ranking.ready}
    for part in (ranking.ready[: ranking.sure], ranking.ready[ranking.sure :]):
        if part and ranking.goal == "least-cost":
            # Of equal costs the faster one: a second of waiting counts as a millionth of a dollar.
            weighed = {n: scores[n].cost + 1e-6 * scores[n].seconds for n in part}
            assert weighed[part[0]] == min(weighed.values())
        elif part and ranking.goal == "latency-based":
            assert scores[part[0]].seconds == min(scores[n].seconds for n in part)
        elif part:
            assert used[part[0]] == min(used[n] for n in part)


@given(rankings(("in-order",)))
def test_a_chain_is_asked_in_its_order(made: tuple[list[Candidate], Ranking, Ranking]) -> None:
    _, ranking, _ = made
    assert ranking.ready == sorted(ranking.ready)


@given(rankings(get_args(Quality)), st.floats(0, 0.999), st.floats(0, 0.999))
def test_exploration_stays_among_those_who_surely_can(
    made: tuple[list[Candidate], Ranking, Ranking], lot: float, which: float
) -> None:
    _, ranking, _ = made
    found = explore(ranking, 0.5, iter([lot, which]).__next__)
    if found is None:
        return
    assert found in ranking.ready[1 : ranking.sure] and ranking.warm is None
    if ranking.goal == "best_quality":
        best, quality = (round(ranking.columns.quality[n], 2) for n in (ranking.ready[0], found))
        assert quality >= best or (ranking.slate.ratings[found] or 0.0) > best


def test_the_shuffle_gives_everybody_the_same_share() -> None:
    slate, draw = Slate(candidate(n, ModelCard(id="m", quality=n / 10)) for n in range(5)), random.Random(1)
    turns = 5000
    firsts: Counter[int] = Counter()
    lasts: Counter[int] = Counter()
    for _ in range(turns):
        ready = rank(slate, "simple-shuffle", HealthSnapshot(), random=draw.random).ready
        firsts[ready[0]] += 1
        lasts[ready[-1]] += 1
    for counted in (firsts, lasts):  # chi-squared with 4 degrees of freedom: above 18.5 once in a thousand
        assert sum((counted[n] - turns / 5) ** 2 / (turns / 5) for n in range(5)) < 18.5


def test_by_usage_the_tokens_come_out_even() -> None:
    slate, health, draw = Slate(candidate(n, ModelCard(id="m")) for n in range(4)), Health(), random.Random(1)
    spent: Counter[Key] = Counter()
    for _ in range(400):
        key = rank(slate, "usage-based", health.snapshot(NOW)).candidates[0].key
        tokens = draw.randint(10, 5000)
        health.used(key, NOW, tokens)
        spent[key] += tokens
    assert len(spent) == 4 and max(spent.values()) - min(spent.values()) <= 5000


@pytest.mark.parametrize("goal", GOALS)
def test_an_order_changes_nothing_that_it_is_made_from(goal: Goal) -> None:
    health = Health()
    health.limited(("p1", "m"), 0, 5000)
    group = [candidate(n, ModelCard(id="m", quality=0.9 - n / 10, tools=True)) for n in range(4)]
    slate, snapshot, needs = Slate(group), health.snapshot(NOW), Needs(tools=True, prompt_tokens=3000)
    warm = Warm(("p2", "m"), 2000)
    first = rank(slate, goal, snapshot, needs, warm=warm)
    told = explain(first)
    rank(slate, goal, health.snapshot(NOW + 1), Needs(), warm=None)
    rank(slate, goal, snapshot, Needs(prompt_tokens=9), warm=Warm(("p0", "m"), 9))
    assert explain(first) == told == explain(rank(slate, goal, snapshot, needs, warm=warm))
