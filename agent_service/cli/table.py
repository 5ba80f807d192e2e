"""Tables for people, and the ids and ages in them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from agent_service.cli.terminal import Terminal, ago

_SHORT_ID = 8
"""Characters of an id that are shown to a person, where they are enough to tell it from the others."""
_MIN_LAST = 12
"""Characters of the last column."""
_GAP = 2
"""Characters between two columns; one more where there are lines."""


def short_id(name: str, names: list[str]) -> str:
    """The beginning of the id if it is that of no other, else the id."""
    short = name[:_SHORT_ID]
    return short if sum(each.startswith(short) for each in names) == 1 else name


def print_table(terminal: Terminal, titles: Sequence[str], rows: Sequence[tuple[Text, ...]]) -> None:
    """A table in which only the last column may be cut, because the others are copied."""
    *others, last = titles
    table = Table(box=SIMPLE if terminal.live else None, show_edge=False, pad_edge=False)
    fixed = 0
    for place, title in enumerate(others):
        width = max(len(title), *(cell_len(row[place].plain) for row in rows))
        table.add_column(title, width=width, no_wrap=True)
        fixed += width + _GAP + terminal.live
    room = max(_MIN_LAST, terminal.console.width - fixed)
    table.add_column(last, width=room, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    terminal.console.print(table, width=fixed + room, crop=False)


def age(moment: str) -> str:
    """How long ago an ISO 8601 moment was, as people say it."""
    return ago((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
