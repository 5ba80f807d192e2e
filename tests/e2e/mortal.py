"""A service process that dies where it is told to, and the notes it leaves about how far it came.

The product names its moments with audit events (PEP 578), `agent_service.<point>`, which do nothing
unless somebody listens. Here somebody does, and kills the process with the signal that cannot be caught.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent_service.__main__ import main
from tools.tool import ExternalEffect, ToolContext, ToolResult, tool

PREFIX = "agent_service."
SIDE_FILE = "side.txt"
"""What `append_line` adds to, next to the files that the service itself looks after."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a process is to die: at the n-th time, from 1, that this point is passed."""

    point: str
    """Its name, and after a blank what the event carries if that matters."""
    occurrence: int


class Moments:
    """The points that were passed by all processes on one folder, and the one that is fatal.

    Kept in files: they outlive the processes, and count over several at once.
    """

    def __init__(self, folder: Path) -> None:
        self._passed = folder / "moments"
        self._fatal = folder / "fatal"
        self._passed.touch()

    def now(self) -> int:
        """A mark for `since`."""
        return self._passed.stat().st_size

    def since(self, mark: int) -> list[str]:
        """The points passed since then, each with what the event carried."""
        with self._passed.open("rb") as passed:
            passed.seek(mark)
            return passed.read().decode().splitlines()

    def arm(self, fault: Fault) -> None:
        """Let the process die that passes this point, counted from now."""
        prepared = self._fatal.with_suffix(".new")
        prepared.write_text(f"{self.now()} {fault.occurrence} {fault.point}")
        prepared.replace(self._fatal)

    def disarm(self) -> None:
        """Let nobody die any more."""
        self._fatal.unlink(missing_ok=True)

    def note(self, event: str, arguments: tuple[object, ...]) -> None:
        """Take an audit event; does not come back from the fatal one."""
        if not event.startswith(PREFIX):
            return
        with self._passed.open("a") as passed:
            fcntl.flock(passed, fcntl.LOCK_EX)  # threads and processes pass their points one by one
            line = " ".join(map(str, (event.removeprefix(PREFIX), *arguments)))
            print(line, file=passed, flush=True)
            if self._is_fatal(line):
                os.kill(os.getpid(), signal.SIGKILL)

    def _is_fatal(self, line: str) -> bool:
        with suppress(FileNotFoundError):
            mark, occurrence, point = self._fatal.read_text().split(" ", 2)
            return count([line], point) == 1 and count(self.since(int(mark)), point) == int(occurrence)
        return False


def count(passed: Sequence[str], point: str) -> int:
    """How often the point is among those passed; `point` may say what the event carries, too."""
    return sum(point in (line, line.partition(" ")[0]) for line in passed)


def serve(words: Sequence[str], environ: Mapping[str, str], log: Path, folder: Path) -> None:
    """Be `agent-service serve`, with its words and environment; what it says goes to the log."""
    os.environ.clear()
    os.environ.update(environ)
    with log.open("ab") as out:
        os.dup2(out.fileno(), sys.stdout.fileno())
        os.dup2(out.fileno(), sys.stderr.fileno())
    sys.argv = ["agent-service", "serve", *words]
    sys.addaudithook(Moments(folder).note)
    main()


@tool(effect="external")
async def append_line(ctx: ToolContext, line: str) -> ExternalEffect:
    """Append a line to a file: something that shows when it was done twice.

    Args:
        line: Without its end.
    """
    file = ctx.files.root / SIDE_FILE

    async def act() -> ToolResult:
        with file.open("a") as side:
            side.write(f"{line}\n")
        return ToolResult("appended")

    return ExternalEffect(f"append {line}", act)
