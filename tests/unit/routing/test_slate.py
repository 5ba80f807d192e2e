"""The columns remembered between requests are those that would be made anew."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from routing.candidate import Candidate
from routing.config import ModelCard, ProviderSpec
from routing.health import WHOLE_ACCOUNT, Health, HealthSnapshot
from routing.learning import Learning
from routing.needs import Needs
from routing.policy import rank
from routing.reasons import explain
from routing.slate import FRESH, LEAST_CHANCE, Slate
from routing.types import Quality

ROWS = [("a", "default", "x"), ("a", "default", "y"), ("b", "default", "x"), ("c", "default", "z")]
ROWS += [("a", "two", "x"), ("a", "three", "x"), ("c", "two", "z")]
QUALITIES = {"x": 0.4, "y": 0.2, "z": 0.8}
CANDIDATES = [
    Candidate(
        ProviderSpec(name=provider, account=account, base_url="https://x.example"),
        ModelCard(id=model, quality=QUALITIES[model]),
    )
    for provider, account, model in ROWS
]
KEYS = [each.key for each in CANDIDATES]

_KINDS = ("answered", "measured", "faulted", "gave_up", "limited", "refused", "learned", "used", "allowed")
_events = st.lists(
    st.tuples(
        st.sampled_from([*_KINDS]),
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
        "used": lambda: health.used(key, now, round(now) * 10),
        "allowed": lambda: health.allowed(
            key if now % 2 < 1 else (key[0], WHOLE_ACCOUNT), now, max(0.0, now % 1 - 0.3), 9
        ),
        "learned": lambda: learning.report(key, "chat", "change_discarded"),
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
        assert are_in_order(before.candidates, snapshot)


def are_in_order(candidates: list[Candidate], snapshot: HealthSnapshot) -> bool:
    """Whether, of the same model at several accounts, the works-best, fullest and least used comes first."""
    merits: dict[object, list[tuple[float, float, float]]] = {}
    moment = snapshot.now // FRESH * FRESH
    for each in candidates:
        vitals, left = snapshot.of(each.key), snapshot.left(each.key)
        left = 1.0 if left is None else left
        merit = (
            -round(max(vitals.trust(moment), LEAST_CHANCE), 1),
            -round(left, 1),
            round(vitals.load(snapshot.now), 6),
        )
        merits.setdefault(each.kind, []).append(merit)
    return all(found == sorted(found) for found in merits.values())


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
