"""What tests of the ledger share: a call as it is booked, and a database to book it in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from checkpoints.database import Database
from checkpoints.opening import open_database
from routing.types import Payer
from routing.usage import ModelCall, Tokens
from tests.databases import Place

CALL = ModelCall(
    id="c0",
    payer=Payer("alice", "thread-01", "r1"),
    task="chat",
    provider="acme",
    account="team",
    model="m",
    tokens=Tokens(10, 20),
    estimated=False,
    cost_usd=0.25,
    charged_usd=0.25,
    seconds=1.0,
    ttft=None,
    outcome="ok",
)


def on(place: Place, scenario: Callable[[Database], Awaitable[None]]) -> None:
    """Play a scenario on that database."""

    async def run() -> None:
        async with open_database(place) as database:
            await scenario(database)

    asyncio.run(run())
