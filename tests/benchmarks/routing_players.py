"""The policies that are replayed: the router's own decisions, what simpler gateways do, and oracles."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from routing.candidate import Candidate
from routing.config import RoutingConfig
from routing.errors import ProviderError, ProviderUnavailable, RateLimited
from routing.experience import Experience
from routing.exploration import explore
from routing.fallback import Course
from routing.health import SMOOTHING, WHOLE_ACCOUNT, Health
from routing.policy import FLOORS, Goal, Ranking, rank
from routing.retry_budget import RetryBudget
from routing.slate import Slate
from routing.types import Quality
from tests.benchmarks.routing_world import Model, Result, Work, World

MOST_ATTEMPTS = 8
CONFIG = RoutingConfig()
"""As the router is unless configured."""
PATIENCE = CONFIG.router.timeout


@dataclass(frozen=True)
class Served:
    """What came of one request."""

    model: Model | None
    """Who answered it."""
    seconds: float
    """Failed attempts included."""
    cost: float
    """US dollars."""


@dataclass
class Player:
    """One policy with what it has seen so far: the record is the same for all, the order is its own."""

    world: World
    health: Health = field(default_factory=Health)

    def order(self, work: Work) -> Sequence[Model]:
        """Whom to ask, best first."""
        raise NotImplementedError

    def serve(self, work: Work) -> Served:
        """Ask one after the other until there is an answer."""
        now = work.at
        for attempt, model in enumerate(self.order(work)[:MOST_ATTEMPTS]):
            result = self.world.meet(model, work, now, attempt)
            now += result.seconds
            if result.answered:
                self.answered(work, model, result, now)
                return Served(model, now - work.at, result.cost)
            self.failed(model, result, now)
            if now - work.at >= PATIENCE:
                break
        return Served(None, now - work.at, 0.0)

    def answered(self, work: Work, model: Model, result: Result, now: float) -> None:
        """What every router notices of an answer."""
        self.health.answered(model.key, now)
        prompt = work.needs.prompt_tokens - result.cached
        self.health.measured(
            model.key, now, ttft=result.ttft, latency=result.seconds, tokens=work.answer, prompt=prompt
        )

    def failed(self, model: Model, result: Result, now: float) -> None:
        """And of a fault."""
        if result.limited_for is not None:
            self.health.limited(model.key, now, result.limited_for)
        else:
            self.health.faulted(model.key, now)
            self.health.gave_up(model.key, now, seconds=result.seconds)

    def ready(self, models: Iterable[Model], work: Work) -> list[Model]:
        """Those that fit and do not cool down."""
        snapshot = self.health.snapshot(work.at)
        fits = [model for model in models if work.needs.prompt_tokens < model.window]
        return [model for model in fits if not snapshot.block(model.key)]


@dataclass
class Ours(Player):
    """The router without its network: every decision is made by the functions that it uses itself."""

    goal: Goal = "balanced"
    draw: random.Random = field(default_factory=lambda: random.Random(7))

    def __post_init__(self) -> None:
        self.slate = Slate(model.candidate() for model in self.world.models)
        self.budget = RetryBudget()
        self.now = 0.0
        self.experience = Experience(self.health, None, lambda: self.now, lambda spec: True)

    def serve(self, work: Work) -> Served:
        """As `ModelRouter` does."""
        self.now, deadline = work.at, work.at + PATIENCE
        self.budget.request(work.at)
        course = Course(
            self._candidates(self._ranking(work)),
            work.needs,
            CONFIG,
            in_order=False,
            deadline=deadline,
            budget=self.budget,
            random=self.draw.random,
        )
        for attempt in itertools.count():
            candidate = course.next() if self.now < deadline else None
            if candidate is None:
                break
            model = self.world.model(candidate.card.id)
            result = self.world.meet(model, work, self.now, attempt)
            self.now += result.seconds
            if result.answered:
                self.answered(work, model, result, self.now)
                return Served(model, self.now - work.at, result.cost)
            error = _error(model, result)
            pause = course.fail(candidate, error, self.now)
            self.experience.failed(
                candidate, error, gave_up=pause is None, cooling=0.0, seconds=result.seconds
            )
            self.now += pause or 0.0
        return Served(None, self.now - work.at, 0.0)

    def answered(self, work: Work, model: Model, result: Result, now: float) -> None:
        super().answered(work, model, result, now)
        if result.allowance_left:
            left, until = result.allowance_left
            self.health.allowed((model.name, WHOLE_ACCOUNT), now, left, until - now)
        self.experience.affinity.visited(work.thread, model.key, work.needs.prompt_tokens, now)
        for outcome in result.outcomes:
            self.experience.learning.report(model.key, work.task, outcome)

    def _ranking(self, work: Work) -> Ranking:
        return rank(
            self.slate,
            self.goal,
            self.health.snapshot(self.now),
            work.needs,
            beliefs=self.experience.learning.beliefs,
            warm=self.experience.affinity.warm(work.thread, self.now),
        )

    def _candidates(self, ranking: Ranking) -> list[Candidate]:
        candidates = ranking.candidates
        other = explore(ranking, CONFIG.router.exploration, self.draw.random)
        if other is not None:
            candidates.sort(key=lambda each: each is not self.slate.candidates[other])
        return candidates


def _error(model: Model, result: Result) -> ProviderError:
    if result.limited_for is not None:
        return RateLimited(model.name, "too many requests", retry_after=result.limited_for)
    return ProviderUnavailable(model.name, "down", 503)


@dataclass
class Shuffled(Player):
    """Any model that is ready, by lot."""

    draw: random.Random = field(default_factory=lambda: random.Random(7))

    def order(self, work: Work) -> Sequence[Model]:
        models = self.ready(self.world.models, work)
        return self.draw.sample(models, len(models))


@dataclass
class RoundRobin(Player):
    """Each in its turn."""

    turns: itertools.count[int] = field(default_factory=itertools.count)

    def order(self, work: Work) -> Sequence[Model]:
        models = self.world.models
        start = next(self.turns) % len(models)
        return self.ready(models[start:] + models[:start], work)


@dataclass
class StaticPriority(Player):
    """By rating, whatever happens."""

    def order(self, work: Work) -> Sequence[Model]:
        return self.ready(sorted(self.world.models, key=_rating, reverse=True), work)


@dataclass
class LatencyBased(Player):
    """By the average time of the last answers, as gateways do it; who was never asked comes first."""

    times: dict[str, float] = field(default_factory=dict)

    def order(self, work: Work) -> Sequence[Model]:
        models = self.ready(self.world.models, work)
        return sorted(models, key=lambda model: self.times.get(model.name, 0.0))

    def answered(self, work: Work, model: Model, result: Result, now: float) -> None:
        super().answered(work, model, result, now)
        before = self.times.get(model.name, result.seconds)
        self.times[model.name] = before + SMOOTHING * (result.seconds - before)


@dataclass
class Single(Player):
    """One model, asked again when it fails, and no other."""

    worth: Callable[[Model], float] = lambda model: sum(model.qualities)
    """Whose is the highest is the one; by the truth, unless told otherwise."""

    def order(self, work: Work) -> Sequence[Model]:
        return [max(self.world.models, key=self.worth)] * (1 + CONFIG.router.num_retries)


@dataclass
class Oracle(Player):
    """Knows who is up, what is left, and every true speed and quality; only luck is hidden from it.

    So after a failure it asks the same again, which is still the best.
    """

    goal: Quality = "fastest"

    def order(self, work: Work) -> Sequence[Model]:
        able = [
            model
            for model in self.world.models
            if work.needs.prompt_tokens < model.window
            and self.world.is_up(model, work.at)
            and self.world.has_left(model, work.at)
        ]
        if self.goal == "best_quality":
            able.sort(key=lambda model: -model.quality(work.task))
        else:
            able = [model for model in able if model.quality(work.task) >= FLOORS["fastest"]]
            able.sort(key=lambda model: self.world.expected_seconds(model, work, work.at))
        return [model for model in able for _ in range(1 + CONFIG.router.num_retries)]


def _rating(model: Model) -> float:
    return model.rating or 0.0


OURS: dict[str, Callable[[World], Player]] = {
    "`fastest`": lambda world: Ours(world, goal="fastest"),
    "`balanced`": lambda world: Ours(world, goal="balanced"),
    "`best_quality`": lambda world: Ours(world, goal="best_quality"),
}
OTHERS: dict[str, Callable[[World], Player]] = {
    "random": Shuffled,
    "round-robin": RoundRobin,
    "static priority": StaticPriority,
    "latency-based": LatencyBased,
    "best rated single": lambda world: Single(world, worth=_rating),
    "best single": Single,
}
ORACLES: dict[str, Callable[[World], Player]] = {
    "oracle, fastest": lambda world: Oracle(world, goal="fastest"),
    "oracle, quality": lambda world: Oracle(world, goal="best_quality"),
}
