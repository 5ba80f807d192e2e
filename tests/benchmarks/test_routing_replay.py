"""Our three qualities beside simpler policies, the best single model and oracles, in seeded worlds.

Those that fall back go on to their next candidate after a failure and leave alone what cools down, by one
`Health`; `best single` knows no other model and asks again. It is the best in truth, which nobody knows
beforehand; `best rated single` is what a person would choose. `python -m pytest -s` shows the tables.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

from routing.candidate import Candidate
from routing.config import ModelCard, ProviderSpec
from routing.health import Health
from routing.needs import Needs
from routing.policy import rank
from routing.slate import Slate
from tests.benchmarks.routing_players import ORACLES, OTHERS, OURS, Ours, Player
from tests.benchmarks.routing_world import HARD, HOUR, MODELS, Model, Work, World, misrated, traffic

SEEDS = tuple(range(1, 11))
_T95 = 2.262
"""Student's t for 95 % with as many seeds."""
NEGLIGIBLE = 0.0005
"""Quality: what the table does not show. The end of an outage is not known the moment it comes."""


@dataclass(frozen=True)
class Row:
    """How a policy did with one seed."""

    success: float
    quality: float
    """Mean true quality of the answers; none counts as 0."""
    in_outage: float
    """The same while the best model was down."""
    otherwise: float
    """And while it was up."""
    median: float
    p95: float
    """Seconds, failed attempts included."""
    money: float
    """US dollars."""
    well_spent: float
    """Share of the strong free allowance's tokens that went into hard tasks."""

    def goods(self) -> tuple[float, ...]:
        """What one wants much of."""
        return self.success, self.quality, -self.p95, -self.money, self.well_spent


Rows = dict[str, list[Row]]
"""A row for each seed, by policy."""
COLUMNS: Mapping[str, str] = {
    "answered": ".2%",
    "quality": ".3f",
    "in outage": ".3f",
    "else": ".3f",
    "median, s": ".2f",
    "p95, s": ".1f",
    "money, $": ".2f",
    "well spent": ".0%",
}


def replay(player: Player, works: Sequence[Work]) -> Row:
    """All of the works by that policy."""
    outage = player.world.model("titan").outage or (0.0, 0.0)
    dark = [outage[0] * HOUR <= work.at < outage[1] * HOUR for work in works]
    served = [player.serve(work) for work in works]
    qualities = [
        0.0 if each.model is None else each.model.quality(work.task)
        for each, work in zip(served, works, strict=True)
    ]
    seconds = [each.seconds for each in served]
    spent = player.world.free_tokens
    return Row(
        success=statistics.mean(each.model is not None for each in served),
        quality=statistics.mean(qualities),
        in_outage=statistics.mean(quality for quality, down in zip(qualities, dark, strict=True) if down),
        otherwise=statistics.mean(quality for quality, down in zip(qualities, dark, strict=True) if not down),
        median=statistics.median(seconds),
        p95=statistics.quantiles(seconds, n=20)[-1],
        money=sum(each.cost for each in served),
        well_spent=spent[True] / max(1, spent[True] + spent[False]),
    )


def replay_all(
    policies: Mapping[str, Callable[[World], Player]],
    models: Callable[[int], tuple[Model, ...]] = lambda seed: MODELS,
) -> Rows:
    """Each policy with each seed; a seed brings all of them the same requests and the same luck."""
    works = {seed: traffic(seed) for seed in SEEDS}
    return {
        name: [replay(make(World(seed, models(seed))), works[seed]) for seed in SEEDS]
        for name, make in policies.items()
    }


def margin(values: Sequence[float]) -> tuple[float, float]:
    """Mean of a value over the seeds, and half its 95 % confidence interval."""
    return statistics.mean(values), _T95 * statistics.stdev(values) / len(values) ** 0.5


def lead(rows: Rows, name: str, other: str, value: Callable[[Row], float]) -> tuple[float, float]:
    """How much more a policy has of something than another with the same seed, and the margin."""
    return margin([value(a) - value(b) for a, b in zip(rows[name], rows[other], strict=True)])


def dominates(rows: Rows, name: str, other: str) -> bool:
    """Whether a policy is on average nowhere worse, and somewhere better."""
    a, b = (
        [statistics.mean(each) for each in zip(*(r.goods() for r in rows[n]), strict=True)]
        for n in (name, other)
    )
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def show(title: str, rows: Rows) -> None:
    """A Markdown table of the means."""
    sys.stderr.write(f"\n\n{title}, mean of seeds {SEEDS[0]} to {SEEDS[-1]}\n\n")
    sys.stderr.write(f"| policy | {' | '.join(COLUMNS)} |\n|---|{'--:|' * len(COLUMNS)}\n")
    for name, each in rows.items():
        means = map(statistics.mean, zip(*map(astuple, each), strict=True))
        cells = (format(mean, form) for mean, form in zip(means, COLUMNS.values(), strict=True))
        sys.stderr.write(f"| {name} | {' | '.join(cells)} |\n")


def tell(what: str, value: tuple[float, float]) -> None:
    sys.stderr.write(f"\n{what}: {value[0]:+.4f} ± {value[1]:.4f} (95 %)\n")


def test_ours_beside_others_and_oracles() -> None:
    rows = replay_all(OURS | OTHERS | ORACLES)
    show("Ratings about right", rows)
    ratio = margin(
        [a.median / b.median for a, b in zip(rows["`fastest`"], rows["oracle, fastest"], strict=True)]
    )
    tell("median time of `fastest` / the oracle's", ratio)
    up = lead(rows, "`best_quality`", "best single", lambda row: row.otherwise)
    tell("quality of `best_quality` less best single's, while that is up", up)
    tell("in its outage", lead(rows, "`best_quality`", "best single", lambda row: row.in_outage))
    tell("and in all", lead(rows, "`best_quality`", "best single", lambda row: row.quality))
    assert {work.task for work in traffic(SEEDS[0])} > HARD
    assert ratio[0] + ratio[1] <= 1.1
    assert up[0] - up[1] > -NEGLIGIBLE
    for ours, single in zip(rows["`best_quality`"], rows["best single"], strict=True):
        assert ours.quality > single.quality and ours.in_outage > single.in_outage
    assert not [name for name in rows.keys() - ORACLES if dominates(rows, name, "`balanced`")]


def test_ratings_that_mislead_are_found_out() -> None:
    names = ("`balanced`", "`best_quality`")
    singles = ("best rated single", "best single")
    policies = {name: OURS[name] for name in names} | {
        name: OTHERS[name] for name in (*singles, "static priority")
    }
    rows = replay_all(policies, misrated)
    show("Ratings off by 0.1 (standard deviation)", rows)
    best_rated = lead(rows, "`best_quality`", "best rated single", lambda row: row.otherwise)
    tell("quality of `best_quality` less best rated single's, while the best is up", best_rated)
    assert best_rated[0] > 0
    assert lead(rows, "`best_quality`", "static priority", lambda row: row.quality)[0] > 0


def test_a_replay_is_the_same_each_time() -> None:
    works = traffic(1)[:800]
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
