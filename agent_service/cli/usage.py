"""`agent-service usage`: what models cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from agent_service.cli.connection import connect
from agent_service.cli.conversation import write_json
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal, printable

_TITLES = ("calls", "failed", "prompt", "cached", "answer", "cost")


def show_usage(start: Start, by: str, days: int, *, everybody: bool, as_json: bool) -> None:
    """Print a table of the last days (UTC), and their total."""
    first = datetime.now(UTC).date() - timedelta(days=days - 1)
    with connect(start) as client:
        report = client.usage(by, first.isoformat(), everybody=everybody)
    if as_json:
        write_json(report)
        return
    terminal = Terminal()
    total = report["total"]
    if not total["calls"]:
        terminal.line(f"No model was called since {first.isoformat()}.")
        return
    terminal.console.print(_table(terminal, by, report["entries"], total))
    terminal.gap()
    for line in _remarks(total):
        terminal.line((line, "dim"))


def _table(terminal: Terminal, by: str, entries: list[dict[str, Any]], total: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE if terminal.live else None, show_edge=False, pad_edge=False)
    table.add_column(by, overflow="fold")
    for title in _TITLES:
        table.add_column(title, justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(printable(entry["name"] or "no thread"), *_cells(entry))
    table.add_row("total", *_cells(total), style="bold")
    return table


def _cells(numbers: dict[str, Any]) -> list[str]:
    counts = ("calls", "failed", "prompt_tokens", "cached_tokens", "completion_tokens")
    return [*(f"{numbers[name]:,}" for name in counts), f"${numbers['cost_usd']:,.4f}"]


def _remarks(total: dict[str, Any]) -> list[str]:
    """What one has to know to read the numbers."""
    told = ["prompt, cached, answer: tokens; cost: US dollars at list prices; days are those of UTC"]
    if total["unpriced_calls"]:
        told.append(f"{total['unpriced_calls']:,} calls were of models whose price is not known")
    if total["estimated_calls"]:
        told.append(f"of {total['estimated_calls']:,} calls the tokens are estimated: the provider told none")
    return told
