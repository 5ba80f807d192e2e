"""This machine and its processes, by names that no other machine and no other start of it has."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

ASK_SECONDS = 5.0
"""How long one of the system's commands may take."""

_BOOT_SESSION = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
"""macOS's counterpart of Linux's boot id; no other system has it."""


def _say(command: Sequence[str]) -> str:
    """What a command of the system writes; nothing if there is no such command, or it fails."""
    # Another process must read the same moment from it, whatever its own language and time zone are.
    environ = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC0"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environ,
            timeout=ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def _name_for_this_process() -> str:
    """Where the system has no name for itself: one that this process shares with nobody."""
    return f"{socket.gethostname()}-{uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a process can look: Linux's /proc if it is there, else what commands say."""

    proc: Path = Path("/proc")
    say: Callable[[Sequence[str]], str] = _say

    def boot_id(self) -> str:
        """The machine since it was started; where that has no name, this process alone."""
        try:
            name = (self.proc / "sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            name = self.say(_BOOT_SESSION)
        return (name or _name_for_this_process()).replace(":", "-")

    def process_namespace(self) -> str:
        """Containers of one machine share its boot id, but not the numbers of their processes."""
        try:
            return str((self.proc / "self/ns/pid").readlink()).strip("pid:[]")
        except OSError:
            return ""

    def start_time(self, pid: int) -> str:
        """When the process was started, in words that mean something to this machine; empty if unknown.

        `ended` of a process that nobody waited for yet: it will never do anything again.
        """
        if (self.proc / "self").exists():
            return self._start_in_ticks(pid)
        state, _, started = self.say(("ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid))).partition(" ")
        return "ended" if state.startswith("Z") else "_".join(started.replace(":", ".").split())

    def _start_in_ticks(self, pid: int) -> str:
        """Field 22 of proc(5)'s stat: clock ticks since the machine was started."""
        try:
            fields = (self.proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now, or belongs to somebody whose processes are hidden from us
            return ""
        return "ended" if fields[0] in "ZX" else fields[19]
