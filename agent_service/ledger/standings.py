"""How accounts stand, kept over a restart: why they rest and until when, what is left of their allowances,
and how much of them was used today. And whose cap is used up, wherever that was spent.

A process that is killed loses the last two seconds of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

import orjson
from sqlalchemy.exc import SQLAlchemyError

from agent_service.chores import repeat
from agent_service.ledger.budgets import BudgetKeeper
from checkpoints.errors import DatabaseUnusable
from checkpoints.router_memory import RouterMemory
from routing.config import ProviderSpec
from routing.health import Health
from routing.pool import ProviderPool
from routing.standing import Standing

logger = logging.getLogger(__name__)

SAVE_SECONDS = 2.0
CAPS_SECONDS = 30.0
"""After so long it is seen again what was spent, by other processes too."""
PROOFS_SECONDS = 5.0
"""After so long it is seen which accounts other processes tried and found good."""
_PREFIX, _PROOF = "standing:", "proof:"


class StandingShelf:
    """Standings in the database: a row for each account that has one, sealed to its key."""

    def __init__(self, memory: RouterMemory) -> None:
        self._memory = memory
        self._saved: dict[str, bytes] = {}
        self._proofs: dict[str, bytes] = {}
        self._seals: dict[str, tuple[ProviderSpec, str]] = {}

    async def load(self) -> None:
        """Read what was saved."""
        self._saved = await self._memory.load(_PREFIX)
        self._proofs = await self._memory.load(_PROOF)

    async def standing(self, spec: ProviderSpec) -> Standing | None:
        """What is known of the account; None when nothing is, or it has another key or address now."""
        data = self._saved.get(_PREFIX + spec.account_id)
        if data is None:
            return None
        try:
            content = orjson.loads(data)
            if content["key"] != await self.seal(spec):
                return None
            return Standing.from_data(content["standing"])
        except (ValueError, KeyError, TypeError) as error:  # orjson's error is a ValueError
            logger.warning("how %s stood cannot be read: %s", spec.account_id, error)
            return None

    async def save(self, standings: Iterable[tuple[ProviderSpec, Standing]]) -> None:
        """Keep these, as far as they changed."""
        changed: dict[str, bytes] = {}
        for spec, standing in standings:
            name = _PREFIX + spec.account_id
            if standing == Standing() and name not in self._saved:
                continue
            data = orjson.dumps({"key": await self.seal(spec), "standing": standing.as_data()})
            if self._saved.get(name) != data:
                changed[name] = data
        await self._memory.save(changed)
        self._saved |= changed

    async def prove(self, specs: Iterable[ProviderSpec]) -> None:
        """Tell other processes that these accounts were tried and are good."""
        now = time.time()
        proofs = {_PROOF + each.account_id: orjson.dumps([await self.seal(each), now]) for each in specs}
        await self._memory.save(proofs)
        self._proofs |= proofs

    async def newly_proven(self, specs: Iterable[ProviderSpec]) -> list[str]:
        """Those of these accounts that another process found good since the last look, by their ids."""
        before, self._proofs = self._proofs, await self._memory.load(_PROOF)
        found = []
        for spec in specs:
            name = _PROOF + spec.account_id
            data = self._proofs.get(name)
            if data is None or data == before.get(name):
                continue
            if data.startswith(orjson.dumps([await self.seal(spec)])[:-1]):
                found.append(spec.account_id)
        return found

    async def seal(self, spec: ProviderSpec) -> str:
        """What tells whether it is the same account. Slow to make: no short key is to be guessed from it."""
        known = self._seals.get(spec.account_id)
        if known is None or not known[0].is_same_account(spec):
            known = self._seals[spec.account_id] = (spec, await asyncio.to_thread(_sealed, spec))
        return known[1]


class StandingKeeper:
    """Lets health go on from how accounts stood, and saves how they stand. Use it with `async with`."""

    def __init__(
        self,
        pool: ProviderPool,
        health: Health,
        shelf: StandingShelf,
        budgets: BudgetKeeper,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._health, self._clock = pool, health, clock
        self._shelf, self._budgets = shelf, budgets
        self._resumed: Mapping[str, ProviderSpec] = {}
        self._told: dict[str, int] = {}
        """Of each account, the proofs that other processes know of."""

    async def __aenter__(self) -> Self:
        await self._shelf.load()
        await self._resume()
        await self.look_at_caps()
        self._chores = [
            asyncio.create_task(repeat(chore, seconds, after=seconds))
            for chore, seconds in (
                (self.save, SAVE_SECONDS),
                (self.look_at_caps, CAPS_SECONDS),
                (self.look_at_proofs, PROOFS_SECONDS),
            )
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        try:
            await self.save()
        except (SQLAlchemyError, DatabaseUnusable) as fault:
            logger.error("how accounts stand could not be saved: %s", fault)

    async def save(self) -> None:
        """Keep how the accounts in service stand. Raises SQLAlchemyError, DatabaseUnusable."""
        await self._resume()
        await self._tell_proofs()
        snapshot = self._health.snapshot(self._clock())
        await self._shelf.save(
            [(spec, self._health.standing(spec.account_id, snapshot)) for spec in self._pool.specs]
        )

    async def look_at_caps(self) -> None:
        """See of which accounts nothing that costs may be asked today any more. Raises as `save`."""
        for spec in self._pool.specs:
            if spec.cap_usd_per_day is None:
                continue
            if broke := await self._budgets.used_up(spec):
                self._health.capped(spec.account_id, self._clock(), broke.retry_after or 0.0, str(broke))
            else:
                self._health.uncapped([spec.account_id])

    async def look_at_proofs(self) -> None:
        """Ask those again that another process tried and found good. Raises as `save`."""
        for place in await self._shelf.newly_proven(self._pool.specs):
            self._health.proven(place)
            self._told[place] = self._health.proofs[place]

    async def _tell_proofs(self) -> None:
        proofs = dict(self._health.proofs)
        await self._shelf.prove(
            spec
            for spec in self._pool.specs
            if proofs.get(spec.account_id) != self._told.get(spec.account_id)
        )
        self._told = proofs

    async def _resume(self) -> None:
        """Go on from what is known of accounts that came into service."""
        specs = {spec.account_id: spec for spec in self._pool.specs}
        for place, spec in specs.items():
            if place not in self._resumed and (standing := await self._shelf.standing(spec)):
                self._health.resume(place, standing, self._clock())
        self._resumed = specs


def _sealed(spec: ProviderSpec) -> str:
    key = spec.api_key.get_secret_value() if spec.api_key else ""
    said = orjson.dumps([spec.base_url, key, sorted(spec.headers.items())])
    return hashlib.scrypt(said, salt=spec.account_id.encode(), n=1 << 12, r=8, p=1, dklen=8).hex()
