"""Who holds a thread: a process, told apart from every other one that had or will have its number."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal


@cache
def this_process() -> str:
    """`boot id:process namespace:pid:start time` of this process; void as soon as it ends."""
    return _identity(os.getpid())


def is_this_process(owner: str | None) -> bool:
    """Whether that is us."""
    return owner == this_process()


def is_of_this_machine(owner: str | None) -> bool:
    """Whether the process that wrote `owner` was started on this machine, at any time since it was booted."""
    return (owner or "").split(":")[0] == _boot_id()


def condition(owner: str | None) -> Literal["alive", "dead", "unknown"]:
    """How the process that wrote `owner` is; `unknown` where it cannot be seen from here."""
    boot, namespace, pid, _ = (*(owner or "").split(":"), "", "", "", "")[:4]
    if not pid.isdigit():
        return "dead"
    if (boot, namespace) != (_boot_id(), _process_namespace()):
        return "unknown"
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return "dead"
    except PermissionError:
        pass  # it runs, as somebody else
    return "alive" if _identity(int(pid)) == owner else "dead"


def _identity(pid: int) -> str:
    return f"{_boot_id()}:{_process_namespace()}:{pid}:{_start_time(pid)}"


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return "boot"


@cache
def _process_namespace() -> str:
    """Containers of one machine share its boot id, but not the numbers of their processes."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Field 22 of proc(5)'s stat, in clock ticks since boot; empty where there is no /proc.

    A process that ended but was not waited for yet has none: it will never do anything again.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]
