"""What outcomes teach, and how it is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.health import Key
from routing.learning import (
    LONG_CONTEXT,
    MEMORY,
    MOST_LESSONS,
    UNKNOWN_QUALITY,
    Evidence,
    Learning,
    Lesson,
    Outcome,
    as_data,
    from_data,
    task_class,
)
from routing.needs import Needs
from routing.types import TaskClass
from tests.unit.routing.room import ask, memory, rated, room

KEY = ("p", "m")


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (Needs(), "chat"),
        (Needs(vision=True, output_tokens=9), "chat"),
        (Needs(tools=True), "tools"),
        (Needs(tools=True, prompt_tokens=LONG_CONTEXT), "long_context"),
        (Needs(tools=True, prompt_tokens=LONG_CONTEXT, json_schema=True), "structured"),
    ],
)
def test_task_classes(needs: Needs, expected: TaskClass) -> None:
    assert task_class(needs) == expected


def after(*outcomes: Outcome, prior: float | None = 0.8) -> float:
    learning = Learning()
    for outcome in outcomes:
        learning.report(KEY, "tools", outcome)
    return learning.beliefs.quality("tools", KEY, prior)


def test_without_outcomes_the_prior_stands() -> None:
    assert after() == 0.8 and after(prior=None) == UNKNOWN_QUALITY


def test_outcomes_move_the_belief_the_more_they_tell() -> None:
    valid, applied, kept = after("tool_call_valid"), after("edit_applied"), after("change_kept")
    assert 0.8 < valid < applied < kept
    assert after("edit_missed") < after("change_discarded") < 0.8
    assert after("change_kept", prior=None) - UNKNOWN_QUALITY > after("change_kept") - 0.8


def test_ordinary_slips_leave_the_belief_about_where_it_is() -> None:
    # A model of quality 0.8 gets one call in 25 wrong, if a hopeless one gets one in five wrong.
    mixed: list[Outcome] = [*["tool_call_valid"] * 24, "tool_call_invalid"]  # type: ignore[list-item]
    assert after(*mixed) == pytest.approx(0.8, abs=0.03)


def test_a_rating_stands_until_it_is_contradicted() -> None:
    """Luck does not decide among near equals; what is more than luck does, and the more the surer it is."""
    lucky, unlucky = Evidence(good=10.0), Evidence(good=6.0, bad=2.0)
    assert lucky.proven(0.8) == unlucky.proven(0.8) == 0.8
    assert unlucky.quality(0.8) < 0.8 < lucky.quality(0.8)
    worse = [Evidence(bad=count).proven(0.8) for count in (1.0, 4.0, 16.0, 64.0)]
    assert worse == sorted(worse, reverse=True) and worse[-1] < 0.2
    assert Evidence(bad=64.0).proven(0.8) == pytest.approx(Evidence(bad=64.0).quality(0.8), abs=0.02)
    assert Evidence(bad=9.0).proven(1.0) < 1.0 and Evidence(good=9.0).proven(0.0) > 0.0
    assert lucky.proven(None) == lucky.quality(None)  # nobody rated it: there is nothing to contradict


@given(st.floats(0, MEMORY), st.floats(0, MEMORY), st.none() | st.floats(0, 1))
def test_what_is_proven_lies_between_the_rating_and_the_mean(
    good: float, bad: float, prior: float | None
) -> None:
    evidence, rating = Evidence(good, bad), UNKNOWN_QUALITY if prior is None else prior
    mean = evidence.quality(prior)
    slack = 1e-9
    assert min(rating, mean) - slack <= evidence.proven(prior) <= max(rating, mean) + slack


_outcomes = st.lists(st.sampled_from(get_args(Outcome)), max_size=40)


@given(_outcomes, _outcomes, _outcomes)
def test_what_two_learned_apart_adds_up(
    first: list[Outcome], mine: list[Outcome], theirs: list[Outcome]
) -> None:
    def after_all(evidence: Evidence, outcomes: list[Outcome]) -> Evidence:
        for outcome in outcomes:
            evidence = evidence.and_(outcome)
        return evidence

    before = after_all(Evidence(), first)
    base = after_all(before, theirs)
    together, expected = after_all(before, mine).onto(base, before), after_all(base, mine)
    assert (together.good, together.bad) == pytest.approx((expected.good, expected.bad))


def test_where_the_memory_is_full_the_latest_stands() -> None:
    full, other = Evidence(90.0, MEMORY - 90.0), Evidence(10.0, 10.0)
    assert full.onto(other, full) == full and other.onto(full, full) == other  # forgotten in between


def test_a_belief_never_freezes() -> None:
    good: list[Outcome] = ["change_kept"] * 1000
    assert after(*good) < 1.0
    turned: list[Outcome] = [*good, *["change_discarded"] * 200]  # type: ignore[list-item]
    assert after(*turned) < 0.5


def test_tasks_and_models_are_apart() -> None:
    learning = Learning()
    learning.report(KEY, "tools", "edit_missed")
    assert learning.beliefs.quality("chat", KEY, 0.8) == 0.8
    assert learning.beliefs.quality("tools", ("q", "m"), 0.8) == 0.8


def test_beliefs_are_one_object_until_something_is_learned() -> None:
    learning = Learning()
    before = learning.beliefs
    assert learning.beliefs is before
    learning.report(KEY, "tools", "edit_missed")
    assert learning.beliefs is not before and before.quality("tools", KEY, 0.8) == 0.8


def test_the_longest_untouched_are_forgotten_first() -> None:
    learning = Learning()
    for number in range(MOST_LESSONS + 1):
        learning.report(("p", str(number)), "chat", "change_kept")
        learning.report(("p", "0"), "chat", "change_kept")
    evidence = learning.evidence()
    assert len(evidence) == MOST_LESSONS
    assert ("p", "0") in evidence and ("p", "1") not in evidence


class Shelf:
    """Keeps lessons as long as the test runs."""

    def __init__(self) -> None:
        self._lessons: dict[Key, Lesson] = {}

    async def load(self) -> Iterable[Lesson]:
        return tuple(self._lessons.values())

    async def save(self, lessons: Iterable[Lesson]) -> None:
        self._lessons.update({(each.provider, each.model): each for each in lessons})


def test_a_router_learns_forgets_nothing_and_goes_on() -> None:
    async def scenario() -> None:
        store = Shelf()
        a, b = rated("a", 0.9), rated("b", 0.85)
        at = room(a, b)
        decision = (await at.router.complete(ask())).decision
        assert (decision.name, decision.task) == ("a/m", "chat")
        for _ in range(5):
            at.router.report(decision, decision.task, "change_discarded")
        assert (await at.router.complete(ask())).decision.name == "b/m"
        await at.router.remember(store)

        again = room(rated("a", 0.9), rated("b", 0.85))
        await again.router.recall(store)
        await again.router.reconfigure(again.config, [rated("a", 0.9), rated("b", 0.85)])
        assert (await again.router.complete(ask())).decision.name == "b/m"

    asyncio.run(scenario())


def test_measured_times_survive_as_long_as_the_provider_is_the_same() -> None:
    async def scenario() -> None:
        store = Shelf()
        await store.save([Lesson("a", "m", ttft=0.5, speed=80.0)])
        at = room()
        await at.router.recall(store)
        await at.router.reconfigure(at.config, [rated("a", 0.9)])  # found after the start
        assert at.health.snapshot(at.clock()).of(("a", "m")).speed == 80.0
        await at.router.remember(store)
        assert list(await store.load()) == [Lesson("a", "m", ttft=0.5, speed=80.0)]
        await at.router.reconfigure(at.config, [memory("a", api_key="another-key")])
        assert at.health.snapshot(at.clock()).of(("a", "m")).speed is None

    asyncio.run(scenario())


LESSONS = [
    Lesson("p", "m", {"tools": Evidence(3.5, 1.0), "chat": Evidence(0.0, 2.0)}, ttft=0.4),
    Lesson("q", "org/model:free", speed=120.0),
]


def test_lessons_as_plain_data() -> None:
    assert from_data(json.loads(json.dumps(as_data(LESSONS)))) == LESSONS
    many = [Lesson("p", str(number)) for number in range(MOST_LESSONS + 5)]
    assert from_data(as_data(many))[0].model == "5"


@pytest.mark.parametrize(
    "change",
    [
        {"provider": ""},
        {"provider": None},
        {"model": "x" * 300},
        {"evidence": None},
        {"evidence": {"gossip": [1, 1]}},
        {"evidence": {"chat": [1]}},
        {"evidence": {"chat": [1, float("nan")]}},
        {"evidence": {"chat": [-1, 0]}},
        {"evidence": {"chat": [0, 2 * MEMORY]}},
        {"ttft": "fast"},
        {"speed": float("inf")},
    ],
)
def test_lessons_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    data = as_data(LESSONS)
    data["lessons"][0].update(change)
    with pytest.raises(ValueError, match=r"needed|needs|none of|values"):
        from_data(data)


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["version", "lessons", "provider", "evidence", "chat"]), inner)
    ),
    max_leaves=10,
)


@given(_json, st.sampled_from([1, 2, None]))
def test_any_data_is_taken_or_refused(rows: Any, version: Any) -> None:
    try:
        from_data({"version": version, "lessons": rows})
    except ValueError:
        return
    assert rows == [] and version == 1
