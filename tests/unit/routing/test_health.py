"""Averages, cool-downs, probes and the retry budget."""

from __future__ import annotations

import pytest

from routing.health import (
    FAULTS_BEFORE_COOLING,
    FAULTS_FADE,
    FIRST_COOLING,
    LONGEST_LIMIT,
    PACE_FADES,
    PARKED,
    PREFILL_SPEED,
    USE_FADES,
    WHOLE_ACCOUNT,
    Health,
)
from routing.retry_budget import RetryBudget

KEY = ("p", "m")


def trip(health: Health, now: float = 0.0) -> None:
    for _ in range(FAULTS_BEFORE_COOLING):
        health.gave_up(KEY, now)


def test_a_snapshot_never_changes() -> None:
    health = Health()
    before = health.snapshot(0)
    trip(health)
    assert before.block(KEY) is None
    assert health.snapshot(0).block(KEY) is not None


def test_averages_follow_the_newest() -> None:
    health = Health()
    health.measured(KEY, 0, ttft=1.0, latency=2.0, tokens=100)
    health.measured(KEY, 0, ttft=2.0, latency=4.0, tokens=100)
    vitals = health.snapshot(0).of(KEY)
    assert vitals.ttft == pytest.approx(1.2) and vitals.latency == pytest.approx(2.4)
    assert vitals.speed == pytest.approx(90.0)


def test_short_answers_say_nothing_about_speed() -> None:
    health = Health()
    health.measured(KEY, 0, latency=2.0, tokens=3)
    assert health.snapshot(0).of(KEY).speed is None


def test_a_whole_answer_does_not_count_its_wait_twice() -> None:
    whole = Health()
    whole.measured(KEY, 0, latency=3.0, tokens=100)
    wait, each = whole.snapshot(0).of(KEY).pace(0, ttft=1.5, speed=50.0)
    assert wait + 100 * each == pytest.approx(3.0)
    whole.measured(KEY, 0, ttft=1.0, latency=3.0, tokens=100)
    whole.measured(KEY, 0, latency=3.0, tokens=100)  # the usual wait is known now
    assert whole.snapshot(0).of(KEY).speed == pytest.approx(39.33, abs=0.01)


def test_reading_a_long_prompt_is_not_being_slow() -> None:
    health = Health()
    health.measured(KEY, 0, ttft=1.0 + 60_000 / PREFILL_SPEED, latency=31.0, tokens=100, prompt=60_000)
    assert health.snapshot(0).of(KEY).ttft == pytest.approx(1.0)
    assert health.snapshot(0).of(KEY).speed == pytest.approx(10.0)


def test_old_bad_times_fade_to_what_else_is_known() -> None:
    health = Health()
    health.measured(KEY, 0, ttft=9.5, latency=109.5, tokens=100)
    vitals = health.snapshot(0).of(KEY)
    assert vitals.pace(0, 1.5, 50.0) == pytest.approx((9.5, 1.0))
    assert vitals.pace(PACE_FADES, 1.5, 50.0) == pytest.approx((5.5, 0.51))
    assert vitals.pace(20 * PACE_FADES, 1.5, 50.0) == pytest.approx((1.5, 0.02), abs=1e-3)
    assert vitals.pace(20 * PACE_FADES, 20.0, 0.5) == pytest.approx((9.5, 1.0))  # good ones stay


def test_failures_are_forgiven_in_time() -> None:
    health = Health()
    for _ in range(50):
        health.faulted(KEY, 0)
    vitals = health.snapshot(0).of(KEY)
    assert vitals.trust(0) < 0.01
    assert vitals.trust(FAULTS_FADE) == pytest.approx(0.5, abs=0.01)
    health.answered(KEY, FAULTS_FADE)
    assert health.snapshot(0).of(KEY).trust(FAULTS_FADE) == pytest.approx(0.55, abs=0.01)


def test_use_counts_what_was_sent_and_what_came_lately() -> None:
    health = Health()
    health.used(KEY, 0, 1000)
    health.measured(KEY, USE_FADES, latency=1.0, tokens=100)
    vitals = health.snapshot(0).of(KEY)
    assert vitals.load(USE_FADES) == pytest.approx(600) and vitals.load(2 * USE_FADES) == pytest.approx(300)


def test_the_scarcer_allowance_counts_until_it_is_full_again() -> None:
    health = Health()
    health.allowed(KEY, 0.9, until=100)
    health.allowed(("p", WHOLE_ACCOUNT), 0.2, until=50)
    assert [health.snapshot(now).left(KEY) for now in (0, 60, 100)] == [0.2, 0.9, None]
    assert health.snapshot(0).left(("p", "other")) == 0.2
    health.forget({"p"})
    assert health.snapshot(0).left(KEY) is None


def test_repeated_failure_cools_longer_each_time() -> None:
    health = Health()
    health.gave_up(KEY, 0)
    assert health.snapshot(0).block(KEY) is None
    trip(health)
    block = health.snapshot(0).block(KEY)
    assert block and block.cause == "faults" and block.seconds >= FIRST_COOLING
    health.gave_up(KEY, 100)
    longer = health.snapshot(100).block(KEY)
    assert longer and longer.seconds > block.seconds


def test_after_the_rest_one_request_at_a_time_probes() -> None:
    health = Health()
    trip(health)
    assert health.snapshot(999).block(KEY) is None
    assert health.claim(KEY, 999) == "probe"
    assert health.claim(KEY, 999) == "closed"
    assert health.snapshot(999).block(KEY) is not None
    health.release(KEY)
    assert health.claim(KEY, 999) == "probe"
    health.answered(KEY, 999)
    health.release(KEY)
    assert health.claim(KEY, 999) == "open"


def test_limits_end_and_are_capped() -> None:
    health = Health()
    health.limited(KEY, 0, 86_400)
    block = health.snapshot(0).block(KEY)
    assert block and block.seconds == LONGEST_LIMIT and block.cause == "rate limit"
    assert health.snapshot(LONGEST_LIMIT).block(KEY) is None


def test_a_refused_model_is_parked_alone_a_refused_key_whole() -> None:
    health = Health()
    health.refused(KEY, 0, "no such model", whole_account=False)
    assert health.snapshot(0).block(("p", "other")) is None
    assert not health.snapshot(0).is_up("p")  # all we know of it is down
    health.refused(KEY, 0, "bad key", whole_account=True)
    block = health.snapshot(1).block(("p", "other"))
    assert block and block.words == "bad key" and block.seconds == PARKED - 1
    assert not health.snapshot(1).is_up("p") and health.snapshot(1).is_up("q")
    health.forget({"p"})
    assert health.snapshot(1).is_up("p")


def test_budget_never_under_ten() -> None:
    budget = RetryBudget()
    budget.request(0)
    assert [budget.spend(0.5) for _ in range(11)] == [True] * 10 + [False]
    assert budget.spend(11)  # ten seconds later the window is clear


def test_budget_is_a_fifth_of_the_traffic() -> None:
    budget = RetryBudget()
    for i in range(200):
        budget.request(i / 40)
    assert sum(budget.spend(5) for _ in range(100)) == 40
