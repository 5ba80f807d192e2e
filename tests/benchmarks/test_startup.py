"""Start to the first 200, and memory when idle, beside a bare FastAPI application in the same run."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROUNDS = 5
SETTLED_SECONDS = 4.0
"""By then the service has imported what runs need."""
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


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _measure(command: list[str], home: Path) -> tuple[float, float]:
    """Seconds to the first 200, and resident MiB when idle."""
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, cwd=home
    ) as process:
        assert process.stdout is not None
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://[\d.]+:\d+", line)))
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.005)
        seconds = time.monotonic() - began
        time.sleep(SETTLED_SECONDS)
        resident = _resident(process.pid)
        process.terminate()
        process.communicate(timeout=20)
    return seconds, resident


def test_start_and_memory(tmp_path: Path) -> None:
    commands = {
        "bare FastAPI": [sys.executable, "-P", "-c", BARE],
        "agent-service": [sys.executable, "-P", "-m", "agent_service", "serve", "--port", "0"],
    }
    found = {name: [_measure(command, tmp_path) for _ in range(ROUNDS)] for name, command in commands.items()}
    median = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    for name, (seconds, resident) in median.items():
        sys.stderr.write(f"{name:14} first 200 after {seconds:.2f} s, idle {resident:.0f} MiB\n")
    ratio = median["agent-service"][0] / median["bare FastAPI"][0]
    sys.stderr.write(f"{ratio:.1f} times the bare application's start\n")
    assert median["agent-service"][1] <= MOST_MEBIBYTES
