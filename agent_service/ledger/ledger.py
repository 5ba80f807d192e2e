"""All that the service keeps about calls of models, opened on a database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agent_service.chores import repeating
from agent_service.ledger.answers import AnswerCache
from agent_service.ledger.book import UsageBook
from agent_service.ledger.budgets import BudgetKeeper
from agent_service.ledger.lessons import LessonShelf
from agent_service.ledger.standings import StandingShelf
from agent_service.settings import Settings
from checkpoints.budgets import BudgetStore
from checkpoints.database import Database
from checkpoints.response_cache import ResponseCache
from checkpoints.router_memory import RouterMemory
from checkpoints.usage import DAY_SECONDS, UsageStore
from routing.meter import Meter

TIDY_AFTER_SECONDS = 60.0
"""From the start on, when there is more time."""
TIDY_SECONDS = 6 * 3600.0
"""How often what is too old is looked for."""
LESSONS_KEPT_DAYS = 180
"""How long is remembered what was learned of a model that nobody asks any more."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Calls and their costs, budgets, kept answers, what the router learned, and how accounts stand."""

    book: UsageBook
    budgets: BudgetKeeper
    answers: AnswerCache
    lessons: LessonShelf
    standings: StandingShelf

    @property
    def meter(self) -> Meter:
        """What a router measures its calls with."""
        return Meter(self.book, self.budgets)


@asynccontextmanager
async def open_ledger(database: Database, settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger in that database; what is in memory of it is written down at the end."""
    usage, budgets = UsageStore(database), BudgetStore(database)
    cache, memory = ResponseCache(database), RouterMemory(database)

    async def tidy() -> None:
        today = int(time.time() // DAY_SECONDS)
        if settings.state.keep_usage_days is not None:
            await usage.forget_before(today - settings.state.keep_usage_days)
        await budgets.forget_before(today)
        await cache.forget_expired()
        await memory.forget_before(time.time() - LESSONS_KEPT_DAYS * DAY_SECONDS)

    async with UsageBook(usage) as book, repeating(tidy, TIDY_SECONDS, after=TIDY_AFTER_SECONDS):
        yield Ledger(
            book,
            BudgetKeeper(settings.budgets, book, budgets),
            AnswerCache(settings.cache, cache),
            LessonShelf(memory),
            StandingShelf(memory),
        )
