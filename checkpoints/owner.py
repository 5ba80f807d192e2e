"""Who holds a thread: a process, told apart from every other one that had or will have its number."""

from __future__ import annotations

import os
from functools import cache
from typing import Literal

from checkpoints.machine import Machine

Condition = Literal["alive", "dead", "unknown"]


class Owners:
    """The processes that hold threads, as they are seen from this one."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._place = f"{machine.boot_id()}:{machine.process_namespace()}"
        self._pid = os.getpid()
        self.mine = self._identity(self._pid)

    def is_of_this_machine(self, owner: str | None) -> bool:
        """Whether the process that wrote `owner` was started on this machine since it was booted."""
        return (owner or "").partition(":")[0] == self._place.partition(":")[0]

    def condition(self, owner: str | None) -> Condition:
        """How the process that wrote `owner` is; `unknown` where it cannot be seen from here."""
        place, _, process = (owner or "").rpartition(":")[0].rpartition(":")
        started = (owner or "").rpartition(":")[2]
        if not process.isdigit():
            return "dead"
        if owner == self.mine:
            return "alive"
        return self._look(int(process), started) if place == self._place else "unknown"

    def _look(self, pid: int, started: str) -> Condition:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return "dead"
        except PermissionError:
            pass  # it runs, as somebody else
        found = self._machine.start_time(pid)
        if not (found and started):
            return "unknown"  # its number is in use, by whom cannot be told
        return "alive" if found == started else "dead"

    def _identity(self, pid: int) -> str:
        return f"{self._place}:{pid}:{self._machine.start_time(pid)}"


def this_process() -> str:
    """`boot id:process namespace:pid:start time` of this process; void as soon as it ends."""
    return _owners(os.getpid()).mine


def is_of_this_machine(owner: str | None) -> bool:
    """Whether the process that wrote `owner` was started on this machine, at any time since it was booted."""
    return _owners(os.getpid()).is_of_this_machine(owner)


def condition(owner: str | None) -> Condition:
    """How the process that wrote `owner` is; `unknown` where it cannot be seen from here."""
    return _owners(os.getpid()).condition(owner)


@cache
def _owners(_pid: int) -> Owners:
    """As seen from this process: a forked one has a number of its own."""
    return Owners(Machine())
