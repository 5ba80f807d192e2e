"""Who holds a thread, where there is no /proc: a Mac, and a system that has no name for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from checkpoints.machine import Machine
from checkpoints.owner import Owners

NOWHERE = Path("/nowhere")
SESSION = "5A3C2F61-7B1D-4E0A-9C39-0F3D7C1B2A44"
STARTED = "Sat Nov 21 08:54:17 2026"


def mac(session: str = SESSION, ps: str = f"Ss   {STARTED}") -> Machine:
    """A system without /proc whose commands say this; nothing: there is no such command."""

    def say(command: Sequence[str]) -> str:
        return session if command[0].endswith("sysctl") else ps

    return Machine(NOWHERE, say)


def test_processes_of_one_mac_see_each_other() -> None:
    owners = Owners(mac())
    assert owners.mine == f"{SESSION}::{os.getpid()}:Sat_Nov_21_08.54.17_2026"
    assert owners.condition(owners.mine) == "alive"
    parent = owners.mine.replace(str(os.getpid()), str(os.getppid()))
    assert owners.condition(parent) == "alive"
    assert owners.condition(parent + "0") == "dead", "its number was given anew"
    assert owners.condition(f"{SESSION}::999999999:Sat_Nov_21_08.54.17_2026") == "dead"
    assert owners.is_of_this_machine(parent)


@pytest.mark.parametrize(
    "ps", ["", f"Z    {STARTED}"], ids=["a system that does not tell", "nobody waited for it"]
)
def test_what_cannot_be_seen_is_not_taken_for_dead(ps: str) -> None:
    held = Owners(mac()).mine.replace(str(os.getpid()), str(os.getppid()))
    assert Owners(mac(ps=ps)).condition(held) == ("dead" if ps else "unknown")
    assert Owners(mac(ps=ps)).condition(Owners(mac(ps=ps)).mine) == "alive", "we know that we are"


@pytest.mark.parametrize("one", [mac("another-start"), mac("")], ids=["another Mac", "nameless"])
def test_a_run_on_another_machine_is_left_to_its_lease(one: Machine) -> None:
    held = Owners(one).mine
    here = Owners(mac())
    assert here.condition(held) == "unknown"
    assert here.condition("boot::999999999:") == "unknown", "what earlier versions wrote"
    assert not here.is_of_this_machine(held)


def test_a_machine_without_a_name_is_named_anew_by_every_process() -> None:
    code = "from pathlib import Path; from checkpoints.machine import Machine; "
    code += "print(Machine(Path('/nowhere'), lambda command: '').boot_id())"
    names = [subprocess.check_output([sys.executable, "-c", code], text=True).strip() for _ in range(2)]
    assert names[0] != names[1]
    assert not any(":" in name or name == "boot" for name in names)
    nameless = Machine(NOWHERE, lambda command: "")
    assert nameless.boot_id() == nameless.boot_id()


@pytest.mark.parametrize("look", [Machine.boot_id, Machine.process_namespace])
def test_linux_is_asked_for_nothing_else(look: Callable[[Machine], str]) -> None:
    def never(command: Sequence[str]) -> str:
        raise AssertionError(command)

    if not Path("/proc/self/stat").exists():
        pytest.skip("only where there is a /proc")
    assert look(Machine(say=never)) == look(Machine(say=never)) != ""
    assert Machine(say=never).start_time(os.getpid()).isdigit()
    assert Machine(say=never).start_time(999_999_999) == ""


def test_a_command_that_is_missing_says_nothing() -> None:
    machine = Machine(NOWHERE)
    assert machine.say(("no-such-command-at-all",)) == machine.say(("false",)) == ""
    assert machine.say(("echo", "what it says")) == "what it says"
