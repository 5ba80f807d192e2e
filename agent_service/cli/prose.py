"""A model's text on a terminal: Markdown, laid out block by block while it comes."""

from __future__ import annotations

import re
from typing import ClassVar

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Heading, Markdown
from rich.text import Text

from agent_service.cli.terminal import Terminal, printable

OPEN_LINES = 8
"""Of a block that still grows so many lines are shown, as they are."""
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
# Without HTML: what looks like a tag, as in `List<String>`, would not be shown at all.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")


class _PlainHeading(Heading):
    """At the left, as everything else."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _LaidOut(Markdown):
    """Safe to show, and what a link leads to is seen."""

    elements: ClassVar = {**Markdown.elements, "heading_open": _PlainHeading}

    def __init__(self, text: str) -> None:
        safe = printable(text)
        super().__init__(safe, code_theme="ansi_dark", hyperlinks=False)
        self.parsed = _PARSER.parse(safe)


def print_prose(terminal: Terminal, text: str) -> None:
    """The text laid out on a terminal, as it is elsewhere."""
    if not terminal.live:
        terminal.line(text)
        return
    for line in _lines(terminal.console, text):
        terminal.console.print(line, soft_wrap=True)


def _lines(console: Console, text: str) -> list[Text]:
    """The lines of the text laid out, without the blanks that Rich fills them up with."""
    lines: list[Text] = []
    for segments in console.render_lines(_LaidOut(text), pad=False):
        # Once more made safe, because Markdown has ways of its own to write any character.
        line = Text.assemble(*((printable(segment.text), segment.style or "") for segment in segments))
        line.rstrip()
        if line or (lines and lines[-1]):
            lines.append(line)
    return lines[:-1] if lines and not lines[-1] else lines


class Prose:
    """A text that comes in pieces, on a terminal. Each block is laid out when the next one begins."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._open = ""
        self._printed = False
        self._live = Live(console=terminal.console, transient=True, refresh_per_second=8)
        self._live.start()

    def add(self, piece: str) -> None:
        """The next piece."""
        self._open += piece
        blocks, self._open = split_blocks(self._open)
        for block in blocks:
            self._print(block)
        tail = printable(self._open).splitlines()[-OPEN_LINES:]
        self._live.update(Text("\n".join(tail), overflow="fold"))

    def end(self) -> None:
        """Lay out what is left."""
        rest, self._open = self._open, ""
        self._live.update(Text())
        self._live.stop()
        if rest.strip():
            self._print(rest)

    def _print(self, block: str) -> None:
        if self._printed:
            self._terminal.gap()
        print_prose(self._terminal, block)
        self._printed = True


def split_blocks(text: str) -> tuple[list[str], str]:
    """The blocks that are whole, and the text that is not: blank lines part them, but not in code or lists.

    Whether a block is whole is only known by the line that follows.
    """
    blocks: list[str] = []
    begun, blank, fence = 0, False, ""
    place = 0
    for line in text.splitlines(keepends=True):
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(
                fence[0]
            ):  # a longer one ends it, too
                fence = ""
        elif not line.strip():
            blank = True
        else:
            if blank and place > begun and not line[0].isspace() and text[begun:place].strip():
                blocks.append(text[begun:place])
                begun = place
            blank = False
            if found := _FENCE.match(line):
                fence = found[1]
        place += len(line)
    return blocks, text[begun:]
