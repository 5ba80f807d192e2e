"""A gateway as a process of its own, stopped while it is not its turn, and looked at from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from tests.benchmarks.gateway_peers import Gateway, Recipe, surroundings

PROMPT = "Write a function that adds two numbers. " * 12
TICKS = os.sysconf("SC_CLK_TCK")


class GatewayProcess:
    """A context manager: inside it the gateway answers. `seconds` and `idle` tell of its start."""

    def __init__(self, recipe: Recipe, home: Path, *upstreams: str) -> None:
        """Skips the test when the gateway cannot be had. Without a recipe for a process use `Direct`."""
        home.mkdir()
        self.gateway: Gateway = recipe(home, _free_port(), upstreams)
        self._home = home

    def __enter__(self) -> Self:
        began = time.monotonic()
        with (self._home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self.gateway.command,
                cwd=self._home,
                env=surroundings(self.gateway, self._home),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait(began + self.gateway.start_seconds)
        except BaseException:
            self.end()
            raise
        self.seconds = time.monotonic() - began
        """From its start to its first answer."""
        self.idle = self.mebibytes()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def body(self, **fields: Any) -> dict[str, Any]:
        """A request that it answers."""
        messages = [{"role": "user", "content": PROMPT}]
        return {"model": self.gateway.model, "messages": messages, "temperature": 0.2, **fields}

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Until the end of it the gateway may run."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def cpu_seconds(self) -> float:
        """Used so far, with its children."""
        total = 0
        for stat in self._stats():
            total += int(stat[11]) + int(stat[12])
        return total / TICKS

    def mebibytes(self) -> float:
        """Resident now, with its children."""
        return sum(int(stat[21]) for stat in self._stats()) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self) -> None:
        """Kill it."""
        self._signal(signal.SIGKILL)
        self._process.wait(20)

    def _wait(self, until: float) -> None:
        wanted = {"content-type": "application/json", **self.gateway.headers}
        request = urllib.request.Request(self.gateway.url, orjson.dumps(self.body()), wanted)
        while time.monotonic() < until and self._process.poll() is None:
            try:
                urllib.request.urlopen(request, timeout=10).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        said = (self._home / "log").read_text(errors="replace")[-1000:]
        raise AssertionError(f"{self.gateway.command[0]} did not answer: {said}")

    def _stats(self) -> list[list[str]]:
        """The fields of `/proc/PID/stat` after the name, of all its processes; they share a session."""
        found = []
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = file.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid:
                    found.append(fields)
        return found

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
