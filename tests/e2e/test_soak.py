"""Many requests of every kind, and afterwards the service is what it was. SOAK=1: 100,000, else 1,000."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from tests.benchmarks.gateway_upstream import FastUpstream
from tests.e2e.process import ServiceProcess
from tests.faults import reset
from tests.service import provider_row
from tests.upstream import ScriptedUpstream, Step, cut_after, empty, error_in_200, html, says, status

SOAK = bool(os.environ.get("SOAK"))
REQUESTS = 100_000 if SOAK else 1_000
CLIENTS = 24
STEPS, WARM_STEPS = 10, 2
"""Memory is to stay what it is after the first two tenths."""
SPARE_FILES = 8
"""Descriptors that the service opens once, such as those of the database."""
KEPT_FILES = 2 * CLIENTS
"""Connections to the two model servers, as long as they are kept for further requests."""
MOST_GROWTH = 6.0
"""Mebibytes that noise may make of it."""
SETTLING_SECONDS = 60.0
"""Connections to model servers are kept for half a minute."""
PATIENCE = aiohttp.ClientTimeout(total=60)
HELLO = [{"role": "user", "content": "Write a function that adds two numbers. " * 12}]
KINDS = ("plain",) * 11 + ("stream",) * 5 + ("leaves",) + ("faulty",) * 2 + ("faulty stream",)
"""In turn; who leaves closes the connection after the first words."""
FAULTS = (status(500), status(429, retry_after=0), reset(), cut_after(0), empty(), html(), error_in_200())


class State(NamedTuple):
    """What the process holds."""

    mebibytes: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> State:
        process = Path(f"/proc/{pid}")
        pages = int((process / "statm").read_text().split()[1])
        counts = [len(list((process / name).iterdir())) for name in ("fd", "task")]
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, *counts)


def _faulty(steps: Iterator[Step]) -> Callable[[dict[str, Any]], Step]:
    """Every second request fails, each time otherwise; so the server is never given up for long."""
    turns = cycle((True, False))
    return lambda _: next(steps) if next(turns) else says("well after all")


async def _ask(session: aiohttp.ClientSession, url: str, kind: str) -> str:
    """What came of a request: `answered`, `told` of a fault, `left`, or what else."""
    body: dict[str, Any] = {"model": "shaky" if "faulty" in kind else "good", "messages": HELLO}
    body["stream"] = streams = kind not in ("plain", "faulty")
    async with session.post(url, json=body, timeout=PATIENCE) as answer:
        if answer.status != 200:
            return f"{answer.status}: {(await answer.text())[:200]}"
        if not streams:
            return "answered" if (await answer.json())["choices"] else "no choice"
        if kind == "leaves":
            await answer.content.readany()
            answer.close()
            return "left"
        text = await answer.read()
        return "answered" if b"[DONE]" in text else "told" if b'"error"' in text else "cut"


async def _send(url: str, first: int, last: int) -> Counter[str]:
    """Requests of all kinds by some clients at once; how often each outcome came."""
    numbers, outcomes = iter(range(first, last)), Counter[str]()

    async def client(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            outcomes[await _ask(session, url, KINDS[number % len(KINDS)])] += 1

    async with aiohttp.ClientSession(trust_env=False) as session:
        clients: list[Coroutine[Any, Any, None]] = [client(session) for _ in range(CLIENTS)]
        await asyncio.gather(*clients)
    return outcomes


def test_soak(tmp_path: Path) -> None:
    shaky = ScriptedUpstream(otherwise=_faulty(cycle(FAULTS)))
    with FastUpstream.started(tmp_path) as good, shaky:
        good.set(pieces=8, gap_ms=5)
        chain = [{"provider": name, "model": "m1"} for name in ("shaky", "good")]
        row = {"base_url": good.base_url, "api_key": "none", "models": [{"id": "m1"}]}
        providers = {"good": row, "shaky": provider_row(shaky)}
        models = {"shaky": chain, "good": [{"provider": "good", "model": "m1"}]}
        with ServiceProcess(tmp_path, shaky, providers=providers, models=models) as service:
            url, pid = f"{service.client.base_url}/v1/chat/completions", service.process.pid
            service.client.close()
            outcomes, states = Counter[str](), [State.of(pid)]
            began = time.monotonic()
            for step in range(STEPS):
                bounds = (REQUESTS * number // STEPS for number in (step, step + 1))
                outcomes += asyncio.run(_send(url, *bounds))
                shaky.requests.clear()
                states.append(State.of(pid))
            seconds = time.monotonic() - began
            most = states[0].descriptors + SPARE_FILES
            last = _settled(pid, most) if SOAK else State.of(pid)
    sizes = ", ".join(f"{each.mebibytes:.1f}" for each in states)
    sys.stderr.write(f"\n{REQUESTS:,} requests in {seconds:.0f} s: {dict(outcomes)}\n")
    sys.stderr.write(f"MiB before, and after each tenth: {sizes}; {states[0]} became {last}\n")
    assert set(outcomes) <= {"answered", "told", "left"}
    assert outcomes["left"] == REQUESTS // len(KINDS)
    assert last.descriptors <= most + (0 if SOAK else KEPT_FILES)
    if SOAK:
        warm = states[WARM_STEPS]
        assert states[-1].mebibytes - warm.mebibytes <= MOST_GROWTH
        assert states[-1].threads <= warm.threads


def _settled(pid: int, descriptors: int) -> State:
    """The state when no more than so many are open; at the latest after SETTLING_SECONDS."""
    end = time.monotonic() + SETTLING_SECONDS
    while (state := State.of(pid)).descriptors > descriptors and time.monotonic() < end:
        time.sleep(0.2)
    return state
