"""A model server that costs next to nothing, a process of its own: in C where a compiler is, else in Python.

with FastUpstream.started(tmp_path) as upstream:
    upstream.set(pieces=60, gap_ms=20)  # of every stream from now on
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httptools
import orjson
import uvloop

SOURCE = Path(__file__).with_suffix(".c")
TEXT = "lorem ipsum dolor "
"""What every piece of a stream says."""


@dataclass(frozen=True)
class FastUpstream:
    """It runs; OpenAI's chat completions, any key."""

    port: int
    is_compiled: bool

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def set(self, *, pieces: int, gap_ms: int) -> None:
        """How streams are from now on."""
        urllib.request.urlopen(f"{self.origin}/set?pieces={pieces}&gap={gap_ms}", timeout=5).close()

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path) -> Iterator[Self]:
        """The server, built in `folder`."""
        built = _built(folder)
        command: Sequence[str] = [str(built)] if built else [sys.executable, "-P", __file__]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield cls(int(process.stdout.readline()), is_compiled=built is not None)
            finally:
                process.kill()


def _built(folder: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    program = folder / "upstream"
    done = subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE)], capture_output=True)
    return program if done.returncode == 0 else None


class _Connection(asyncio.Protocol):
    """The same server in Python: several times as slow, but still faster than what is measured."""

    pieces, gap = 16, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport, self._parser = transport, httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        url = urlsplit(self._url.decode())
        if url.path == "/set":
            asked = parse_qs(url.query)
            _Connection.pieces, _Connection.gap = int(asked["pieces"][0]), int(asked["gap"][0]) / 1000
        if not self._body:
            self._whole({"object": "list", "data": [{"id": "mock", "object": "model"}]})
        elif (asked_for := orjson.loads(self._body)).get("stream"):
            head = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            self._transport.write(b"HTTP/1.1 200 OK\r\n" + head)
            self._event({"role": "assistant", "content": ""})
            self._stream(self.pieces, wants_usage=bool(asked_for.get("stream_options")))
        else:
            message = {"role": "assistant", "content": TEXT}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._whole({**_FRAME, "object": "chat.completion", "choices": [choice], "usage": _usage(8)})

    def _whole(self, answer: object) -> None:
        body = orjson.dumps(answer)
        head = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(b"HTTP/1.1 200 OK\r\n" + head + body)

    def _event(self, delta: dict[str, str], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self._chunk(orjson.dumps({**_FRAME, "object": "chat.completion.chunk", "choices": [choice]}))

    def _chunk(self, payload: bytes) -> None:
        self._transport.write(b"%x\r\ndata: %b\n\n\r\n" % (len(payload) + 8, payload))

    def _stream(self, left: int, *, wants_usage: bool) -> None:
        if self._transport.is_closing():
            return
        while left:
            self._event({"content": TEXT})
            left -= 1
            if left and self.gap:
                going_on = partial(self._stream, left, wants_usage=wants_usage)
                asyncio.get_running_loop().call_later(self.gap, going_on)
                return
        self._event({}, "stop")
        if wants_usage:
            last = {**_FRAME, "object": "chat.completion.chunk", "choices": [], "usage": _usage(self.pieces)}
            self._chunk(orjson.dumps(last))
        self._chunk(b"[DONE]")
        self._transport.write(b"0\r\n\r\n")


_FRAME = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "mock"}


def _usage(answer: int) -> dict[str, int]:
    return {"prompt_tokens": 120, "completion_tokens": answer, "total_tokens": answer + 120}


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
