"""How good each model turns out to be, by kind of task: a belief that verified outcomes move.

The quality of a card is a prior worth `PRIOR_WEIGHT` observations. Only what was checked counts as evidence:
a tool call that was valid, an edit that applied, a change that the user kept. The belief is the mean of a
Beta distribution, and old evidence fades, so that it never freezes.

That mean is what to reckon with where quality is traded for time and money. Whoever looks for the best alone
goes by a more cautious value, because among near equals luck would decide: there a rating stands until the
outcomes contradict it by more than chance explains. The way from the rating to the mean is shortened by the
positive-part James-Stein factor, 1 - NOISE / z^2, where z is how many standard deviations the outcomes lie
from what the rating predicts.

Evidence is kept per provider, not per model: hosts of the same weights differ in quantisation, template
and tool parser, and what counts is what came from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

from routing.health import Key
from routing.needs import Needs
from routing.numbers import number_up_to
from routing.types import TaskClass

Outcome = Literal[
    "tool_call_valid",
    "tool_call_invalid",
    "edit_applied",
    "edit_missed",
    "change_kept",
    "change_discarded",
]
"""What can be found out about an answer without asking a model."""

LONG_CONTEXT = 40_000
"""Prompt tokens, estimated cautiously, from which on finding things is what is hard."""
UNKNOWN_QUALITY = 0.4
"""Below nine tenths of the rated models in `routing/data`: what nobody rated is rarely the best."""
PRIOR_WEIGHT = 10.0
"""Observations that the rating of a card is worth; LiteLLM's adaptive router takes the same."""
UNKNOWN_WEIGHT = 4.0
"""The same for UNKNOWN_QUALITY, which is no more than a guess."""
MEMORY = 100.0
"""Observations that count at most: each takes its share of them from all before it."""
NOISE = 4.0
"""Squared standard deviations up to which outcomes are taken for luck: two, as usual."""
_LEAST_VARIANCE = 0.01
"""Of one observation, so that a rating of 0 or 1 can be contradicted, too."""
_FULL = 1e-6
MOST_LESSONS = 5000
"""Models remembered; those touched last stay."""
_LONGEST_NAME = 256
_VERSION = 1

_WEIGHTS: Mapping[Outcome, tuple[float, float]] = MappingProxyType(
    {
        "tool_call_valid": (0.15, 0.0),
        "tool_call_invalid": (0.0, 1.0),
        "edit_applied": (0.3, 0.0),
        "edit_missed": (0.0, 1.0),
        "change_kept": (0.5, 0.0),
        "change_discarded": (0.0, 0.5),
    }
)
"""Good and bad evidence in each outcome. Even a hopeless model makes four valid calls of five, so a valid one
says a fifth as much as an invalid one, and less where the model was expected to be good: with f the share
of failures at quality 0, a success weighs f x Q beside a failure's 1, which leaves a belief that is right
where it is. A user may discard a good change, so that counts half."""


def task_class(needs: Needs) -> TaskClass:
    """The kind of a request; where several fit, the one that is hardest on a model."""
    if needs.json_schema:
        return "structured"
    if needs.prompt_tokens >= LONG_CONTEXT:
        return "long_context"
    return "tools" if needs.tools else "chat"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Verified outcomes, weighed and faded."""

    good: float = 0.0
    bad: float = 0.0

    def and_(self, outcome: Outcome) -> Evidence:
        """With one more."""
        good, bad = _WEIGHTS[outcome]
        kept = 1 - (good + bad) / MEMORY
        return Evidence(self.good * kept + good, self.bad * kept + bad)

    def onto(self, base: Evidence, before: Evidence) -> Evidence:
        """What `base` becomes by the outcomes that made this of `before`.

        Each outcome of weight w keeps 1 - w/MEMORY of what there was, so how much is left of `before` shows
        in what MEMORY still has room for. Where that is full, nothing shows: this stands instead.
        """
        room, left = (MEMORY - each.good - each.bad for each in (before, self))
        if not _FULL < left <= room:
            return self
        kept = left / room
        good, bad = self.good + (base.good - before.good) * kept, self.bad + (base.bad - before.bad) * kept
        return Evidence(max(0.0, good), max(0.0, bad))

    def quality(self, prior: float | None) -> float:
        """The posterior mean, 0..1, for a card that says `prior`; None = nobody rated it."""
        mean, weight = (UNKNOWN_QUALITY, UNKNOWN_WEIGHT) if prior is None else (prior, PRIOR_WEIGHT)
        return (mean * weight + self.good) / (weight + self.good + self.bad)

    def proven(self, prior: float | None) -> float:
        """The same, but no other than a rating as far as luck may explain the difference."""
        mean = self.quality(prior)
        if prior is None:  # a guess needs no contradiction
            return mean
        seen = self.good + self.bad
        luck = seen * max(prior * (1 - prior), _LEAST_VARIANCE)
        surprise = (self.good - prior * seen) ** 2  # z^2 is this over `luck`
        if surprise <= NOISE * luck:
            return prior
        return prior + (1 - NOISE * luck / surprise) * (mean - prior)


_NONE = Evidence()


@dataclass(frozen=True, slots=True)
class Beliefs:
    """All evidence at one moment. Never changes: another object means other beliefs."""

    evidence: Mapping[tuple[TaskClass, Key], Evidence] = field(default_factory=dict)

    def quality(self, task: TaskClass, key: Key, prior: float | None) -> float:
        """What to expect of a model at such tasks, 0..1."""
        return self.evidence.get((task, key), _NONE).quality(prior)

    def proven(self, task: TaskClass, key: Key, prior: float | None) -> float:
        """The same, cautiously: what stands in spite of luck."""
        return self.evidence.get((task, key), _NONE).proven(prior)


NO_BELIEFS = Beliefs()


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is worth keeping of one model at one provider over a restart."""

    provider: str
    model: str
    evidence: Mapping[TaskClass, Evidence] = field(default_factory=dict)
    ttft: float | None = None
    """Seconds to the first token; None = not measured. Likewise tokens per second."""
    speed: float | None = None


class LearningStore(Protocol):
    """Where lessons are kept while nobody runs."""

    async def load(self) -> Iterable[Lesson]:
        """All that was saved, in any order."""
        ...

    async def save(self, lessons: Iterable[Lesson]) -> None:
        """Keep these; each replaces the earlier one of the same provider and model."""
        ...


class Learning:
    """The beliefs of a router, and how they change. Used from one event loop."""

    def __init__(self) -> None:
        self._evidence: dict[tuple[TaskClass, Key], Evidence] = {}
        self._beliefs: Beliefs | None = NO_BELIEFS

    @property
    def beliefs(self) -> Beliefs:
        """What is believed now; the same object until something is learned."""
        if self._beliefs is None:
            self._beliefs = Beliefs(dict(self._evidence))
        return self._beliefs

    def report(self, key: Key, task: TaskClass, outcome: Outcome) -> None:
        """Something was found out about an answer."""
        place = (task, key)
        # Taken out and put back at the end, so that the front is what nobody asked for the longest.
        self._evidence[place] = self._evidence.pop(place, _NONE).and_(outcome)
        if len(self._evidence) > MOST_LESSONS:
            del self._evidence[next(iter(self._evidence))]
        self._beliefs = None

    def take(self, lessons: Iterable[Lesson]) -> None:
        """Begin with what was learned before."""
        for lesson in lessons:
            for task, evidence in lesson.evidence.items():
                self._evidence[task, (lesson.provider, lesson.model)] = evidence
        self._beliefs = None

    def evidence(self) -> dict[Key, dict[TaskClass, Evidence]]:
        """All evidence by model, the latest touched last."""
        found: dict[Key, dict[TaskClass, Evidence]] = {}
        for (task, key), evidence in self._evidence.items():
            found[key] = {**found.pop(key, {}), task: evidence}
        return found


def as_data(lessons: Iterable[Lesson]) -> dict[str, Any]:
    """Lessons as plain data for JSON; at most `MOST_LESSONS`, the last ones."""
    rows = [
        {
            "provider": lesson.provider,
            "model": lesson.model,
            "ttft": lesson.ttft,
            "speed": lesson.speed,
            "evidence": {task: [each.good, each.bad] for task, each in lesson.evidence.items()},
        }
        for lesson in lessons
    ]
    return {"version": _VERSION, "lessons": rows[-MOST_LESSONS:]}


def from_data(data: Any) -> list[Lesson]:
    """Lessons from plain data, whoever wrote it. Raises ValueError when it is not what `as_data` makes."""
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise ValueError(f"these are no lessons of version {_VERSION}")
    rows = data.get("lessons")
    if not isinstance(rows, list) or len(rows) > MOST_LESSONS:
        raise ValueError(f"a list of at most {MOST_LESSONS:,} lessons is needed")
    return [_lesson(row) for row in rows]


def _lesson(row: Any) -> Lesson:
    try:
        evidence = {
            _one_of(TaskClass, task): Evidence(number_up_to(MEMORY, good), number_up_to(MEMORY, bad))
            for task, (good, bad) in row["evidence"].items()
        }
        ttft, speed = (
            None if row[name] is None else number_up_to(1e6, row[name]) for name in ("ttft", "speed")
        )
        return Lesson(_text(row["provider"]), _text(row["model"]), evidence, ttft, speed or None)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a lesson lacks what it needs ({type(error).__name__}: {error})") from None


def _one_of(kinds: Any, value: Any) -> Any:
    if value not in get_args(kinds):
        raise ValueError(f"{str(value)[:40]!r} is none of {', '.join(get_args(kinds))}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise ValueError(f"a name of 1 to {_LONGEST_NAME} characters is needed")
    return value
