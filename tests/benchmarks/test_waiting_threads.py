"""What 10,000 threads cost that wait for an answer: no task, no connection, no watcher, no memory."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from pathlib import Path

from agent_service.data_dir import STATE_FILE
from checkpoints.opening import open_database
from checkpoints.questions import Question
from checkpoints.runs import NewRun, NewThread, Run
from checkpoints.stores import Stores
from tests.benchmarks.service_process import SERVE, Reading, measure

THREADS = 10_000
ROUNDS = 3
AT_ONCE = 500
THREADS_OF_READER, FILES_OF_READER = 1, 2
"""Of a connection to the database: how many there are at most is fixed, and one more or less is opened as the
service's chores happen to meet at its start, with threads that wait and without."""


async def _make_threads(file: Path) -> None:
    async with open_database(file) as database:
        stores = Stores.on(database)

        async def ask(number: int) -> None:
            request = json.dumps({"instruction": "Which name?"}).encode()
            new = NewRun("local", f"waiting-{number:05}", f"run-{number:05}", request)
            run = await stores.runs.begin(new, "Which name?", NewThread("Which name?", None, None))
            assert isinstance(run, Run)
            question = Question(f"call_{number}", f"interrupt-{number}", "question", "Which name?")
            await stores.runs.settle(run, b"{}", "requires_human_input", [question])

        for start in range(0, THREADS, AT_ONCE):
            await asyncio.gather(*(ask(number) for number in range(start, start + AT_ONCE)))


def _median(readings: list[Reading]) -> Reading:
    return Reading(*(statistics.median(column) for column in zip(*readings, strict=True)))


def test_waiting_threads_cost_nothing(tmp_path: Path) -> None:
    homes = {"no thread": tmp_path / "empty", f"{THREADS:,} waiting": tmp_path / "full"}
    for home in homes.values():
        (home / ".local/share/agent-service").mkdir(parents=True, mode=0o700)
    asyncio.run(_make_threads(tmp_path / "full/.local/share/agent-service" / STATE_FILE))
    readings: dict[str, list[Reading]] = {name: [] for name in homes}
    for _ in range(ROUNDS):
        for name, home in homes.items():  # in turns, so that the machine's moods touch both
            readings[name].append(measure(SERVE, home))
    empty, full = (_median(readings[name]) for name in homes)
    for name, each in zip(homes, (empty, full), strict=True):
        sys.stderr.write(
            f"{name:14} first 200 after {each.seconds:.2f} s, idle {each.mebibytes:.0f} MiB, "
            f"{each.threads} threads, {each.files} descriptors, {each.cpu_percent:.1f} % CPU\n"
        )
    assert abs(full.threads - empty.threads) <= THREADS_OF_READER
    assert abs(full.files - empty.files) <= FILES_OF_READER
    assert full.mebibytes - empty.mebibytes < 3
