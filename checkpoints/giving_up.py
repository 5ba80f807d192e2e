"""Ending a run that nobody can go on with, because rows of its thread are damaged."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database, Upsert
from checkpoints.errors import StateDamaged
from checkpoints.leases import claim
from checkpoints.rows import check_row, is_text
from checkpoints.runs import Run
from checkpoints.tables import runs, threads
from checkpoints.threads import is_void

_PUT_RUN = Upsert(runs, replace=True)
_LEASE = select(
    threads.c.principal, threads.c.run_id, threads.c.fence, threads.c.holder, threads.c.lease_until
).where(threads.c.status == "running")


async def give_up(database: Database, thread_id: str, clock: Callable[[], float] = time.time) -> Run | None:
    """Claim a run that nobody performs, so that it can be settled; None when somebody else was faster.

    Of the thread's row nothing but the lease is looked at. A row of the run that is missing or damaged is
    replaced by one without an instruction: the thread can be gone on with, and forked.
    """

    async def operation(connection: AsyncConnection) -> Run | None:
        lease = _LEASE.where(threads.c.thread_id == thread_id).with_for_update()
        found = (await connection.execute(lease)).one_or_none()
        if found is None or not is_void(found.holder, found.lease_until, await database.time(connection)):
            return None
        run_id = found.run_id if is_text(found.run_id) else uuid4().hex
        fence = await claim(database, connection, thread_id, found.fence, run_id)
        principal = found.principal if is_text(found.principal) else ""
        row = (await connection.execute(select(runs).where(runs.c.run_id == run_id))).one_or_none()
        if row is not None and _is_sound(thread_id, row):
            return Run.of(row, principal, fence)
        run = Run(run_id, thread_id, principal, "invoke", run_id, "", b"{}", fence)
        await connection.execute(_PUT_RUN.on(connection), run.row(clock()))
        return run

    return await database.write(operation)


def _is_sound(thread_id: str, row: Row[Any]) -> bool:
    try:
        check_row(thread_id, runs, row)
    except StateDamaged:
        return False
    return True
