"""The book of calls: written down in batches, so that no request waits for it.

A second's worth of calls is in memory only; a process that is killed loses it. What those calls had reserved
stays set aside until their time would have been over, so a budget errs on the safe side.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from agent_service.chores import repeat
from checkpoints.columns import storable
from checkpoints.errors import DatabaseUnusable
from checkpoints.usage import Grouping, UsageGroup, UsageRow, UsageStore, UsageSum
from routing.usage import ModelCall

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
BATCH = 500
"""Calls that are stored in one transaction at most."""
MOST_WAITING = 10_000
"""Calls kept in memory while the database takes none; those beyond are not counted."""
LONGEST_MODEL = 255


class UsageBook:
    """Implements routing's `UsageSink`. Use it with `async with`."""

    def __init__(self, store: UsageStore, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._waiting: deque[UsageRow] = deque()
        self._noted = self._stored = self._lost = 0
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._chore = asyncio.create_task(repeat(self._try_flush, FLUSH_SECONDS, after=FLUSH_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chore.cancel()
        await asyncio.gather(self._chore, return_exceptions=True)
        await self._try_flush()

    def record(self, call: ModelCall) -> None:
        """Take note of a finished call; it is stored within a second."""
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
        else:
            self._waiting.append(_row(call, self._clock()))
            self._noted += 1

    async def flush(self) -> None:
        """Store what was noted so far. Raises SQLAlchemyError, DatabaseUnusable; then it is tried again."""
        wanted = self._noted
        while self._stored < wanted:
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write_batch())
                self._writing.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(self._writing)  # who leaves does not stop it: others wait for it, too

    async def report(
        self, by: Grouping, first_day: int, last_day: int, principal: str | None
    ) -> tuple[UsageSum, list[UsageGroup]]:
        """What was used on these days, up to this moment; `principal` None = by everybody."""
        await self.flush()
        return await self._store.report(by, first_day, last_day, principal)

    async def _write_batch(self) -> None:
        batch = list(islice(self._waiting, BATCH))
        await self._store.add(batch)
        for _ in batch:
            self._waiting.popleft()
        self._stored += len(batch)

    async def _try_flush(self) -> None:
        try:
            await self.flush()
        except (SQLAlchemyError, DatabaseUnusable) as error:
            logger.error("%d calls wait to be counted: %s", len(self._waiting), error)
        if self._lost:
            logger.error("%d calls were not counted: too many waited for the database", self._lost)
            self._lost = 0


def _row(call: ModelCall, now: float) -> UsageRow:
    return UsageRow(
        call_id=call.id,
        principal=call.payer.principal,
        thread_id=call.payer.thread_id,
        run_id=call.payer.run_id,
        task=call.task,
        provider=call.provider,
        account=call.account,
        model=storable(call.model)[:LONGEST_MODEL],
        prompt_tokens=call.tokens.prompt,
        completion_tokens=call.tokens.completion,
        cached_tokens=call.tokens.cached,
        reasoning_tokens=call.tokens.reasoning,
        estimated=call.estimated,
        cost_usd=call.cost_usd,
        latency=call.seconds,
        ttft=call.ttft,
        outcome=call.outcome,
        created_at=now,
        charged_usd=call.charged_usd,
    )
