"""The account book: one row for each finished call of a model, and sums of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Integer,
    RowMapping,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.budgets import Charge, settle
from checkpoints.database import Database
from checkpoints.tables import usage

DAY_SECONDS = 86_400
MOST_ROWS = 1000
"""Rows of a report at most; of days the latest, of all else the dearest."""

Grouping = Literal["day", "provider", "account", "model", "thread"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One finished call."""

    call_id: str
    principal: str
    thread_id: str | None
    run_id: str | None
    task: str
    provider: str
    account: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Of the prompt's, those read from a cache."""
    reasoning_tokens: int
    """Of the answer's, those not shown."""
    estimated: bool
    """Whether nobody told the counts."""
    cost_usd: float | None
    """None = a price is not known."""
    latency: float
    """Seconds."""
    ttft: float | None
    outcome: str
    created_at: float
    """Seconds since 1970."""
    charged_usd: float = 0.0
    """What budgets count; it is in their sums only."""

    @property
    def day(self) -> int:
        """Days since 1970 (UTC)."""
        return int(self.created_at // DAY_SECONDS)


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Some calls, together."""

    calls: int
    failed: int
    """Those that did not end well."""
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float
    """Of the calls whose price is known."""
    unpriced_calls: int
    """Those whose price is not known."""
    estimated_calls: int
    """Those whose tokens nobody told."""
    latency: float | None
    """Seconds, on average over those that ended well; None = there are none. Likewise `ttft`."""
    ttft: float | None


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """The calls of one day, provider, model or thread."""

    name: int | str | None
    """The day since 1970, the provider, `provider/account`, `provider/model`, or the thread; None = calls
    without a thread."""
    sum: UsageSum


def _number(condition: Any) -> Any:
    return func.coalesce(func.sum(cast(condition, Integer)), 0)


_WELL = usage.c.outcome == "ok"
_SUMS = (
    func.count().label("calls"),
    _number(usage.c.outcome != "ok").label("failed"),
    *(
        func.coalesce(func.sum(usage.c[name]), 0).label(name)
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cost_usd")
    ),
    _number(usage.c.cost_usd.is_(None)).label("unpriced_calls"),
    _number(usage.c.estimated).label("estimated_calls"),
    func.avg(usage.c.latency).filter(_WELL).label("latency"),
    func.avg(usage.c.ttft).filter(_WELL).label("ttft"),
)
_NAMES: Mapping[Grouping, Any] = {
    "day": usage.c.day,
    "provider": usage.c.provider,
    "account": usage.c.provider + literal_column("'/'") + usage.c.account,
    "model": usage.c.provider + literal_column("'/'") + usage.c.model,
    "thread": usage.c.thread_id,
}

_STORED = (*(each.name for each in fields(UsageRow) if each.name != "charged_usd"), "day")
_VALUES = attrgetter(*_STORED)
"""Of a row, what is stored of it."""
_ALREADY = select(usage.c.call_id).where(usage.c.call_id.in_(bindparam("ids", expanding=True)))


class UsageStore:
    """Keeps what calls cost."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Store calls, count them against the budgets, and give back what was held for them.

        All or nothing; a call that is stored already is left as it is, so a doubtful attempt can be repeated.
        """

        async def operation(connection: AsyncConnection) -> None:
            new = await _unknown(connection, rows)
            if new:
                columns = [dict(zip(_STORED, _VALUES(row), strict=True)) for row in new]
                await connection.execute(insert(usage), columns)
            await settle(
                connection,
                [
                    Charge(row.principal, row.thread_id, row.day, row.charged_usd, row.provider, row.account)
                    for row in new
                    if row.charged_usd
                ],
                [row.call_id for row in rows],
            )

        await self._database.write(operation)

    async def report(
        self, by: Grouping, first_day: int, last_day: int, principal: str | None
    ) -> tuple[UsageSum, list[UsageGroup]]:
        """The sum of the calls on these days, and their groups; `principal` None = of everybody."""
        chosen: ColumnElement[bool] = usage.c.day.between(first_day, last_day)
        if principal is not None:
            chosen = and_(chosen, usage.c.principal == principal)
        name = _NAMES[by].label("name")
        groups = select(name, *_SUMS).where(chosen).group_by(name).limit(MOST_ROWS)
        order = (name.desc(),) if by == "day" else (func.sum(usage.c.cost_usd).desc().nulls_last(), name)
        async with self._database.read() as connection:
            total = (await connection.execute(select(*_SUMS).where(chosen))).mappings().one()
            found = (await connection.execute(groups.order_by(*order))).mappings().all()
        return _sum(total), [UsageGroup(row["name"], _sum(row)) for row in found]

    async def forget_before(self, day: int) -> None:
        """Delete the rows of earlier days."""
        await self._database.write(
            lambda connection: connection.execute(delete(usage).where(usage.c.day < day))
        )


async def _unknown(connection: AsyncConnection, rows: Sequence[UsageRow]) -> list[UsageRow]:
    known = await connection.execute(_ALREADY, {"ids": [row.call_id for row in rows]})
    found = set(known.scalars())
    return [row for row in rows if row.call_id not in found]


def _sum(row: RowMapping) -> UsageSum:
    return UsageSum(**{each.name: row[each.name] for each in fields(UsageSum)})
