"""Where words for people go: a terminal with colours and a spinner, or plain lines."""

from __future__ import annotations

import re
import sys
import time

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

PLAIN_WIDTH = 160
"""Columns of tables that go into a file or a pipe."""

# Escape sequences in a model's text could rewrite what the terminal shows; so could the characters that turn
# the direction of writing or are not seen at all.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def printable(text: str) -> str:
    """The text without anything that could command a terminal; line breaks and tabs stay."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


class Terminal:
    """Standard output, or standard error where standard output is for programs."""

    def __init__(self, *, to_stderr: bool = False) -> None:
        file = sys.stderr if to_stderr else sys.stdout
        self.live = file.isatty()
        """Whether a person watches, so that there may be colours, and lines that change."""
        self.console = Console(
            file=file,
            force_terminal=None if self.live else False,
            width=None if self.live else PLAIN_WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self.live = self.live and not self.console.is_dumb_terminal

    def line(self, *parts: str | tuple[str, str]) -> None:
        """One line, of plain parts and (part, style) ones; made safe to show, never broken by us."""
        text = Text.assemble(*(_safe(part) for part in parts))
        self.console.print(text, soft_wrap=True)

    def paragraph(self, text: str, indent: int = 2) -> None:
        """Prose: broken between words on a terminal, left as it is elsewhere."""
        padded = Padding(Text(printable(text)), (0, 0, 0, indent), expand=False)
        self.console.print(padded, soft_wrap=not self.live)

    def gap(self) -> None:
        """An empty line."""
        self.console.print()

    def piece(self, text: str) -> None:
        """A piece of a longer text, as it comes."""
        self.console.file.write(printable(text))
        self.console.file.flush()


def _safe(part: str | tuple[str, str]) -> Text:
    text, style = (part, "") if isinstance(part, str) else part
    return Text(printable(text), style=style)


def ago(seconds: float) -> str:
    """A time span as people say it: `3 min`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


class Stopwatch:
    """Counts seconds from its making on."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
