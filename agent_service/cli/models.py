"""`agent-service models`: the candidates for a task, best first, and why they stand where they stand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from rich.box import SIMPLE
from rich.table import Table

from agent_service.api.route import example_request
from agent_service.cli.client import Json
from agent_service.cli.connection import connect
from agent_service.cli.conversation import write_json
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal, printable
from agent_service.keys.reading import joined_accounts
from agent_service.local_model import embedded_provider
from agent_service.model_pool import ModelPool, make_provider
from routing.policy import Ranked

Quality = Literal["fastest", "balanced", "best_quality"]


@asynccontextmanager
async def open_models(start: Start) -> AsyncIterator[ModelPool]:
    """The models that a service would have. Raises NoProviderConfigured if there are none."""
    settings, environ = start.settings, start.environ
    joined = await joined_accounts(settings, environ)
    async with ModelPool(
        joined.config,
        restricted=joined.restricted,
        own_port=settings.server.port,
        ollama_host=environ.get("OLLAMA_HOST"),
        embedded=lambda: embedded_provider(settings.data_dir, environ, make_provider),
    ) as models:
        await models.require_any()
        yield models


async def ranking(start: Start, task: str, quality: Quality) -> list[Ranked]:
    """All candidates in the order in which the agent would ask them. Raises NoProviderConfigured."""
    async with open_models(start) as models:
        explanation = await models.router.explain(example_request(task, quality, tools=True))
    return explanation.candidates


def show_models(start: Start, task: str | None, quality: Quality, *, as_json: bool) -> None:
    """Print the candidates of the running service, else of one that would run; with a task, the reasons."""
    with connect(start) as client:
        found = client.route(task or "", quality)
    if as_json:
        write_json(found)
        return
    terminal = Terminal()
    table = Table(box=SIMPLE if terminal.live else None, show_edge=False, pad_edge=False)
    table.add_column("model", overflow="fold")
    several = len({(each["provider"], each["account"]) for each in found}) > len(
        {each["provider"] for each in found}
    )
    if several:
        table.add_column("account", overflow="fold")
    for name in ("quality", "context", "price", "answer"):
        table.add_column(name, justify="right", no_wrap=True)
    if task is not None:
        table.add_column("why", overflow="fold")
    for each in found:
        cells = [printable(f"{each['provider']}/{each['model']}"), *([each["account"]] if several else [])]
        cells += [*_facts(each), *([printable(each["reason"])] if task is not None else [])]
        table.add_row(*cells, style="" if each["ready"] else "dim")
    terminal.console.print(table)
    terminal.gap()
    for line in _legend(found, several=several, with_reasons=task is not None):
        terminal.line((line, "dim"))


def _legend(found: list[Json], *, several: bool, with_reasons: bool) -> list[str]:
    """What one has to know to read the table."""
    lines = ["price: US dollars per million prompt / answer tokens; answer: expected seconds; ?: not known"]
    if with_reasons:
        waiting = sum(not each["ready"] for each in found)
        lines.append(f"asked from the top down; {len(found) - waiting} of {len(found)} may be asked now")
    if several:
        lines.append("account: which of your accounts at the provider; of equals the one with the most left")
    return lines


def _facts(each: Json) -> tuple[str, str, str, str]:
    return (
        "?" if each["rating"] is None else f"{each['quality']:.2f}",
        _size(each["context_window"]),
        _price(each["input_price"], each["output_price"]),
        f"{each['expected_seconds']:.1f} s",
    )


def _price(prompt: float | None, answer: float | None) -> str:
    if (prompt, answer) == (0, 0):
        return "free"
    return " / ".join("?" if price is None else f"{price:.2f}" for price in (prompt, answer))


def _size(tokens: int | None) -> str:
    if tokens is None:
        return "?"
    return f"{tokens / 1e6:.1f}M" if tokens >= 1_000_000 else f"{round(tokens / 1000)}k"
