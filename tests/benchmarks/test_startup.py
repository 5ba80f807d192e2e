"""Start to the first 200, and memory when idle, beside a bare FastAPI application in the same run."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from tests.benchmarks.service_process import SERVE, measure

ROUNDS = 5
MOST_MEBIBYTES = 150

BARE = """
import socket, sys, fastapi, uvicorn
app = fastapi.FastAPI()
app.get("/health")(lambda: {"status": "ok"})
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
sys.stderr.write(f"http://127.0.0.1:{listener.getsockname()[1]}\\n")
uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listener])
"""


def test_start_and_memory(tmp_path: Path) -> None:
    commands = {"bare FastAPI": (sys.executable, "-P", "-c", BARE), "agent-service": SERVE}
    seconds: dict[str, float] = {}
    mebibytes: dict[str, float] = {}
    for name, command in commands.items():
        found = [measure(command, tmp_path) for _ in range(ROUNDS)]
        seconds[name] = statistics.median(each.seconds for each in found)
        mebibytes[name] = statistics.median(each.mebibytes for each in found)
        sys.stderr.write(f"{name:14} first 200 after {seconds[name]:.2f} s, idle {mebibytes[name]:.0f} MiB\n")
    ratio = seconds["agent-service"] / seconds["bare FastAPI"]
    sys.stderr.write(f"{ratio:.1f} times the bare application's start\n")
    assert mebibytes["agent-service"] <= MOST_MEBIBYTES
