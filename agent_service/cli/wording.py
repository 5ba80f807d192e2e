"""Words that depend on how the command was started, and messages laid out for people."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

NAME = "agent-service"


def command_name() -> str:
    """What to type to start this command: its name if that is on PATH, else the way it was started."""
    if shutil.which(NAME):
        return NAME
    started = Path(sys.argv[0] or NAME)
    if started.name == "__main__.py":
        return f"{shlex.quote(_shorter(Path(sys.executable)))} -m agent_service"
    return shlex.quote(_shorter(started)) if started.name == NAME else NAME


def laid_out(message: str) -> list[str]:
    """The message's lines; ways out that it numbers, `(1) ... (2) ...`, get lines of their own.

    Commands of ours in it are written as they can be typed here.
    """
    text = re.sub(rf"(?<!/)\b{NAME}(?= local install)", lambda _: command_name(), message)
    if "(1) " in text and "(2) " in text:
        text = re.sub(r";? (?=\([1-9]\) )", "\n  ", text)
    return text.splitlines()


def _shorter(path: Path) -> str:
    """The path as it is, or from the current folder if it is below that; never a bare name."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - a link such as the venv's python stays one
    relative = os.path.relpath(absolute)
    if relative.startswith(os.pardir):
        return absolute
    relative = relative if os.sep in relative else os.path.join(os.curdir, relative)  # noqa: PTH118
    return min(absolute, relative, key=len)
