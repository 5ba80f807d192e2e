"""In which order to ask. Pure: no clock, no network, and no prose (that is `reasons`).

The three qualities, with T = time to the first token + answer tokens / speed,
S = success rate, Q = quality at such tasks, C = cost at list prices:

- `fastest`: least T/S, among those with Q above a floor;
- `best_quality`: highest Q; C, then T/S, break ties;
- `balanced`: least (C + rent + price of time x (T/S + N x (1 - Q))) / Q, what a *good* answer may be
  expected to cost, among those with Q above a higher floor. Rent is what using up a scarce free allowance
  is worth, and N the time it takes to notice that an answer is bad.

Floors are soft: who is below comes later, not never. The strategies of a model group order by one number:
`least-cost` by C, `latency-based` by T/S, `usage-based` by the allowance that is left and then by the tokens
used lately, `simple-shuffle` by lot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from routing.candidate import Candidate
from routing.config import Strategy
from routing.health import PREFILL_SPEED, Block, HealthSnapshot, Key
from routing.learning import NO_BELIEFS, Beliefs, task_class
from routing.needs import Needs
from routing.slate import LEAST_CHANCE, Paces, Slate
from routing.types import Quality, TaskClass

__all__ = ["Candidate", "Goal", "Ranked", "Ranking", "Scores", "Warm", "rank"]

Goal = Quality | Strategy
"""What the order is made by."""

USUAL_ANSWER = 600
"""Tokens of an answer to a coding request, where the request names no limit below."""
FLOORS: Mapping[Goal, float] = {"fastest": 0.35, "balanced": 0.6}
SECOND_PRICE = 0.002
"""US dollars that a second of waiting is worth: ten seconds weigh as much as two cents."""
NOTICING = 30.0
"""Seconds that a bad answer takes of somebody before it is asked for again."""
RENT = (1.0, 4.0)
"""US dollars per million prompt and answer tokens that the last of a free allowance is worth: what a paid
model takes whom one would have to turn to."""
CACHE_SAVES = 0.9
"""Share of the price of prompt tokens that a warm prompt cache saves: a cached token costs a tenth at
Anthropic and OpenAI."""
LOYALTY = 0.03
"""Quality by which another must be better before a thread leaves a warm cache."""
_BELOW_FLOOR = 1e9
"""Added to the key of who is below the floor; leaves seven digits after the point for the key itself."""
_ALLOWANCE = 1e12
"""Tokens that outweigh all use: a tenth less of an allowance that is left counts before what was used."""
_TIE = 1e-6
"""US dollars a second, so small that cost decides unless it is the same."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers that a place in the order comes from."""

    quality: float
    """Expected at such tasks: the rating, moved by verified outcomes; for `best_quality`, by no luck."""
    success_rate: float
    seconds: float
    """Expected time to a finished answer, failed tries included."""
    cost: float
    """US dollars expected for the answer."""
    rent: float
    """US dollars that what it takes from a free allowance is worth."""

    @property
    def expense(self) -> float:
        """US dollars that a good answer may be expected to cost, waiting included."""
        seconds = self.seconds + NOTICING * (1 - self.quality)
        return (self.cost + self.rent + SECOND_PRICE * seconds) / max(self.quality, LEAST_CHANCE)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place, and why it stands there."""

    candidate: Candidate
    scores: Scores
    reason: str
    """One sentence without a full stop: why it won, or why it lost against the winner."""
    refusal: str | None = None
    """Why it can never serve this request; None = it can."""
    block: Block | None = None
    """Why it is not asked just now; None = it may be."""
    doubt: str | None = None
    """Why it only may be able to serve this request; None = it surely is."""
    warm: bool = False
    """Whether the beginning of the prompt is in its cache."""

    @property
    def is_ready(self) -> bool:
        return self.refusal is None and self.block is None


@dataclass(frozen=True, slots=True)
class Warm:
    """Where the beginning of the prompt was read a moment ago."""

    key: Key
    tokens: int
    """How many it read then."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The scores of all candidates, by their numbers in the slate."""

    quality: list[float]
    seconds: list[float]
    cost: list[float]
    rent: list[float]
    trust: list[float]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Who is to be asked in which order, as numbers in the slate; `reasons.explain` puts it into words."""

    slate: Slate
    goal: Goal
    task: TaskClass
    needs: Needs
    snapshot: HealthSnapshot
    columns: Columns
    ready: list[int]
    """Who may be asked now: first who surely can serve the request, then who may."""
    sure: int
    """How many of those surely can."""
    blocked: list[int]
    """Who is left alone just now."""
    refused: list[int]
    """Who can never serve it."""
    free_only: bool = False
    warm: Warm | None = None

    @property
    def candidates(self) -> list[Candidate]:
        """Who may be asked now, best first."""
        return [self.slate.candidates[number] for number in self.ready]

    def unread(self, key: Key) -> int:
        """Prompt tokens that the model has to read, because they are not in its cache."""
        known = self.warm.tokens if self.warm and self.warm.key == key else 0
        return max(0, self.needs.prompt_tokens - known)

    def scores(self, number: int) -> Scores:
        """What may be expected of a candidate."""
        c = self.columns
        return Scores(c.quality[number], c.trust[number], c.seconds[number], c.cost[number], c.rent[number])


def rank(
    slate: Slate,
    goal: Goal,
    snapshot: HealthSnapshot,
    needs: Needs | None = None,
    *,
    beliefs: Beliefs = NO_BELIEFS,
    free_only: bool = False,
    warm: Warm | None = None,
    random: Callable[[], float] = lambda: 0.5,
) -> Ranking:
    """The order in which to ask. `random` draws the lots of `simple-shuffle`, and nothing else.

    With `in-order` the given order decides instead of scores and doubts: it is the user's own chain.
    """
    needs = needs or Needs()
    task = task_class(needs)
    qualities = slate.qualities(task, beliefs)
    quality = qualities.proven if goal == "best_quality" else qualities.values
    paces, left = slate.paces(snapshot), slate.lefts(snapshot)
    columns = _columns(slate, paces, needs, quality, left)
    warm = warm if warm and warm.key in slate.numbers else None
    if warm:
        _favour(warm, slate, needs, columns)
    sure, doubtful, refused = _fitting(slate, needs, free_only=free_only)
    blocked: list[int] = []
    if alone := slate.blocked(snapshot):
        blocked = [n for n in (*sure, *doubtful) if n in alone]
        sure, doubtful = ([n for n in part if n not in alone] for part in (sure, doubtful))
    if goal == "in-order":
        sure, doubtful = [*sure, *doubtful], []
    order = _sorter(slate, goal, snapshot, columns, qualities.steps, warm, random)
    slate.siblings.update(paces, left)
    place = slate.numbers[warm.key] if warm else None
    return Ranking(
        slate,
        goal,
        task,
        needs,
        snapshot,
        columns,
        ready=[
            *slate.siblings.arranged(order(sure), place),
            *slate.siblings.arranged(order(doubtful), place),
        ],
        sure=len(sure),
        blocked=order(blocked),
        refused=order(refused),
        free_only=free_only,
        warm=warm,
    )


def _columns(
    slate: Slate, paces: Paces, needs: Needs, quality: list[float], left: Mapping[int, float]
) -> Columns:
    prompt, answer = needs.prompt_tokens, min(needs.output_tokens or USUAL_ANSWER, USUAL_ANSWER)
    reading = prompt / PREFILL_SPEED
    rent = (prompt * RENT[0] + answer * RENT[1]) / 1e6
    scarcity = slate.scarcity
    if left:
        scarcity = scarcity.copy()
        for number, share in left.items():
            if scarcity[number]:
                scarcity[number] = (1 - share) ** 2
    return Columns(
        quality,
        [
            wait + answer * each + reading / trust
            for wait, each, trust in zip(paces.waits, paces.per_token, paces.trust, strict=True)
        ],
        [prompt * p + answer * a for p, a in zip(slate.prompt_price, slate.answer_price, strict=True)],
        [rent * each for each in scarcity],
        paces.trust,
    )


def _used_up(left: float | None) -> float:
    """What is gone of an allowance in tenths, on a scale above that of tokens; 0 where nobody told."""
    return 0.0 if left is None else _ALLOWANCE * (1 - round(left, 1))


def _favour(warm: Warm, slate: Slate, needs: Needs, columns: Columns) -> None:
    """Count what the warm cache saves: of the price, and of the time to read the prompt."""
    number, tokens = slate.numbers[warm.key], min(warm.tokens, needs.prompt_tokens)
    columns.cost[number] -= CACHE_SAVES * tokens * slate.prompt_price[number]
    columns.seconds[number] -= tokens / PREFILL_SPEED / columns.trust[number]


def _fitting(
    slate: Slate, needs: Needs, *, free_only: bool
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Who surely can serve the request, who may, and who never can: `eligibility`, in columns."""
    fit = slate.fit(needs, free_only=free_only)
    output = needs.output_tokens or 0
    if needs.size <= slate.least_window and output <= slate.least_max_output:
        return fit.sure, fit.doubtful, fit.refused
    windows, least, size = slate.windows, needs.least_size, needs.size
    roomy, tight = _parted(fit.sure, lambda n: windows[n] >= size)
    sure, doubtful, refused = roomy, [*fit.doubtful, *tight], [*fit.refused]
    if least > slate.least_window or output > slate.least_max_output:
        limits = slate.max_outputs
        sure, short = _parted(sure, lambda n: limits[n] >= output)
        doubtful, small = _parted(doubtful, lambda n: windows[n] >= least and limits[n] >= output)
        refused += [*short, *small]
    return sure, doubtful, refused


def _parted(numbers: Sequence[int], good: Callable[[int], bool]) -> tuple[list[int], list[int]]:
    return [n for n in numbers if good(n)], [n for n in numbers if not good(n)]


def _sorter(
    slate: Slate,
    goal: Goal,
    snapshot: HealthSnapshot,
    columns: Columns,
    steps: list[float],
    warm: Warm | None,
    random: Callable[[], float],
) -> Callable[[Sequence[int]], list[int]]:
    """What puts numbers in their order: stable sorts by single floats, several times as fast as by tuples."""
    if goal == "in-order":
        return sorted
    keys = _keys(slate, goal, snapshot, columns, random)
    if warm:
        steps = steps.copy()
        steps[slate.numbers[warm.key]] -= LOYALTY
    # Who is equal by the goal stands by its quality, and who is equal by that too, by its name.
    first, last = (keys, steps) if goal == "best_quality" else (steps, keys)
    return lambda numbers: sorted(sorted(numbers, key=first.__getitem__), key=last.__getitem__)


def _keys(
    slate: Slate, goal: Goal, snapshot: HealthSnapshot, columns: Columns, random: Callable[[], float]
) -> list[float]:
    """What to have little of."""
    c, floor = columns, FLOORS.get(goal, -inf)
    if goal == "usage-based":
        return [snapshot.of(key).load(snapshot.now) + _used_up(snapshot.left(key)) for key in slate.keys]
    if goal == "simple-shuffle":
        return [random() for _ in slate.keys]
    if goal == "balanced":
        return [
            (cost + rent + SECOND_PRICE * (seconds + NOTICING * (1 - quality)))
            / (quality if quality > LEAST_CHANCE else LEAST_CHANCE)
            + (0.0 if quality >= floor else _BELOW_FLOOR)
            for cost, rent, seconds, quality in zip(c.cost, c.rent, c.seconds, c.quality, strict=True)
        ]
    if goal in ("best_quality", "least-cost"):
        return [cost + _TIE * seconds for cost, seconds in zip(c.cost, c.seconds, strict=True)]
    return [
        seconds if quality >= floor else seconds + _BELOW_FLOOR
        for seconds, quality in zip(c.seconds, c.quality, strict=True)
    ]
