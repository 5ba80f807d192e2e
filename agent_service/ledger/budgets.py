"""Budgets as the operator sets them: what a call may still cost, and what to tell whom it is too much."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from agent_service.ledger.book import UsageBook
from agent_service.settings import BudgetSettings
from checkpoints.budgets import Account, BudgetStore, Limit, Shortage, everybody, of_principal, of_thread
from checkpoints.usage import DAY_SECONDS
from routing.types import Payer
from routing.usage import BudgetExceeded


@dataclass(frozen=True, slots=True)
class _Budget:
    """A limit and how to speak of it."""

    setting: str
    whose: str
    limit: Limit
    renewed: bool
    """Whether it begins anew at midnight UTC."""


class BudgetKeeper:
    """Implements routing's `Budgets`."""

    def __init__(
        self,
        settings: BudgetSettings,
        book: UsageBook,
        store: BudgetStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self._book, self._store, self._clock = book, store, clock

    async def reserve(self, call_id: str, payer: Payer, usd: float, seconds: float) -> None:
        """Set money aside for a call. Raises BudgetExceeded, and SQLAlchemyError when nobody can tell."""
        budgets = self._budgets(payer)
        if not budgets:
            return
        await self._book.flush()  # what earlier calls really cost, in the place of what they might have
        limits = [each.limit for each in budgets]
        short = await self._store.reserve(call_id, limits, usd, seconds)
        if short is not None:
            budget = next(each for each in budgets if each.limit == short.limit)
            raise self._exceeded(budget, short, usd)

    def _budgets(self, payer: Payer) -> list[_Budget]:
        """Those that the payer's calls count against."""
        settings, day = self.settings, int(self._clock() // DAY_SECONDS)
        known: list[tuple[str, str, Account | None, float | None]] = [
            ("per_day_usd", "a day", everybody(day), settings.per_day_usd),
            (
                "per_principal_day_usd",
                f"a day for {payer.principal}",
                of_principal(payer.principal, day),
                settings.per_principal_day_usd,
            ),
            (
                "per_thread_usd",
                "for each thread",
                of_thread(payer.thread_id) if payer.thread_id else None,
                settings.per_thread_usd,
            ),
        ]
        return [
            _Budget(setting, whose, Limit(account, usd), renewed=setting != "per_thread_usd")
            for setting, whose, account, usd in known
            if account is not None and usd is not None
        ]

    def _exceeded(self, budget: _Budget, short: Shortage, usd: float) -> BudgetExceeded:
        under_way = f" and {_money(short.held)} set aside for calls under way" if short.held else ""
        way_out = "Wait for midnight UTC" if budget.renewed else "Go on in a new thread"
        return BudgetExceeded(
            f"The budget of {_money(budget.limit.usd)} {budget.whose} (budgets.{budget.setting}) does not "
            f"allow this: {_money(short.spent)} are spent{under_way}, and it may cost {_money(usd)}. "
            f"{way_out}, name a smaller max_tokens, take a free model, or raise the budget.",
            retry_after=DAY_SECONDS - self._clock() % DAY_SECONDS if budget.renewed else None,
        )


def _money(usd: float) -> str:
    """US dollars with as many digits as tell something."""
    return f"${usd:,.2f}" if usd >= 0.995 or not usd else f"${usd:.2g}" if usd >= 0.0001 else "$0.0001"
