"""`agent-service models`: the candidates for a task, best first, and why they stand where they stand."""

from __future__ import annotations

from rich.text import Text

from agent_service.cli.client import Json
from agent_service.cli.connection import connect
from agent_service.cli.conversation import write_json
from agent_service.cli.start import Start
from agent_service.cli.table import print_table
from agent_service.cli.terminal import Terminal, printable

_NUMBERS = ("quality", "context", "price", "answer")


def show_models(start: Start, task: str | None, quality: str, *, as_json: bool) -> None:
    """Print the candidates of the running service, else of one that would run; with a task, the reasons."""
    with connect(start) as client:
        answer = client.route(task or "", quality)
    found = answer["candidates"]
    if as_json:
        write_json(found)
        return
    terminal = Terminal()
    accounts = {(each["provider"], each["account"]) for each in found}
    several = len(accounts) > len({provider for provider, _ in accounts})
    titles = ("model", *(["account"] if several else []), *_NUMBERS, *([] if task is None else ["why"]))
    rows = [tuple(_cell(each, title) for title in titles) for each in found]
    print_table(terminal, titles, rows, numbers=_NUMBERS)
    for each in answer["silent"]:
        name = f"{each['provider']}/{each['account']}"
        terminal.line(("! ", "yellow"), f"{name}: {each['reason']}; none of its models can be chosen")
    if terminal.live:
        terminal.gap()
        for line in _legend(found, several=several, with_reasons=task is not None):
            terminal.line((line, "dim"))


def _cell(each: Json, title: str) -> Text:
    words = {
        "model": f"{each['provider']}/{each['model']}",
        "account": each["account"],
        "quality": "?" if each["rating"] is None else f"{each['quality']:.2f}",
        "context": _size(each["context_window"]),
        "price": _price(each["input_price"], each["output_price"]),
        "answer": f"{each['expected_seconds']:.1f} s",
        "why": each["reason"],
    }
    return Text(printable(words[title]), "" if each["ready"] else "dim")


def _legend(found: list[Json], *, several: bool, with_reasons: bool) -> list[str]:
    """What one has to know to read the table."""
    lines = ["price: US dollars per million prompt / answer tokens; answer: expected seconds; ?: not known"]
    if with_reasons:
        waiting = sum(not each["ready"] for each in found)
        lines.append(f"asked from the top down; {len(found) - waiting} of {len(found)} may be asked now")
    if several:
        lines.append("account: which of your accounts at the provider; of equals the one with the most left")
    return lines


def _price(prompt: float | None, answer: float | None) -> str:
    if (prompt, answer) == (0, 0):
        return "free"
    return " / ".join("?" if price is None else f"{price:.2f}" for price in (prompt, answer))


def _size(tokens: int | None) -> str:
    if tokens is None:
        return "?"
    return f"{tokens / 1e6:.1f}M" if tokens >= 1_000_000 else f"{round(tokens / 1000)}k"
