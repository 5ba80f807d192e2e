"""Load from a process of its own: so many connections, each with one request after the other.

`measure(url, ...)` starts it and gives what it saw. A connection that the server closes is opened anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from subprocess import PIPE, run
from urllib.parse import urlsplit

import httptools
import uvloop

PATIENCE = 30.0
"""Seconds until an answer counts as lost."""


@dataclass(frozen=True)
class Seen:
    """What the clients saw. Times in milliseconds."""

    answered: int
    failed: int
    """Answers that were not 200, or not whole."""
    seconds: float
    p50: float
    p99: float
    first_p50: float
    """Until the first text."""
    first_least: float
    pieces: int
    """Pieces of text that streams brought."""


@dataclass(frozen=True)
class Order:
    """What is to be sent, how often, and what an answer must have."""

    host: str
    port: int
    request: str
    connections: int
    seconds: float
    marker: str


@dataclass
class _Tally:
    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    pieces: int = 0
    failed: int = 0

    def seen(self, seconds: float) -> Seen:
        whole, first = sorted(self.whole) or [0.0], sorted(self.first) or [0.0]
        return Seen(
            answered=len(self.whole),
            failed=self.failed,
            seconds=seconds,
            p50=_share(whole, 0.5),
            p99=_share(whole, 0.99),
            first_p50=_share(first, 0.5),
            first_least=1000 * first[0],
            pieces=self.pieces,
        )


def measure(
    url: str,
    body: Mapping[str, object],
    headers: Mapping[str, str],
    *,
    connections: int,
    seconds: float,
    marker: str,
) -> Seen:
    """Post `body` for so many seconds. An answer counts when it has `marker`, which is in each piece once."""
    parts, content = urlsplit(url), json.dumps(body)
    assert parts.hostname and parts.port
    fields = {"host": parts.netloc, "content-type": "application/json", **headers}
    fields["content-length"] = str(len(content.encode()))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    request = f"POST {parts.path} HTTP/1.1\r\n{head}\r\n{content}"
    order = Order(parts.hostname, parts.port, request, connections, seconds, marker)
    done = run(
        [sys.executable, "-P", __file__], input=json.dumps(asdict(order)), stdout=PIPE, text=True, check=True
    )
    return Seen(**json.loads(done.stdout))


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, order: Order, tally: _Tally) -> None:
        self._request, self._marker = order.request.encode(), order.marker.encode()
        self._tally = tally
        self._done: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def ask(self) -> asyncio.Future[bool]:
        """Send the request; whether it was answered well."""
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._found, self._rest, self._began = 0, b"", time.perf_counter()
        self.transport.write(self._request)
        return self._done

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        text = self._rest + body
        if (found := text.count(self._marker)) and not self._found:
            self._tally.first.append(time.perf_counter() - self._began)
        self._found += found
        # What may be the beginning of a marker is looked at again; a whole one is not.
        self._rest = text[text.rfind(self._marker) + len(self._marker) if found else 0 :]
        self._rest = self._rest[1 - len(self._marker) :]

    def on_message_complete(self) -> None:
        self._end(self._parser.get_status_code() == 200 and self._found > 0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(False)

    def _end(self, good: bool) -> None:
        if self._done is None or self._done.done():
            return
        if good:
            self._tally.whole.append(time.perf_counter() - self._began)
            self._tally.pieces += self._found
        else:
            self._tally.failed += 1
        self._done.set_result(good)


async def _keep_asking(order: Order, tally: _Tally, until: float) -> None:
    client: _Client | None = None
    while time.perf_counter() < until:
        if client is None or client.transport.is_closing():
            connect = asyncio.get_running_loop().create_connection
            _, client = await connect(lambda: _Client(order, tally), order.host, order.port)
        try:
            good = await asyncio.wait_for(client.ask(), PATIENCE)
        except TimeoutError:
            good = False
            tally.failed += 1
        if not good:
            client.transport.abort()
            client = None
    if client is not None:
        client.transport.close()


async def _load(order: Order) -> Seen:
    tally, began = _Tally(), time.perf_counter()
    until = began + order.seconds
    await asyncio.gather(*(_keep_asking(order, tally, until) for _ in range(order.connections)))
    return tally.seen(time.perf_counter() - began)


def _share(values: list[float], share: float) -> float:
    """In milliseconds; `values` are sorted seconds."""
    return 1000 * values[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    json.dump(asdict(uvloop.run(_load(Order(**json.load(sys.stdin))))), sys.stdout)
