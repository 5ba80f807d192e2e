"""How a request would be routed now: made when somebody asks for it, and never for a request itself."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from routing.config import ProviderSpec
from routing.health import Block
from routing.policy import Goal, Ranked, Ranking
from routing.types import Payer, TaskClass
from routing.usage import Budgets


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a request would be routed now."""

    goal: Goal
    """What the order is made by."""
    task: TaskClass
    candidates: list[Ranked]
    """All of them, in the order in which they would be asked."""
    silent: list[tuple[ProviderSpec, str]]
    """The accounts that the request may mean and of which no model is known, and why."""


async def unpaid(ranking: Ranking, payer: Payer | None, budgets: Budgets | None) -> dict[int, Block]:
    """Of those that are ready, by their numbers, whose expected cost no budget allows, and why."""
    costs = {number: ranking.scores(number).cost for number in ranking.ready}
    dear = {number: usd for number, usd in costs.items() if usd}
    if payer is None or budgets is None or not dear:
        return {}
    calls = [(usd, ranking.slate.candidates[number].spec) for number, usd in dear.items()]
    refusals = await budgets.refusals(payer, calls)
    return {
        number: Block(inf if broke.retry_after is None else broke.retry_after, "cap", str(broke))
        for number, broke in zip(dear, refusals, strict=True)
        if broke
    }
