"""What a request through each gateway costs, side by side in one run: `make bench args="-k test_gateway"`.

Every gateway passes the same chat completions to the same model server, which costs next to nothing. In each
round all are measured in another order, while the others are stopped. Of latencies the best round counts, of
the CPU's time the first quartile of the rounds: what else goes on on the machine only ever adds, but a single
lucky round of one gateway says nothing of the others.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from tests.benchmarks import gateway_peers
from tests.benchmarks.gateway_load import Seen, measure
from tests.benchmarks.gateway_peers import Recipe
from tests.benchmarks.gateway_process import GatewayProcess
from tests.benchmarks.gateway_upstream import TEXT, FastUpstream

ROUNDS = 8
SECONDS = 2.5
"""Of each measurement; a slow gateway needs some for a request that is under way at its end not to count."""
WARMING_SECONDS = 8.0
"""After these a service has done what it does once."""


class Load(NamedTuple):
    """What is asked for. Streams have so many pieces, so many milliseconds apart."""

    connections: int
    pieces: int = 0
    gap_ms: int = 0


LOADS: Mapping[str, Load] = {
    "one": Load(1),
    "many": Load(32),
    "first": Load(1, pieces=4),
    "stream": Load(32, pieces=60, gap_ms=20),
}
RECIPES: Mapping[str, Recipe] = {
    "agent-service": gateway_peers.ours,
    "bare FastAPI": gateway_peers.bare,
    "LiteLLM 1.109.1": gateway_peers.litellm,
    "Portkey 1.15.2": gateway_peers.portkey,
    "Ferro 1.5.10 (Go)": gateway_peers.ferro,
}
OURS, BARE, LITELLM = list(RECIPES)[:3]

MOST_OF_BARE = 2.0
LEAST_OF_LITELLM = 15.0
MOST_OF_BARE_STREAMS = 1.5
MOST_MEBIBYTES = 150


@dataclass
class Figures:
    """Of one gateway, from all rounds."""

    seconds: float = 0.0
    """From the start to the first answer."""
    idle: float = 0.0
    """Mebibytes after that; 0 = not known."""
    loaded: float = 0.0
    """Mebibytes after all rounds; 0 = not known."""
    spent: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds of CPU a request in each round; under `stream` a piece."""
    seen: dict[str, Seen] = field(default_factory=dict)
    """The best round."""
    rate: float = 0.0
    """Requests a second over 32 connections."""
    failed: int = 0
    """In all rounds."""

    def cpu(self, load: str) -> float:
        """Milliseconds a request; under `stream` a piece, which is as much as seconds for a thousand."""
        return statistics.quantiles(self.spent[load])[0]

    def add(self, load: str, seen: Seen, cpu: float | None) -> None:
        """Take note of a round."""
        units = seen.pieces if load == "stream" else seen.answered
        assert units, f"nothing was answered under {load}"
        if cpu is not None:
            self.spent.setdefault(load, []).append(1000 * cpu / units)
        self.failed += seen.failed
        best = self.seen.get(load)
        if best is None or seen.first_p50 < best.first_p50:
            self.seen[load] = seen
        if load == "many":
            self.rate = max(self.rate, seen.answered / seen.seconds)


def _measured(
    url: str, body: Mapping[str, object], headers: Mapping[str, str], load: str, seconds: float = SECONDS
) -> Seen:
    connections, pieces, _ = LOADS[load]
    if pieces:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    return measure(url, body, headers, connections=connections, seconds=seconds, marker=TEXT)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Figures]]:
    """Of each gateway that can be had here, and of the model server itself as `direct`."""
    folder = tmp_path_factory.mktemp("gateways")
    found = {"direct": Figures()}
    with ExitStack() as stack:
        upstream = stack.enter_context(FastUpstream.started(folder))
        running: dict[str, GatewayProcess] = {}
        for number, (name, recipe) in enumerate(RECIPES.items()):
            try:
                process = GatewayProcess(recipe, folder / str(number), upstream.base_url)
            except pytest.skip.Exception as reason:
                sys.stderr.write(f"without {name}: {reason}\n")
                continue
            running[name] = stack.enter_context(process)
            found[name] = Figures(process.seconds, process.idle)
            with process.turn():
                url, headers = process.gateway.url, process.gateway.headers
                _measured(url, process.body(), headers, "one", WARMING_SECONDS)
        for number in range(ROUNDS):
            for load, (_, pieces, gap_ms) in LOADS.items():
                upstream.set(pieces=pieces, gap_ms=gap_ms)
                for name in random.Random(f"{number} {load}").sample(sorted(found), len(found)):
                    _take_turn(found[name], running.get(name), upstream, load)
        yield found


def _take_turn(figures: Figures, process: GatewayProcess | None, upstream: FastUpstream, load: str) -> None:
    if process is None:
        body: dict[str, object] = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
        figures.add(load, _measured(f"{upstream.base_url}/chat/completions", body, {}, load), None)
        return
    with process.turn():
        before = process.cpu_seconds()
        seen = _measured(process.gateway.url, process.body(), process.gateway.headers, load)
        figures.add(load, seen, process.cpu_seconds() - before)
        figures.loaded = process.mebibytes()


def _table(found: Mapping[str, Figures]) -> str:
    """In Markdown."""
    direct = found["direct"].seen
    lines = [
        "| | CPU ms/request, 1 / 32 connections | requests/s, 32 | added p50 ms, 1 connection (p99) "
        "| p50 ms, 32 (p99) | CPU s/1000 chunks | first text ms | MiB idle / loaded | start s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        one, many, first = (each.seen[load] for load in ("one", "many", "first"))
        cells = [
            name,
            f"{each.cpu('one'):.2f} / {each.cpu('many'):.2f}" if each.spent else "",
            f"{each.rate:,.0f}",
            f"{one.p50 - direct['one'].p50:.2f} ({one.p99 - direct['one'].p99:.1f})",
            f"{many.p50:.1f} ({many.p99:.0f})",
            f"{each.cpu('stream'):.3f}" if each.spent else "",
            f"{first.first_p50:.1f}",
            f"{each.idle:.0f} / {each.loaded:.0f}" if each.idle else "",
            f"{each.seconds:.1f}" if each.idle else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_gateways_side_by_side(figures: dict[str, Figures]) -> None:
    sys.stderr.write(f"\n{_table(figures)}\n")
    assert not figures[OURS].failed


def test_a_request_costs_at_most_twice_a_bare_application(figures: dict[str, Figures]) -> None:
    ratio = figures[OURS].cpu("many") / figures[BARE].cpu("many")
    sys.stderr.write(f"\n{ratio:.2f} times the bare application's CPU a request\n")
    assert ratio <= MOST_OF_BARE


def test_a_request_costs_a_fifteenth_of_litellm(figures: dict[str, Figures]) -> None:
    if LITELLM not in figures:
        pytest.skip("LiteLLM cannot be installed here")
    ratio = figures[LITELLM].cpu("many") / figures[OURS].cpu("many")
    sys.stderr.write(f"\nLiteLLM takes {ratio:.1f} times our CPU a request\n")
    assert ratio >= LEAST_OF_LITELLM


def test_streams_cost_little_more_than_through_a_bare_application(figures: dict[str, Figures]) -> None:
    ratio = figures[OURS].cpu("stream") / figures[BARE].cpu("stream")
    sys.stderr.write(f"\n{ratio:.2f} times the bare application's CPU a piece\n")
    assert ratio <= MOST_OF_BARE_STREAMS


def test_memory_is_small(figures: dict[str, Figures]) -> None:
    assert figures[OURS].idle <= MOST_MEBIBYTES
