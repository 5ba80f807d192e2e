"""Our three qualities beside simpler policies, the best single model and an oracle, in a seeded world.

All policies go on to their next candidate after a failure and leave alone what cools down, by the same
`Health`; only `best single` knows no other model and asks again. `python -m pytest -s` shows the table.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from routing.affinity import Affinity
from routing.candidate import Candidate
from routing.config import ModelCard, ProviderSpec
from routing.exploration import explore
from routing.health import WHOLE_ACCOUNT, Health
from routing.learning import Learning
from routing.needs import Needs
from routing.policy import FLOORS, Goal, rank
from routing.slate import Slate
from routing.types import Quality
from tests.benchmarks.routing_world import HARD, HOUR, MODELS, Model, Result, Work, World, traffic

SEEDS = (1, 2, 3)
EXPLORATION = 0.03
"""As `router.exploration` is unless configured."""
PATIENCE = 120.0
"""Seconds for all attempts together, as `router.timeout`."""
MOST_ATTEMPTS = 8
BY_NAME = {model.name: model for model in MODELS}


@dataclass
class Player:
    """One policy with what it has seen so far: the record is the same for all, the order is its own."""

    world: World
    health: Health = field(default_factory=Health)
    slate: Slate = field(default_factory=lambda: Slate(model.candidate() for model in MODELS))

    def order(self, work: Work, now: float) -> Sequence[Model]:
        raise NotImplementedError

    def noted(self, work: Work, model: Model, result: Result, now: float) -> None:
        """What every router notices."""
        if result.answered:
            self.health.answered(model.key, now)
            prompt = work.needs.prompt_tokens - result.cached
            self.health.measured(
                model.key, now, ttft=result.ttft, latency=result.seconds, tokens=work.answer, prompt=prompt
            )
        elif result.limited_for is not None:
            self.health.limited(model.key, now, result.limited_for)
        else:
            self.health.faulted(model.key, now)
            self.health.gave_up(model.key, now)

    def ready(self, models: Iterable[Model], work: Work, now: float) -> list[Model]:
        snapshot = self.health.snapshot(now)
        fits = [model for model in models if work.needs.prompt_tokens < model.window]
        return [model for model in fits if not snapshot.block(model.key)]


@dataclass
class Ours(Player):
    """The router's own decisions, by the functions it uses itself."""

    goal: Goal = "balanced"
    learning: Learning = field(default_factory=Learning)
    affinity: Affinity = field(default_factory=Affinity)
    draw: random.Random = field(default_factory=lambda: random.Random(7))

    def order(self, work: Work, now: float) -> Sequence[Model]:
        ranking = rank(
            self.slate,
            self.goal,
            self.health.snapshot(now),
            work.needs,
            beliefs=self.learning.beliefs,
            warm=self.affinity.warm(work.thread, now),
        )
        models = [BY_NAME[each.card.id] for each in ranking.candidates]
        other = explore(ranking, EXPLORATION, self.draw.random)
        if other is None:
            return models
        first = BY_NAME[self.slate.keys[other][1]]
        return [first, *(model for model in models if model is not first)]

    def noted(self, work: Work, model: Model, result: Result, now: float) -> None:
        super().noted(work, model, result, now)
        if result.allowance_left:
            self.health.allowed((model.name, WHOLE_ACCOUNT), *result.allowance_left)
        if result.answered:
            self.affinity.visited(work.thread, model.key, work.needs.prompt_tokens, now)
        for outcome in result.outcomes:
            self.learning.report(model.key, work.task, outcome)


@dataclass
class Shuffled(Player):
    """Any model that is ready, by lot."""

    draw: random.Random = field(default_factory=lambda: random.Random(7))

    def order(self, work: Work, now: float) -> Sequence[Model]:
        models = self.ready(MODELS, work, now)
        return self.draw.sample(models, len(models))


@dataclass
class RoundRobin(Player):
    """Each in its turn."""

    turns: itertools.count[int] = field(default_factory=itertools.count)

    def order(self, work: Work, now: float) -> Sequence[Model]:
        start = next(self.turns) % len(MODELS)
        return self.ready(MODELS[start:] + MODELS[:start], work, now)


@dataclass
class StaticPriority(Player):
    """By rating, whatever happens."""

    def order(self, work: Work, now: float) -> Sequence[Model]:
        return self.ready(sorted(MODELS, key=lambda model: -(model.rating or 0)), work, now)


@dataclass
class LatencyBased(Player):
    """By the average time of the last answers, as gateways do it; who was never asked comes first."""

    def order(self, work: Work, now: float) -> Sequence[Model]:
        snapshot = self.health.snapshot(now)
        return sorted(self.ready(MODELS, work, now), key=lambda model: snapshot.of(model.key).latency or 0.0)


@dataclass
class BestSingle(Player):
    """The model that is the best in truth, and no other."""

    def order(self, work: Work, now: float) -> Sequence[Model]:
        best = max(MODELS, key=lambda model: sum(model.qualities))
        return [best] * 4


@dataclass
class Oracle(Player):
    """Knows who is up, what is left, and every true speed and quality; only luck is hidden from it."""

    goal: Quality = "fastest"

    def order(self, work: Work, now: float) -> Sequence[Model]:
        able = [
            model
            for model in MODELS
            if work.needs.prompt_tokens < model.window
            and self.world.is_up(model, now)
            and self.world.has_left(model, now)
        ]
        if self.goal == "best_quality":
            return sorted(able, key=lambda model: -model.quality(work.task))
        able = [model for model in able if model.quality(work.task) >= FLOORS["fastest"]]
        return sorted(able, key=lambda model: self.world.expected_seconds(model, work, now))


@dataclass(frozen=True)
class Row:
    """How a policy did."""

    success: float
    quality: float
    """Mean true quality of the answers; none counts as 0."""
    median: float
    p95: float
    """Seconds, failed attempts included."""
    money: float
    """US dollars."""
    well_spent: float
    """Share of the strong free allowance's tokens that went into hard tasks."""
    in_outage: float
    """Mean quality while the best model was down."""
    otherwise: float
    """Mean quality while it was up."""

    def dominates(self, other: Row) -> bool:
        """Whether it is nowhere worse, and somewhere better."""
        mine, others = self._goods(), other._goods()
        return mine != others and all(a >= b for a, b in zip(mine, others, strict=True))

    def _goods(self) -> tuple[float, ...]:
        return self.success, self.quality, -self.p95, -self.money, self.well_spent


def replay(player: Player, works: Sequence[Work]) -> Row:
    """All of the works by that policy."""
    money = 0.0
    qualities: list[float] = []
    seconds: list[float] = []
    dark: list[float] = []
    light: list[float] = []
    outage = BY_NAME["titan"].outage or (0.0, 0.0)
    for work in works:
        quality, took, cost = _serve(player, work)
        qualities.append(quality)
        seconds.append(took)
        money += cost
        (dark if outage[0] * HOUR <= work.at < outage[1] * HOUR else light).append(quality)
    spent = player.world.free_tokens
    return Row(
        success=statistics.mean(quality > 0 for quality in qualities),
        quality=statistics.mean(qualities),
        median=statistics.median(seconds),
        p95=statistics.quantiles(seconds, n=20)[-1],
        money=money,
        well_spent=spent[True] / max(1, spent[True] + spent[False]),
        in_outage=statistics.mean(dark or [0.0]),
        otherwise=statistics.mean(light),
    )


def _serve(player: Player, work: Work) -> tuple[float, float, float]:
    """Quality (0 = no answer), seconds and dollars of one request."""
    passed = 0.0
    for attempt, model in enumerate(player.order(work, work.at)[:MOST_ATTEMPTS]):
        now = work.at + passed
        result = player.world.meet(model, work, now, attempt)
        passed += result.seconds
        player.noted(work, model, result, now + result.seconds)
        if result.answered:
            return model.quality(work.task), passed, result.cost
        if passed >= PATIENCE:
            break
    return 0.0, passed, 0.0


POLICIES: dict[str, Callable[[World], Player]] = {
    "fastest": lambda world: Ours(world, goal="fastest"),
    "balanced": lambda world: Ours(world, goal="balanced"),
    "best_quality": lambda world: Ours(world, goal="best_quality"),
    "random": Shuffled,
    "round-robin": RoundRobin,
    "static priority": StaticPriority,
    "latency-based": LatencyBased,
    "best single": BestSingle,
    "oracle, fastest": lambda world: Oracle(world, goal="fastest"),
    "oracle, quality": lambda world: Oracle(world, goal="best_quality"),
}
ORACLES = {"oracle, fastest", "oracle, quality"}


def show(seed: int, requests: int, rows: dict[str, Row]) -> None:
    columns = "answered  quality (outage)  (else)   median      p95      money  well spent"
    sys.stderr.write(f"\n{f'seed {seed}, {requests} requests':27}{columns}\n")
    for name, row in rows.items():
        sys.stderr.write(
            f"{name:26} {row.success:8.2%} {row.quality:8.3f} {row.in_outage:8.3f} {row.otherwise:7.3f} "
            f"{row.median:6.2f} s {row.p95:6.2f} s {row.money:8.2f} $ {row.well_spent:10.0%}\n"
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_ours_beside_others_and_an_oracle(seed: int) -> None:
    works = traffic(seed)
    rows = {name: replay(make(World(seed)), works) for name, make in POLICIES.items()}
    show(seed, len(works), rows)
    assert {work.task for work in works} > HARD
    assert rows["fastest"].median <= 1.1 * rows["oracle, fastest"].median
    assert rows["best_quality"].quality >= rows["best single"].quality
    assert rows["best_quality"].in_outage > rows["best single"].in_outage
    balanced = rows["balanced"]
    assert [name for name in rows.keys() - ORACLES if rows[name].dominates(balanced)] == []


def test_a_replay_is_the_same_each_time() -> None:
    works = traffic(1)[:400]
    once, again = (replay(Ours(World(1), goal="balanced"), works) for _ in range(2))
    assert once == again


def test_choosing_costs_in_proportion_to_the_candidates() -> None:
    few, many = _choosing(20), _choosing(200)
    sys.stderr.write(f"\nchoosing among 20: {few * 1e6:.0f} us, among 200: {many * 1e6:.0f} us\n")
    assert many < 12 * few


def _choosing(models: int) -> float:
    """Seconds for one choice, at best, when every model was measured and one has just answered."""
    draw, health = random.Random(models), Health()
    slate = Slate(_any_model(draw, number) for number in range(models))
    for key in slate.keys:
        health.measured(key, 1.0, ttft=draw.random(), latency=2.0, tokens=200)
    needs = Needs(tools=True, prompt_tokens=9000, least_prompt_tokens=3000)
    taken = []
    for turn in range(300):
        health.measured(slate.keys[turn % models], 1.0, ttft=draw.random(), latency=2.0, tokens=200)
        start = time.perf_counter()
        assert rank(slate, "balanced", health.snapshot(2.0), needs).candidates
        taken.append(time.perf_counter() - start)
    return min(taken)


def _any_model(draw: random.Random, number: int) -> Candidate:
    spec = ProviderSpec(name=f"p{number % 20}", base_url="https://x.example")
    card = ModelCard(
        id=f"m{number}",
        quality=draw.random(),
        context_window=draw.choice([8_000, 128_000, 1_000_000]),
        tools=True,
        input_price=5 * draw.random(),
        output_price=20 * draw.random(),
    )
    return Candidate(spec, card)
