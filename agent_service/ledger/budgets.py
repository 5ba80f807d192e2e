"""Budgets as the operator sets them: what a call may still cost, and what to tell whom it is too much."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent_service.ledger.book import UsageBook
from agent_service.sections import BudgetSettings
from checkpoints.budgets import (
    Account,
    BudgetStore,
    Limit,
    Shortage,
    everybody,
    of_principal,
    of_provider_account,
    of_thread,
)
from checkpoints.usage import DAY_SECONDS
from routing.config import ProviderSpec
from routing.types import Payer
from routing.usage import BudgetExceeded

USED_UP = 0.99
"""Share of a cap from which on the account is passed over without doing the sum for each call."""


@dataclass(frozen=True, slots=True)
class _Budget:
    """A limit and how to speak of it."""

    setting: str
    whose: str
    limit: Limit
    renewed: bool
    """Whether it begins anew at midnight UTC."""
    is_cap: bool = False
    """Whether it is the cap of an account: others may still be asked."""


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

    async def reserve(
        self, call_id: str, payer: Payer, usd: float, seconds: float, spec: ProviderSpec
    ) -> None:
        """Set money aside for a call. Raises BudgetExceeded, and SQLAlchemyError when nobody can tell."""
        budgets = [*self._budgets(payer), *self._cap(spec)]
        if not budgets:
            return
        await self._book.flush()  # what earlier calls really cost, in the place of what they might have
        limits = [each.limit for each in budgets]
        short = await self._store.reserve(call_id, limits, usd, seconds)
        if short is not None:
            raise self._told(next(each for each in budgets if each.limit == short.limit), spec, short, usd)

    async def used_up(self, spec: ProviderSpec) -> BudgetExceeded | None:
        """Why nothing may be spent at the account today any more; None = something may be."""
        for cap in self._cap(spec):
            spent = await self._store.spent(cap.limit.account)
            if _is_used_up(spent, cap.limit.usd):
                return self._capped(spec, Shortage(cap.limit, spent, 0.0), 0.0)
        return None

    async def refusals(
        self, payer: Payer, calls: Sequence[tuple[float, ProviderSpec]]
    ) -> list[BudgetExceeded | None]:
        """For each call, so dear at that account, why it could not be paid now; None = it could.

        Raises SQLAlchemyError when nobody can tell.
        """
        shared = self._budgets(payer)
        budgets = [[*shared, *self._cap(spec)] for _, spec in calls]
        if not any(budgets):
            return [None for _ in calls]
        await self._book.flush()
        accounts = {each.limit.account for of_call in budgets for each in of_call}
        spent = {account: await self._store.spent(account) for account in accounts}
        return [
            self._refusal(of_call, spec, usd, spent)
            for (usd, spec), of_call in zip(calls, budgets, strict=True)
        ]

    async def spent_today(self, spec: ProviderSpec) -> float:
        """US dollars that this day's calls (UTC) at the account took, as budgets count them."""
        return await self._store.spent(of_provider_account(spec.name, spec.account, self._today))

    def _refusal(
        self, budgets: Sequence[_Budget], spec: ProviderSpec, usd: float, spent: Mapping[Account, float]
    ) -> BudgetExceeded | None:
        for budget in budgets:
            short = Shortage(budget.limit, spent[budget.limit.account], 0.0)
            if short.spent + usd > budget.limit.usd:
                return self._told(budget, spec, short, usd)
        return None

    def _cap(self, spec: ProviderSpec) -> list[_Budget]:
        """The account's own, if it has one."""
        if spec.cap_usd_per_day is None:
            return []
        account = of_provider_account(spec.name, spec.account, self._today)
        return [_Budget("", "", Limit(account, spec.cap_usd_per_day), renewed=True, is_cap=True)]

    def _budgets(self, payer: Payer) -> list[_Budget]:
        """Those that the payer's calls count against."""
        settings, day = self.settings, self._today
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

    def _capped(self, spec: ProviderSpec, short: Shortage, usd: float) -> BudgetExceeded:
        cap, spent = short.limit.usd, _is_used_up(short.spent, short.limit.usd)
        if spent:
            why = f"is used up ({_money(short.spent)} spent)"
        else:
            under_way = f", {_money(short.held)} set aside for calls under way" if short.held else ""
            why = f"does not allow a call of {_money(usd)} ({_money(short.spent)} spent{under_way})"
        return BudgetExceeded(
            f"The cap of {_money(cap)} a day of {spec.name}/{spec.account} {why}; it begins anew at midnight "
            "UTC",
            retry_after=self._until_midnight,
            account_id=spec.account_id,
            spent=spent,
        )

    def _told(self, budget: _Budget, spec: ProviderSpec, short: Shortage, usd: float) -> BudgetExceeded:
        return self._capped(spec, short, usd) if budget.is_cap else self._exceeded(budget, short, usd)

    @property
    def _today(self) -> int:
        return int(self._clock() // DAY_SECONDS)

    @property
    def _until_midnight(self) -> float:
        return DAY_SECONDS - self._clock() % DAY_SECONDS

    def _exceeded(self, budget: _Budget, short: Shortage, usd: float) -> BudgetExceeded:
        under_way = f" and {_money(short.held)} set aside for calls under way" if short.held else ""
        way_out = "Wait for midnight UTC" if budget.renewed else "Go on in a new thread"
        return BudgetExceeded(
            f"The budget of {_money(budget.limit.usd)} {budget.whose} (budgets.{budget.setting}) does not "
            f"allow this call: {_money(short.spent)} are spent without it{under_way}, and it may cost "
            f"{_money(usd)} in all. "
            f"{way_out}, name a smaller max_tokens, take a free model, or raise the budget.",
            retry_after=self._until_midnight if budget.renewed else None,
        )


def _is_used_up(spent: float, cap: float) -> bool:
    """Whether not even a small call fits."""
    return spent >= USED_UP * cap


def _money(usd: float) -> str:
    """US dollars with as many digits as tell something."""
    return f"${usd:,.2f}" if usd >= 0.995 or not usd else f"${usd:.2g}" if usd >= 0.0001 else "$0.0001"
