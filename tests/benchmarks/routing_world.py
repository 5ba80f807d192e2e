"""A small world of models with known truths, on a clock of its own, in which routing policies are replayed.

Everything is drawn from one seed. What happens when a request meets a model (its luck with speed and
failures, what is found out about the answer) depends on that pair alone, so that all policies meet the
same fate. Policies see what a router sees: ratings, list prices, how their own requests went.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from routing.candidate import Candidate
from routing.config import ModelCard, ProviderSpec
from routing.health import Key
from routing.learning import Outcome
from routing.needs import Needs
from routing.types import TaskClass

HOUR = 3600.0
HOURS = 6
HARD: frozenset[TaskClass] = frozenset({"tools", "long_context"})
"""Tasks at which models differ much: what a scarce strong allowance should be spent on."""
PREFILL = 4000.0
"""Prompt tokens a second that a model reads unless they are in its cache."""
CACHE_SECONDS = 300.0
DEAD_SECONDS = 1.0
"""How long it takes to find out that a model is down."""
LIMITED_SECONDS = 0.2
_ORDER: tuple[TaskClass, ...] = ("chat", "tools", "long_context", "structured")


@dataclass(frozen=True)
class Model:
    """What is true of one model. The router is told its rating and prices only."""

    name: str
    qualities: tuple[float, float, float, float]
    """The share of good answers at chat, tools, long context and structured requests."""
    rating: float | None
    ttft: float
    speed: float
    prices: tuple[float, float] = (0.0, 0.0)
    failing: float = 0.01
    allowance: int | None = None
    """Tokens an hour that are free; None = paid, or local."""
    outage: tuple[float, float] | None = None
    """Hours from and to which it is down."""
    window: int = 200_000

    @property
    def key(self) -> Key:
        return self.name, self.name

    def quality(self, task: TaskClass) -> float:
        return self.qualities[_ORDER.index(task)]

    def candidate(self) -> Candidate:
        local = self.prices == (0.0, 0.0) and self.allowance is None
        spec = ProviderSpec(name=self.name, base_url="https://x.example", tier="local" if local else "paid")
        card = ModelCard(
            id=self.name,
            quality=self.rating,
            context_window=self.window,
            tools=True,
            json_schema=True,
            input_price=self.prices[0],
            output_price=self.prices[1],
            free=True if self.allowance else None,
        )
        return Candidate(spec, card)


MODELS = (
    Model("titan", (0.95, 0.93, 0.92, 0.93), 0.92, 2.0, 60, (10, 50), outage=(2.0, 2.5)),
    Model("sonata", (0.92, 0.90, 0.86, 0.90), 0.88, 1.2, 80, (3, 15)),
    Model("lyre", (0.90, 0.80, 0.72, 0.80), 0.80, 0.8, 120, (1, 5)),
    Model("reed", (0.87, 0.68, 0.55, 0.70), 0.70, 0.5, 200, (0.2, 0.8)),
    Model("pipe", (0.78, 0.45, 0.35, 0.50), 0.55, 0.3, 300, (0.05, 0.2)),
    Model("boast", (0.85, 0.62, 0.60, 0.60), 0.90, 0.9, 100, (2, 10)),  # rated above its worth
    Model("modest", (0.91, 0.89, 0.84, 0.85), 0.72, 1.0, 110, (0.6, 2.5)),  # and below
    Model("unrated", (0.88, 0.78, 0.70, 0.75), None, 0.7, 130, (0.3, 1.2)),
    Model("gift", (0.92, 0.90, 0.85, 0.88), 0.87, 1.5, 70, allowance=900_000),
    Model("spare", (0.84, 0.60, 0.50, 0.60), 0.66, 0.6, 150, allowance=3_000_000),
    Model(
        "flash", (0.82, 0.58, 0.45, 0.55), 0.62, 0.25, 900, allowance=1_500_000, failing=0.1, outage=(4, 4.7)
    ),
    Model("local", (0.70, 0.35, 0.20, 0.40), 0.45, 0.8, 25, window=16_000),
)


MISJUDGED = 0.1
"""Standard deviation of what `misrated` does to a rating."""


def misrated(seed: int) -> tuple[Model, ...]:
    """The same models with ratings that tell less: the best one may well not be the best rated."""
    draw = random.Random(f"ratings {seed}")
    return tuple(
        replace(each, rating=each.rating and min(0.98, max(0.05, each.rating + draw.gauss(0, MISJUDGED))))
        for each in MODELS
    )


@dataclass(frozen=True)
class Work:
    """One request."""

    number: int
    at: float
    task: TaskClass
    thread: str
    needs: Needs
    answer: int
    """Tokens of the answer."""


def traffic(seed: int) -> list[Work]:
    """Six hours of chats, agent threads, long documents and structured requests, by time."""
    draw = random.Random(f"traffic {seed}")
    drafts: list[tuple[float, TaskClass, str, int, int]] = []
    for number in range(700):
        start = draw.uniform(0, HOURS * HOUR)
        kind = draw.choices(_ORDER, (50, 30, 8, 12))[0]
        drafts += [(at, kind, f"{kind}-{number}", *size) for at, size in _visits(draw, kind, start)]
    drafts.sort()
    return [
        Work(number, at, task, thread, _needs(task, prompt), answer)
        for number, (at, task, thread, prompt, answer) in enumerate(drafts)
    ]


def _visits(draw: random.Random, kind: TaskClass, start: float) -> Iterator[tuple[float, tuple[int, int]]]:
    """The moments and sizes of the requests of one thread."""
    if kind == "tools":
        prompt = draw.randint(2500, 5000)
        for step in range(draw.randint(4, 10)):
            yield start + step * 40, (prompt, draw.randint(80, 500))
            prompt += draw.randint(400, 4000)
    elif kind == "long_context":
        yield start, (draw.randint(45_000, 110_000), draw.randint(200, 900))
    else:
        yield start, (draw.randint(200, 2500), draw.randint(100, 700))


def _needs(task: TaskClass, prompt: int) -> Needs:
    return Needs(
        tools=task == "tools",
        json_schema=task == "structured",
        prompt_tokens=prompt,
        least_prompt_tokens=prompt // 3,
    )


@dataclass(frozen=True)
class Result:
    """What came of one attempt."""

    answered: bool
    seconds: float
    ttft: float = 0.0
    cached: int = 0
    """Prompt tokens that were in the cache, as the provider's usage tells."""
    cost: float = 0.0
    limited_for: float | None = None
    """Seconds, as a 429 names them; None = it was another fault."""
    allowance_left: tuple[float, float] | None = None
    """Share of the free allowance that is left, and when it is whole again."""
    outcomes: tuple[Outcome, ...] = ()


@dataclass
class World:
    """The models as one policy uses them up. `meet` is the only way to ask one."""

    seed: int
    models: tuple[Model, ...] = MODELS
    _used: dict[tuple[str, int], int] = field(default_factory=dict)
    _visits: dict[str, tuple[str, float, int]] = field(default_factory=dict)
    free_tokens: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    """Tokens of the strong allowance spent on hard tasks, and on others."""

    def model(self, name: str) -> Model:
        """By its name."""
        return next(model for model in self.models if model.name == name)

    def is_up(self, model: Model, now: float) -> bool:
        return not (model.outage and model.outage[0] * HOUR <= now < model.outage[1] * HOUR)

    def has_left(self, model: Model, now: float) -> bool:
        return model.allowance is None or self._used.get((model.name, int(now // HOUR)), 0) < model.allowance

    def expected_seconds(self, model: Model, work: Work, now: float) -> float:
        """The truth about how long an answer takes, luck apart."""
        fresh = work.needs.prompt_tokens - self._cached(model, work, now)
        return (model.ttft + fresh / PREFILL + work.answer / model.speed) / (1 - model.failing)

    def meet(self, model: Model, work: Work, now: float, attempt: int) -> Result:
        """Ask a model."""
        draw = random.Random(f"{self.seed} {work.number} {model.name} {attempt}")
        luck, fails, verified = math.exp(draw.gauss(0, 0.25)), draw.random(), draw.random()
        if not self.is_up(model, now):
            return Result(False, DEAD_SECONDS)
        if not self.has_left(model, now):
            return Result(False, LIMITED_SECONDS, limited_for=HOUR - now % HOUR)
        if fails < model.failing:
            return Result(False, DEAD_SECONDS * luck)
        cached = self._cached(model, work, now)
        ttft = (model.ttft + (work.needs.prompt_tokens - cached) / PREFILL) * luck
        seconds = ttft + work.answer / model.speed * luck
        self._visits[work.thread] = (model.name, now + seconds, work.needs.prompt_tokens)
        fresh = work.needs.prompt_tokens - 0.9 * cached
        cost = 0.0 if model.allowance else (fresh * model.prices[0] + work.answer * model.prices[1]) / 1e6
        outcomes = _found_out(draw, model.quality(work.task), work.task, verified)
        left = self._spend(model, work, now)
        return Result(True, seconds, ttft, cached, cost, allowance_left=left, outcomes=outcomes)

    def _cached(self, model: Model, work: Work, now: float) -> int:
        name, at, tokens = self._visits.get(work.thread, ("", 0.0, 0))
        return tokens if name == model.name and now - at < CACHE_SECONDS else 0

    def _spend(self, model: Model, work: Work, now: float) -> tuple[float, float] | None:
        if model.allowance is None:
            return None
        hour, tokens = int(now // HOUR), work.needs.prompt_tokens + work.answer
        used = self._used[model.name, hour] = self._used.get((model.name, hour), 0) + tokens
        if model.name == "gift":
            self.free_tokens[work.task in HARD] += tokens
        return max(0.0, 1 - used / model.allowance), (hour + 1) * HOUR


def _found_out(draw: random.Random, quality: float, task: TaskClass, verified: float) -> tuple[Outcome, ...]:
    """What an agent would notice: a hopeless model gets one call in five wrong; one step in five is a change
    of a file that the user keeps or discards. What becomes of a chat is seldom seen."""
    if task == "tools":
        valid = draw.random() < 1 - 0.2 * (1 - quality)
        kept = draw.random() < quality
        change: tuple[Outcome, ...] = ("change_kept" if kept else "change_discarded",)
        return ("tool_call_valid" if valid else "tool_call_invalid", *(change if verified < 0.2 else ()))
    if verified < 0.05:
        return ("change_kept" if draw.random() < quality else "change_discarded",)
    return ()
