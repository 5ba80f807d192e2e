"""No stall before the first chunk of a stream, on real sockets.

A server that writes the head and the first chunk separately, with Nagle's algorithm on, waits for the client
to acknowledge the head, which clients put off for 40 ms: every stream then begins that much late. Load of the
machine makes streams late, too, but never each of them; so the quickest one tells.
"""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.e2e.process import ServiceProcess
from tests.upstream import ScriptedUpstream

STREAMS = 40
WARMING = 20
"""Of those; at first the kernel acknowledges at once."""
LEAST_STALL = 0.04
BODY = {"model": "m1", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


def _quickest(client: httpx.Client, url: str) -> float:
    """Seconds until the first text, of the quickest stream over one connection."""
    found = []
    for number in range(STREAMS):
        began, first = time.perf_counter(), 0.0
        with client.stream("POST", url, json=BODY) as answer:
            for piece in answer.iter_raw():  # to its end, or the connection would not be used again
                first = first or (b"lorem" in piece and time.perf_counter() - began)
        if number >= WARMING:
            found.append(first)
    assert all(found)
    return min(found)


def test_the_first_chunk_does_not_wait(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="lorem ipsum") as upstream, ServiceProcess(tmp_path, upstream) as service:
        with httpx.Client(trust_env=False, timeout=20) as direct:
            alone = _quickest(direct, f"{upstream.base_url}/chat/completions")
        through = _quickest(service.client, "/v1/chat/completions")
    assert through - alone < LEAST_STALL / 2, f"{alone:.4f} s alone, {through:.4f} s through us"
