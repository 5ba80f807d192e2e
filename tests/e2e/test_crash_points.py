"""`kill -9` at any moment loses nothing and repeats nothing: at each point the product names, and at random.

SOAK=1 kills at 500 random moments instead of 20, and as often beside a second service on PostgreSQL.
CRASH_SEED=<number> repeats what a run printed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crashes import EDITED, MADE, SECTIONS, Case, Intrusion, next_step
from tests.e2e.deployment import Deployment
from tests.e2e.kills import Report
from tests.e2e.mortal import Fault, count
from tests.e2e.verdict import Verdict, judge
from tests.upstream import ScriptedUpstream

RANDOM_KILLS, RANDOM_KILLS_OF_TWO = (500, 500) if os.environ.get("SOAK") else (20, 6)
SEED = int(os.environ.get("CRASH_SEED") or time.time())
POINTS = (
    "run.claimed",
    "model.asked",
    "model.answered",
    "writes.stored",
    "checkpoint.stored",
    "effect.intended",
    "file.prepared",
    "file.swapped",
    "effect.done",
    "run.settled",
)


class World:
    """A service to be killed, in which each case is a thread more."""

    def __init__(self, home: Path, upstream: ScriptedUpstream, deployment: Deployment) -> None:
        self._home, self._upstream, self._deployment = home, upstream, deployment
        self._cases = 0
        verdicts = [judge(self.case()) for _ in range(3)]  # the first run of a process is slower than others
        self.unharmed = next((each for each in verdicts if each.problems), min(verdicts, key=_seconds))
        """The same work without a kill."""

    def case(self, *, kills: Iterable[float] = (), intrusion: Intrusion | None = None) -> Case:
        self._cases += 1
        project = self._home / f"case-{self._cases:04}"
        return Case(self._deployment, self._upstream, project, kills=kills, intrusion=intrusion)

    def kill_at_random(self, times: int, chance: random.Random) -> list[Verdict]:
        """The work so many times, each killed at a moment spread over the time that it takes."""
        verdicts = []
        for _ in range(times):
            # Now and then once more, while the service starts and takes up again what it left.
            kills = [chance.uniform(0, self.unharmed.seconds) for _ in range(chance.choice((1, 1, 2)))]
            verdicts.append(judge(self.case(kills=kills)))
        return verdicts


@contextmanager
def running(home: Path, **deployment: Any) -> Iterator[World]:
    """A world below `home`; `deployment` says on how many replicas, and on which database."""
    with (
        ScriptedUpstream(otherwise=next_step) as upstream,
        Deployment(home, upstream, **SECTIONS, **deployment) as deployed,
    ):
        yield World(home, upstream, deployed)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("crashes")) as one:
        yield one


def test_without_a_kill_every_point_is_passed(world: World) -> None:
    assert world.unharmed.problems == ()
    assert {each.split(" ", 1)[0] for each in world.unharmed.passed} == set(POINTS)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(world: World, report: Report, point: str) -> None:
    occurrences = range(1, count(world.unharmed.passed, point) + 1)
    verdicts = [judge(world.case(), Fault(point, number)) for number in occurrences]
    report.points[point] = verdicts
    assert problems(verdicts) == []


@pytest.mark.parametrize(
    ("fault", "intrusion"),
    [
        (Fault("run.settled", 2), Intrusion(EDITED, b"log\n- mine\n", refused="edit_1")),
        (Fault("effect.intended", 1), Intrusion(EDITED, b"log\n- mine\n", refused="edit_1")),
        (Fault("file.prepared", 1), Intrusion(EDITED, b"log\n- mine\n", refused="edit_1")),
        (Fault("file.swapped", 1), Intrusion(EDITED, b"log\n- Orion\n- mine\n", refused="edit_1")),
        (Fault("file.prepared", 2), Intrusion(MADE, b"mine\n", refused="write_1")),
        (Fault("file.swapped", 2), Intrusion(MADE, b"mine\n", refused="write_1")),
    ],
    ids=lambda value: f"{value.point}-{value.occurrence}" if isinstance(value, Fault) else value.path,
)
def test_what_the_user_wrote_meanwhile_stands(world: World, fault: Fault, intrusion: Intrusion) -> None:
    assert judge(world.case(intrusion=intrusion), fault).problems == ()


@pytest.mark.parametrize(("number", "path", "call_id"), [(1, EDITED, "edit_1"), (2, MADE, "write_1")])
def test_what_the_user_wrote_stands_when_it_dies_again_over_that(
    world: World, number: int, path: str, call_id: str
) -> None:
    intrusion = Intrusion(path, b"log\n- mine\n", refused=call_id)
    giving_up = Fault(f"effect.done {call_id}", 1)
    assert judge(world.case(intrusion=intrusion), Fault("file.prepared", number), giving_up).problems == ()


def test_killed_at_random_moments(world: World, report: Report) -> None:
    print(f"CRASH_SEED={SEED}")
    verdicts = world.kill_at_random(RANDOM_KILLS, random.Random(SEED))
    report.random["at random"] = (SEED, verdicts)
    assert problems(verdicts) == []


def test_killed_at_random_moments_beside_another_replica(
    tmp_path: Path, postgresql_url: str, report: Report
) -> None:
    print(f"CRASH_SEED={SEED}")
    with running(tmp_path, replicas=2, database_url=postgresql_url) as world:
        verdicts = world.kill_at_random(RANDOM_KILLS_OF_TWO, random.Random(SEED))
    report.random["of two replicas"] = (SEED, verdicts)
    assert problems(verdicts) == []


def problems(verdicts: Sequence[Verdict]) -> list[tuple[int, tuple[str, ...]]]:
    """What went wrong, by the case's number from 1."""
    return [(number, each.problems) for number, each in enumerate(verdicts, 1) if each.problems]


def _seconds(verdict: Verdict) -> float:
    return verdict.seconds
