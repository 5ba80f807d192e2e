"""What clients of several gateways get when a model server fails and another is healthy, side by side.

`make bench args="-k fault_matrix"` prints the table. A cell in bold is wrong: half an answer, or an error
where the healthy server could have answered.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.benchmarks import gateway_peers
from tests.benchmarks.gateway_peers import Recipe
from tests.benchmarks.gateway_process import GatewayProcess
from tests.faults import BACKUP, FAULTS, Fault, Verdict, verdict_on
from tests.upstream import ScriptedUpstream, says

RECIPES: Mapping[str, Recipe] = {
    "agent-service": gateway_peers.ours,
    "LiteLLM 1.109.1": gateway_peers.litellm,
    "Portkey 1.15.2": gateway_peers.portkey,
}
OURS = next(iter(RECIPES))
COOL_DOWN = 1.5
"""Seconds after a fault until the peers, as they are configured, ask the first server again."""
NOT_ASKED = "not asked"


def test_fault_matrix(tmp_path: Path) -> None:
    table: dict[str, dict[str, str]] = {}
    for number, (name, recipe) in enumerate(RECIPES.items()):
        try:
            table[name] = _column(recipe, tmp_path / str(number))
        except pytest.skip.Exception as reason:
            sys.stderr.write(f"without {name}: {reason}\n")
    sys.stderr.write(f"\n{_markdown(table)}\n")
    assert table[OURS] == {name: fault.right for name, fault in FAULTS.items()}


def _column(recipe: Recipe, home: Path) -> dict[str, str]:
    """What each fault leads to. A gateway that remembers that a server refused it is started anew."""
    home.mkdir()
    found: dict[str, str] = {}
    with ExitStack() as stack:
        failing = stack.enter_context(ScriptedUpstream(otherwise=says(BACKUP), models=("mock",)))
        backup = stack.enter_context(ScriptedUpstream(otherwise=says(BACKUP), models=("mock",)))

        def start() -> GatewayProcess:
            folder = home / str(len(list(home.iterdir())))
            process = GatewayProcess(recipe, folder, failing.base_url, backup.base_url)
            return stack.enter_context(process)

        gateway = start()
        for name, fault in FAULTS.items():
            cell = _cell(gateway, failing, fault)
            if cell == NOT_ASKED:
                gateway.end()
                gateway = start()
                cell = _cell(gateway, failing, fault)
            found[name] = cell
    return found


def _cell(gateway: GatewayProcess, failing: ScriptedUpstream, fault: Fault) -> str:
    where = gateway.gateway.url, gateway.body(), gateway.gateway.headers
    verdict_on(*where, stream=False)  # all is well in between
    asked = len(failing.requests)
    with _failing(failing, fault):
        verdict: Verdict = verdict_on(*where, stream=fault.stream)
    was_asked = len(failing.requests) > asked
    time.sleep(COOL_DOWN)
    return verdict if was_asked else NOT_ASKED


@contextmanager
def _failing(upstream: ScriptedUpstream, fault: Fault) -> Iterator[None]:
    before = upstream.otherwise
    upstream.otherwise = fault.step
    try:
        yield
    finally:
        upstream.otherwise = before


def _markdown(table: Mapping[str, Mapping[str, str]]) -> str:
    lines = [f"| fault of the first server | {' | '.join(table)} |", "|---" * (1 + len(table)) + "|"]
    for name, fault in FAULTS.items():
        cells = [cells[name] for cells in table.values()]
        shown = [each if each in (fault.right, NOT_ASKED) else f"**{each}**" for each in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)
