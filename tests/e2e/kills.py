"""A table of all kills, at the end of a run of the tests: of several processes one prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
_PARTS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """Where tests leave what is to be shown at the end."""
    return pytestconfig.stash.setdefault(_REPORT, Report())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several test processes hands its part of the table to the one that prints."""
    report = session.config.stash.get(_REPORT, None)
    if report is not None and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["kills"] = report.lines()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take such a part."""
    node.config.stash.setdefault(_PARTS, []).extend(getattr(node, "workeroutput", {}).get("kills", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    own = config.stash.get(_REPORT, None)
    lines = [*config.stash.get(_PARTS, ()), *(own.lines() if own else ())]
    if lines:
        terminalreporter.section("kill -9: point, how often it is passed, how each kill there ended")
        for line in lines:
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
