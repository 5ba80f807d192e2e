"""Tables for people, and the ages in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from agent_service.cli.terminal import Terminal, ago

_MIN_LAST = 12
"""Characters of the last column."""
_GAP = 3
"""Characters between two columns."""

Row = tuple[Text, ...]


def print_table(
    terminal: Terminal, titles: Sequence[str], rows: Sequence[Row], *, numbers: Collection[str] = ()
) -> None:
    """A table in which only the last column may be cut, because the others are copied.

    If `numbers` names columns, nothing is cut: those are set to the right, and the others may take several
    lines. For programs: everything, a line for each row, with tabs between the columns.
    """
    if not terminal.live:
        for cells in [titles, *([cell.plain for cell in row] for row in rows)]:
            terminal.console.file.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")
    elif numbers:
        _print_numbers(terminal, titles, rows, numbers)
    else:
        _print_cut(terminal, titles, rows)


def _print_numbers(
    terminal: Terminal, titles: Sequence[str], rows: Sequence[Row], numbers: Collection[str]
) -> None:
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for title in titles:
        if title in numbers:
            table.add_column(title, justify="right", no_wrap=True)
        else:
            table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    terminal.console.print(table)


def _print_cut(terminal: Terminal, titles: Sequence[str], rows: Sequence[Row]) -> None:
    *others, last = titles
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    fixed = 0
    for place, title in enumerate(others):
        width = max([len(title), *(cell_len(row[place].plain) for row in rows)])
        table.add_column(title, width=width, no_wrap=True)
        fixed += width + _GAP
    room = max(_MIN_LAST, terminal.console.width - fixed)
    table.add_column(last, width=room, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    terminal.console.print(table, width=fixed + room, crop=False)


def age(moment: str) -> str:
    """How long ago an ISO 8601 moment was, as people say it."""
    return ago((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
