"""Budgets: what was spent, and what calls under way may cost, so that many calls at once cannot overspend.

A reservation locks the sums it is checked against until it is committed: SQLite has one writer, PostgreSQL
locks the rows. So neither calls of one process nor those of several see the same money twice. It ends with
the call's settlement, or when its time is over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, bindparam, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database, Upsert
from checkpoints.tables import budget_holds, budgets

FOR_ALL_TIME = 0
"""The day of a sum that is not a day's."""
EVERYBODY = "all"


@dataclass(frozen=True, slots=True)
class Account:
    """Something that money is counted for."""

    scope: str
    day: int
    """Days since 1970 (UTC), or FOR_ALL_TIME."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be spent of an account."""

    account: Account
    usd: float


@dataclass(frozen=True, slots=True)
class Shortage:
    """A limit that does not allow a reservation."""

    limit: Limit
    spent: float
    held: float
    """What other calls under way may cost."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one call cost."""

    principal: str
    thread_id: str | None
    day: int
    usd: float
    provider: str
    account: str
    """At that provider."""

    @property
    def accounts(self) -> list[Account]:
        """What it is counted for."""
        found = [
            everybody(self.day),
            of_principal(self.principal, self.day),
            of_provider_account(self.provider, self.account, self.day),
        ]
        return found if self.thread_id is None else [*found, of_thread(self.thread_id)]


def everybody(day: int) -> Account:
    """What all calls of a day cost."""
    return Account(EVERYBODY, day)


def of_principal(name: str, day: int) -> Account:
    """What a principal's calls of a day cost."""
    return Account(f"principal:{name}", day)


def of_provider_account(provider: str, account: str, day: int) -> Account:
    """What a day's calls at one of our accounts at a provider cost."""
    return Account(f"account:{provider}/{account}", day)


def of_thread(thread_id: str) -> Account:
    """What a thread's calls cost."""
    return Account(f"thread:{thread_id}", FOR_ALL_TIME)


def _adding() -> dict[str, postgresql.Insert | sqlite.Insert]:
    statements: dict[str, postgresql.Insert | sqlite.Insert] = {}
    for dialect in (sqlite, postgresql):
        statement = dialect.insert(budgets)
        total = budgets.c.spent_usd + statement.excluded.spent_usd
        statements[dialect.dialect.name] = statement.on_conflict_do_update(
            index_elements=[budgets.c.scope, budgets.c.day], set_={"spent_usd": total}
        )
    return statements


_ADD = _adding()
_BEGIN = Upsert(budgets)
_HOLD = Upsert(budget_holds, replace=True)
_SPENT = select(budgets.c.spent_usd).where(
    budgets.c.scope == bindparam("scope"), budgets.c.day == bindparam("day")
)
_GIVE_BACK = delete(budget_holds).where(budget_holds.c.call_id.in_(bindparam("ids", expanding=True)))
_KEYS: BindParameter[Any] = bindparam("keys", expanding=True)
_ALL_SPENT = (
    select(budgets)
    .where(tuple_(budgets.c.scope, budgets.c.day).in_(_KEYS))
    .order_by(budgets.c.scope, budgets.c.day)
    .with_for_update()
)
_ALL_HELD = (
    select(budget_holds.c.scope, budget_holds.c.day, func.sum(budget_holds.c.usd).label("usd"))
    .where(
        tuple_(budget_holds.c.scope, budget_holds.c.day).in_(_KEYS),
        budget_holds.c.call_id != bindparam("call_id"),
        budget_holds.c.expires_at > bindparam("now"),
    )
    .group_by(budget_holds.c.scope, budget_holds.c.day)
)


class BudgetStore:
    """Reserves money and remembers what was spent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(
        self, call_id: str, limits: Sequence[Limit], usd: float, seconds: float
    ) -> Shortage | None:
        """Hold so much for a call, for so long at most; an earlier hold of the same call is replaced.

        The first limit that does not allow it comes back instead, and nothing is changed.
        """
        accounts = _in_order(each.account for each in limits)

        async def operation(connection: AsyncConnection) -> Shortage | None:
            now = await self._database.time(connection)
            spent = await _locked(connection, accounts)
            held = await _held(connection, accounts, call_id, now)
            for limit in limits:
                shortage = Shortage(limit, spent.get(limit.account, 0.0), held.get(limit.account, 0.0))
                if shortage.spent + shortage.held + usd > limit.usd:
                    return shortage
            rows = [
                {**_key(each), "call_id": call_id, "usd": usd, "expires_at": now + seconds}
                for each in accounts
            ]
            await connection.execute(_HOLD.on(connection), rows)
            return None

        return await self._database.write(operation)

    async def spent(self, account: Account) -> float:
        """US dollars."""
        async with self._database.read() as connection:
            found = await connection.execute(_SPENT, _key(account))
            return float(found.scalar_one_or_none() or 0.0)

    async def forget_before(self, day: int) -> None:
        """Delete the sums of earlier days, and what was held by processes that died."""

        async def operation(connection: AsyncConnection) -> None:
            now = await self._database.time(connection)
            await connection.execute(
                delete(budgets).where(budgets.c.day < day, budgets.c.day != FOR_ALL_TIME)
            )
            await connection.execute(delete(budget_holds).where(budget_holds.c.expires_at < now))

        await self._database.write(operation)


async def settle(connection: AsyncConnection, charges: Sequence[Charge], call_ids: Sequence[str]) -> None:
    """Count what calls cost, and give back what was held for them; within the caller's transaction."""
    sums: dict[Account, float] = defaultdict(float)
    for charge in charges:
        for account in charge.accounts:
            sums[account] += charge.usd
    rows = [{**_key(account), "spent_usd": sums[account]} for account in _in_order(sums)]
    if rows:
        await connection.execute(_ADD[connection.dialect.name], rows)
    if call_ids:
        await connection.execute(_GIVE_BACK, {"ids": call_ids})


async def _locked(connection: AsyncConnection, accounts: Sequence[Account]) -> dict[Account, float]:
    """What was spent of these; nobody else changes or locks it until the transaction ends."""
    if connection.dialect.name != "sqlite":  # where there is no row yet, there is nothing to lock
        await connection.execute(
            _BEGIN.on(connection), [{**_key(each), "spent_usd": 0.0} for each in accounts]
        )
    rows = await connection.execute(_ALL_SPENT, {"keys": _keys(accounts)})
    return {Account(row.scope, row.day): row.spent_usd for row in rows}


async def _held(
    connection: AsyncConnection, accounts: Sequence[Account], call_id: str, now: float
) -> dict[Account, float]:
    """What other calls under way may cost."""
    values = {"keys": _keys(accounts), "call_id": call_id, "now": now}
    rows = await connection.execute(_ALL_HELD, values)
    return {Account(row.scope, row.day): row.usd for row in rows}


def _in_order(accounts: Iterable[Account]) -> list[Account]:
    """Always the same order, so that two transactions cannot wait for each other's locks."""
    return sorted(accounts, key=lambda each: (each.scope, each.day))


def _keys(accounts: Sequence[Account]) -> list[tuple[str, int]]:
    return [(each.scope, each.day) for each in accounts]


def _key(account: Account) -> dict[str, str | int]:
    return {"scope": account.scope, "day": account.day}
