"""`agent-service usage`: what models cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.text import Text

from agent_service.cli.connection import connect
from agent_service.cli.conversation import write_json
from agent_service.cli.start import Start
from agent_service.cli.table import print_table
from agent_service.cli.terminal import Terminal, printable

_COUNTS = {
    "calls": "calls",
    "failed": "failed",
    "prompt": "prompt_tokens",
    "cached": "cached_tokens",
    "answer": "completion_tokens",
}
"""The columns, and what they show."""


def show_usage(start: Start, by: str, days: int, *, everybody: bool, as_json: bool) -> None:
    """Print a table of the last days (UTC), and their total."""
    first = datetime.now(UTC).date() - timedelta(days=days - 1)
    with connect(start, needs_keys=False) as client:
        report = client.usage(by, first.isoformat(), everybody=everybody)
    if as_json:
        write_json(report)
        return
    terminal = Terminal()
    total = report["total"]
    if not total["calls"] and terminal.live:
        terminal.line(f"No model was called since {first.isoformat()}.")
        return
    rows = [_row(entry["name"] or "no thread", entry, grouped=terminal.live) for entry in report["entries"]]
    rows.append(_row("total", total, "bold", grouped=terminal.live))
    print_table(terminal, (by, *_COUNTS, "cost"), rows, numbers=(*_COUNTS, "cost"))
    if terminal.live:
        terminal.gap()
        for line in _remarks(total):
            terminal.line((line, "dim"))


def _row(name: str, numbers: dict[str, Any], style: str = "", *, grouped: bool) -> tuple[Text, ...]:
    """`grouped`: thousands are set apart, which programs could not read."""
    counts = (f"{numbers[each]:,}" if grouped else str(numbers[each]) for each in _COUNTS.values())
    return tuple(Text(cell, style) for cell in (printable(name), *counts, _cost(numbers)))


def _cost(numbers: dict[str, Any]) -> str:
    """What is known of the cost; of calls without a price all that is known is that there is more."""
    if not numbers["unpriced_calls"]:
        return f"${numbers['cost_usd']:,.4f}"
    return "?" if numbers["cost_usd"] is None else f"≥ ${numbers['cost_usd']:,.4f}"


def _remarks(total: dict[str, Any]) -> list[str]:
    """What one has to know to read the numbers."""
    told = ["prompt, cached, answer: tokens; cost: US dollars at list prices; days are those of UTC"]
    if unpriced := total["unpriced_calls"]:
        told.append(f"?, ≥: {_calls(unpriced)} of models whose price is not known")
    if estimated := total["estimated_calls"]:
        told.append(f"the tokens of {_calls(estimated)} are estimated: the provider told none")
    return told


def _calls(count: int) -> str:
    return f"{count:,} call{'s' * (count != 1)}"
