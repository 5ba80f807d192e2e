"""The columns remembered between requests are those that would be made anew."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from routing.candidate import Candidate
from routing.config import ModelCard, ProviderSpec
from routing.health import WHOLE_ACCOUNT, Health
from routing.learning import Learning
from routing.needs import Needs
from routing.policy import rank
from routing.reasons import explain
from routing.slate import FRESH, Slate
from routing.types import Quality

KEYS = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")]
CANDIDATES = [
    Candidate(
        ProviderSpec(name=provider, base_url="https://x.example"), ModelCard(id=model, quality=0.2 * number)
    )
    for number, (provider, model) in enumerate(KEYS, 1)
]

_events = st.lists(
    st.tuples(
        st.sampled_from(["answered", "measured", "faulted", "gave_up", "limited", "refused", "learned"]),
        st.sampled_from(KEYS),
        st.floats(0, 3 * FRESH),
    ),
    max_size=30,
)
_qualities: st.SearchStrategy[Quality] = st.sampled_from(["fastest", "balanced", "best_quality"])


def happen(health: Health, learning: Learning, kind: str, key: tuple[str, str], now: float) -> None:
    acts: dict[str, Any] = {
        "answered": lambda: health.answered(key, now),
        "measured": lambda: health.measured(key, now, ttft=now / 9, latency=now, tokens=100),
        "faulted": lambda: health.faulted(key, now),
        "gave_up": lambda: health.gave_up(key, now),
        "limited": lambda: health.limited(key, now, 20),
        "refused": lambda: health.refused(key, now, "no", whole_account=True),
        "learned": lambda: learning.report(key, "chat", "tests_failed"),
    }
    acts[kind]()


@given(_events, _qualities)
def test_a_slate_that_was_used_ranks_as_a_new_one(
    events: list[tuple[str, tuple[str, str], float]], quality: Quality
) -> None:
    used, health, learning = Slate(CANDIDATES), Health(), Learning()
    now = 0.0
    for kind, key, passed in events:
        now += passed
        happen(health, learning, kind, key, now)
        snapshot, beliefs = health.snapshot(now), learning.beliefs
        before = rank(used, quality, snapshot, beliefs=beliefs)
        told = explain(before)
        assert told == explain(rank(Slate(CANDIDATES), quality, snapshot, beliefs=beliefs))
        blocked = {entry.candidate.key for entry in told if entry.block}
        assert blocked == {key for key in KEYS if snapshot.block(key)}
        assert [each.key for each in before.candidates] == [e.candidate.key for e in told if e.is_ready]


def test_a_ranking_can_be_explained_after_things_changed() -> None:
    slate, health = Slate(CANDIDATES), Health()
    before = rank(slate, "fastest", health.snapshot(0))
    told = explain(before)
    for _ in range(5):
        health.faulted(KEYS[0], 1)
    rank(slate, "fastest", health.snapshot(1))
    assert explain(before) == told


def test_each_candidate_counts_once_and_a_whole_account_as_all_its_models() -> None:
    slate, health = Slate([*CANDIDATES, *CANDIDATES]), Health()
    assert len(slate) == len(KEYS)
    health.refused(("a", "x"), 0, "no", whole_account=True)
    assert slate.blocked(health.snapshot(1)) == {0, 1}
    assert ("a", WHOLE_ACCOUNT) in health.snapshot(1).troubled


def test_features_are_worked_out_once() -> None:
    slate = Slate(CANDIDATES)
    small, large = Needs(tools=True, prompt_tokens=5), Needs(tools=True, prompt_tokens=50_000)
    assert slate.fit(small, free_only=False) is slate.fit(large, free_only=False)
