"""A table of all kills at the end of a run of the tests, when somebody wants to know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.e2e.verdict import Verdict


@dataclass(repr=False)
class Report:
    """What the crash tests found."""

    points: dict[str, Sequence[Verdict]] = field(default_factory=dict)
    """For each point the verdict on each occurrence, in order."""
    random: dict[str, tuple[int, Sequence[Verdict]]] = field(default_factory=dict)
    """For each kind of random kills the seed and the verdicts."""

    def lines(self) -> list[str]:
        """The table."""
        return [
            *(
                _line(point, verdicts, " ".join(map(_mark, verdicts)))
                for point, verdicts in self.points.items()
            ),
            *(
                _line(kind, verdicts, _summary(seed, verdicts))
                for kind, (seed, verdicts) in self.random.items()
            ),
        ]


_REPORT = pytest.StashKey[Report]()


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """Where tests leave what is to be shown at the end."""
    return pytestconfig.stash.setdefault(_REPORT, Report())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    wanted = os.environ.get("SOAK") or config.option.verbose > 0 or config.option.capture == "no"
    found = config.stash.get(_REPORT, None)
    if wanted and found is not None:
        terminalreporter.section("kill -9: point, how often it is passed, how each kill there ended")
        for line in found.lines():
            terminalreporter.write_line(line)


def _line(what: str, verdicts: Sequence[Verdict], outcome: str) -> str:
    return f"{what:<18}{len(verdicts):>4}  {outcome}"


def _mark(verdict: Verdict) -> str:
    return "FAILED" if verdict.problems else "ok"


def _summary(seed: int, verdicts: Sequence[Verdict]) -> str:
    held = sum(not each.problems for each in verdicts)
    deaths = sum(each.deaths for each in verdicts)
    worst = max((each.seconds for each in verdicts), default=0.0)
    return f"all held in {held}; {deaths} kills, the longest way back {worst:.2f} s; CRASH_SEED={seed}"
