"""A service process, started and looked at from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SETTLED_SECONDS = 8.0
"""By then the service has imported what runs need, and looked through it for garbage once."""
SERVE = (sys.executable, "-P", "-m", "agent_service", "serve", "--port", "0")


class Reading(NamedTuple):
    """What a process costs that has nothing to do."""

    seconds: float
    """From its start to its first 200."""
    mebibytes: float
    """Resident memory."""
    threads: int
    files: int
    """Open descriptors."""
    cpu_percent: float
    """Of one core, over SETTLED_SECONDS."""


def measure(command: Sequence[str], home: Path) -> Reading:
    """Start it, wait for its first answer and until it has settled, look, and end it."""
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
        before = _cpu_seconds(process.pid)
        time.sleep(SETTLED_SECONDS)
        percent = 100 * (_cpu_seconds(process.pid) - before) / SETTLED_SECONDS
        folder = Path(f"/proc/{process.pid}")
        threads, files = (len(list((folder / name).iterdir())) for name in ("task", "fd"))
        pages = int((folder / "statm").read_text().split()[1])
        process.terminate()
        process.communicate(timeout=20)
    mebibytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Reading(seconds, mebibytes, threads, files, percent)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
