"""`agent-service models`: the candidates for a task, best first, and why they stand where they stand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from rich.box import SIMPLE
from rich.table import Table

from agent_service.api.route import RouteCandidate, example_request
from agent_service.cli.conversation import write_json
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal, printable
from agent_service.keys.reading import joined_accounts
from agent_service.local_model import embedded_provider
from agent_service.model_pool import ModelPool, make_provider
from routing.candidate import Candidate
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


async def candidates(start: Start) -> tuple[Candidate, ...]:
    """Every model of every provider. Raises NoProviderConfigured."""
    async with open_models(start) as models:
        return await models.router.pool.candidates()


async def ranking(start: Start, task: str, quality: Quality) -> list[Ranked]:
    """All candidates in the order in which the agent would ask them. Raises NoProviderConfigured."""
    async with open_models(start) as models:
        explanation = await models.router.explain(example_request(task, quality, tools=True))
    return explanation.candidates


def show_models(start: Start, task: str | None, quality: Quality, *, as_json: bool) -> None:
    """Print the candidates, with the reasons when there is a task."""
    ranked = asyncio.run(ranking(start, task or "", quality))
    if as_json:
        write_json([RouteCandidate.of(entry, place).model_dump() for place, entry in enumerate(ranked, 1)])
        return
    terminal = Terminal()
    table = Table(box=SIMPLE if terminal.live else None, show_edge=False, pad_edge=False)
    table.add_column("model", overflow="fold")
    for name in ("quality", "context", "price", "answer"):
        table.add_column(name, justify="right", no_wrap=True)
    if task is not None:
        table.add_column("why", overflow="fold")
    for entry in ranked:
        cells = [printable(entry.candidate.name), *_facts(entry)]
        style = "" if entry.is_ready else "dim"
        table.add_row(*cells, *([entry.reason] if task is not None else []), style=style)
    terminal.console.print(table)
    terminal.gap()
    terminal.line(("price: US dollars per million prompt / answer tokens; answer: expected seconds", "dim"))


def _facts(entry: Ranked) -> tuple[str, str, str, str]:
    card = entry.candidate.card
    return (
        "?" if card.quality is None else f"{card.quality:.2f}",
        _size(card.context_window),
        _price(entry.candidate),
        f"{entry.scores.seconds:.1f} s",
    )


def _price(candidate: Candidate) -> str:
    if candidate.is_free:
        return "free"
    return " / ".join("?" if price is None else f"{price:.2f}" for price in candidate.prices)


def _size(tokens: int | None) -> str:
    if tokens is None:
        return "?"
    return f"{tokens / 1e6:.1f}M" if tokens >= 1_000_000 else f"{round(tokens / 1000)}k"
