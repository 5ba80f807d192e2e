"""Averages, cool-downs, probes and the retry budget."""

from __future__ import annotations

import pytest

from routing.config import RateLimits
from routing.health import (
    FAULTS_BEFORE_COOLING,
    FAULTS_FADE,
    FIRST_COOLING,
    FOR_NOTHING,
    FORESEEN,
    LONGEST_COOLING,
    LONGEST_LIMIT,
    MOST_OFTEN,
    PACE_FADES,
    PARKED,
    PASSING,
    PREFILL_SPEED,
    USE_FADES,
    WHOLE_ACCOUNT,
    Block,
    Health,
)
from routing.records import MOST_STRANGERS
from routing.retry_budget import RetryBudget
from routing.standing import Standing

KEY = ("p", "m")


def trip(health: Health, now: float = 0.0) -> None:
    for _ in range(FAULTS_BEFORE_COOLING):
        health.gave_up(KEY, now)


@pytest.mark.parametrize(
    ("seconds", "rest"), [(0.01, MOST_OFTEN), (2.0, 2.0 / FOR_NOTHING), (60.0, LONGEST_COOLING)]
)
def test_what_fails_quickly_is_looked_at_again_soon(seconds: float, rest: float) -> None:
    health = Health()
    for _ in range(20):
        health.gave_up(KEY, 0, seconds=seconds)
    block = health.snapshot(0).block(KEY)
    assert block and block.seconds == pytest.approx(rest)


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
    assert vitals.ttft == pytest.approx(1.2)
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
    health.ended(KEY, USE_FADES, 100)
    vitals = health.snapshot(0).of(KEY)
    assert vitals.load(USE_FADES) == pytest.approx(600) and vitals.load(2 * USE_FADES) == pytest.approx(300)


def test_a_request_that_did_not_go_out_is_given_back_to_the_time_it_was_counted_in() -> None:
    health, limits = Health(), RateLimits(requests_per_minute=2, requests_per_day=3, concurrent=2)
    health.limit({"p": limits})
    health.used(KEY, 59, 100)
    health.used(KEY, 59, 100)
    assert health.claim(KEY, 59) == "closed"
    health.withdrawn(KEY, 59, 100)
    assert health.claim(KEY, 59) == "open"
    assert health.snapshot(59).of(KEY).load(59) == 100
    health.used(KEY, 60, 100)
    health.withdrawn(KEY, 59, 100)  # of the minute before
    health.used(KEY, 60, 100)
    health.ended(KEY, 61, 0)
    assert health.claim(KEY, 61) == "closed"
    assert health.claim(KEY, 120) == "open"


def test_the_scarcer_allowance_counts_until_it_is_full_again() -> None:
    health = Health()
    health.allowed(KEY, 0, 0.9, 100)
    health.allowed(("p", WHOLE_ACCOUNT), 0, 0.2, 50)
    assert [health.snapshot(now).left(KEY) for now in (0, 60, 100)] == [0.2, 0.9, None]
    assert health.snapshot(0).left(("p", "other")) == 0.2
    health.forget({"p"})
    assert health.snapshot(0).left(KEY) is None


def test_an_allowance_that_is_used_up_is_a_reason_to_leave_alone_for_an_hour_at_most() -> None:
    health = Health()
    health.allowed(KEY, 0, 0.0, 60)
    assert health.snapshot(0).block(KEY) == Block(60, "allowance")
    assert KEY in health.snapshot(0).troubled
    assert health.snapshot(0).block(("p", "other")) is None
    assert health.snapshot(60).block(KEY) is None
    health.allowed(("p", WHOLE_ACCOUNT), 100, 0.0, 86_400)
    assert health.snapshot(100).block(("p", "other")) == Block(LONGEST_LIMIT, "allowance")
    health.allowed(("p", WHOLE_ACCOUNT), 200, 0.01, 86_400)
    assert health.snapshot(200).block(("p", "other")) is None
    assert ("p", WHOLE_ACCOUNT) not in health.snapshot(200).troubled


def test_an_answer_to_an_older_request_does_not_end_the_rest_that_the_provider_wants() -> None:
    health = Health()
    health.faulted(KEY, 0)
    health.limited(KEY, 0, 60)
    health.answered(KEY, 1)
    assert health.snapshot(1).block(KEY) == Block(59, "rate limit")
    assert health.snapshot(1).of(KEY).attempts == 0
    health.answered(KEY, 60)
    assert health.snapshot(60).of(KEY).cause is None
    trip(health, 60)
    health.answered(KEY, 61)
    assert health.snapshot(61).block(KEY) is None, "who failed and answers is well"


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


def test_who_is_left_alone_now_is_not_asked_whatever_was_planned() -> None:
    health = Health()
    assert health.claim(KEY, 0) == "open"
    health.limited(KEY, 0, 60)
    assert health.claim(KEY, 0) == "closed"
    assert health.claim(KEY, 0, despite=FORESEEN) == "closed"
    assert health.claim(KEY, 0, despite=PASSING) == "open"
    assert health.claim(KEY, 60) == "open"
    health.allowed(KEY, 60, 0.0, 60)
    assert health.claim(KEY, 60) == "closed" and health.claim(KEY, 60, despite=FORESEEN) == "open"
    health.refused(KEY, 60, "bad key", whole_account=True)
    for place in (KEY, ("p", "other")):
        assert health.claim(place, 60, despite=PASSING) == "closed"
    health.proven("p")
    health.capped("p", 60, 60, "used up")
    assert health.claim(("p", "other"), 60) == "closed"
    assert health.claim(("p", "other"), 60, is_free=True) == "open"


def test_who_failed_is_tried_in_its_rest_only_by_one_and_by_who_has_no_other() -> None:
    health = Health()
    trip(health)
    assert health.claim(KEY, 0) == "closed"
    assert [health.claim(KEY, 0, despite=FORESEEN) for _ in range(2)] == ["probe", "closed"]


def test_names_that_mean_nothing_are_forgotten_before_models() -> None:
    known = {f"model-{n}" for n in range(2 * MOST_STRANGERS)}
    health = Health(known=lambda account_id: known if account_id == "p" else ())
    health.refused(KEY, 0, "bad key", whole_account=True)
    for model in known:
        health.refused(("p", model), 0, "gone", whole_account=False)
    for n in range(20 * MOST_STRANGERS):
        health.used(("p", f"junk-{n}"), 0, 10)
        health.allowed(("p", f"junk-{n}"), 0, 0.0, 60)
        health.refused(("p", f"junk-{n}"), 0, "no such model", whole_account=False)
        health.ended(("p", f"junk-{n}"), 0, 0)
        health.used(("q", "in use"), 0, 10)
    snapshot = health.snapshot(0)
    assert {("p", model) for model in (*known, WHOLE_ACCOUNT)} < snapshot.records.keys()
    assert ("q", "in use") in snapshot.records and ("p", f"junk-{n}") in snapshot.troubled
    most = len(known) + 2 * MOST_STRANGERS + 2
    assert max(len(each) for each in (snapshot.records, snapshot.allowances, snapshot.troubled)) <= most


def test_what_is_remembered_of_an_account_can_be_read_back_however_much_there_is() -> None:
    models = {f"model-{n}" for n in range(2500)}
    health = Health(known=lambda account_id: models)
    health.refused(KEY, 0, "bad key", whole_account=True, until_changed=True)
    for model in models:
        health.allowed(("p", model), 0, 0.5, 60)
        health.refused(("p", model), 0, "gone", whole_account=False)
    again = Health()
    again.resume("p", Standing.from_data(health.standing("p", health.snapshot(0)).as_data()), 0)
    block = again.snapshot(0).block(("p", "any"))
    assert block and block.cause == "disabled"


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
    assert not health.snapshot(0).is_up("p", ["m"]) and health.snapshot(0).is_up("p", ["m", "other"])
    assert health.snapshot(0).is_up("p", [])  # there may be others
    health.refused(KEY, 0, "bad key", whole_account=True)
    block = health.snapshot(1).block(("p", "other"))
    assert block and block.words == "bad key" and block.seconds == PARKED - 1
    for known in ([], ["other"]):
        assert not health.snapshot(1).is_up("p", known) and health.snapshot(1).is_up("q", known)
    health.forget({"p"})
    assert health.snapshot(1).is_up("p", ["m"])


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
