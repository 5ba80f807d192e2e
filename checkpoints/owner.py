"""Who holds a thread: a process, told apart from every other one that had or will have its number."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def this_process() -> str:
    """`boot id:pid:start time` of this process; void as soon as it ends."""
    return _identity(os.getpid())


def is_this_process(owner: str | None) -> bool:
    """Whether that is us."""
    return owner == this_process()


def is_alive(owner: str) -> bool:
    """Whether the process that wrote `owner` still runs, on this boot of this machine."""
    _, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as somebody else
    return _identity(int(pid)) == owner


def _identity(pid: int) -> str:
    return f"{_boot_id()}:{pid}:{_start_time(pid)}"


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return "boot"


def _start_time(pid: int) -> str:
    """Field 22 of proc(5)'s stat, in clock ticks since boot; empty where there is no /proc.

    A process that ended but was not waited for yet has none: it will never do anything again.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]
