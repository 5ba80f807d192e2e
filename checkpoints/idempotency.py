"""Idempotency keys: a client's name for one request, so that a repeat of it is not a second one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Upsert
from checkpoints.errors import KeyReused, ThreadBusy, ThreadDeleted
from checkpoints.tables import idempotency, runs

REMEMBERED_SECONDS = 24 * 3600
"""How long a key is kept."""

_RESERVE = Upsert(idempotency)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key of a request to a route, with the hash of the body it came with."""

    route: str
    key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The request was served before; this is its response, byte for byte."""

    response: bytes


async def find_response(
    connection: AsyncConnection, principal: str, key: IdempotencyKey, now: float
) -> Finished | None:
    """The response kept for this key.

    Raises ThreadBusy while it is not there yet, KeyReused, and ThreadDeleted: a key outlives its run, with
    which it was stored in one transaction.
    """
    row = (
        await connection.execute(
            select(idempotency.c.body_hash, runs.c.run_id, runs.c.response)
            .outerjoin(runs, runs.c.run_id == idempotency.c.run_id)
            .where(
                idempotency.c.principal == principal,
                idempotency.c.route == key.route,
                idempotency.c.key == key.key,
                idempotency.c.created_at >= now - REMEMBERED_SECONDS,
            )
        )
    ).one_or_none()
    if row is None:
        return None
    if row.body_hash != key.body_hash:
        raise KeyReused
    if row.run_id is None:
        raise ThreadDeleted
    if row.response is None:
        raise ThreadBusy(
            "This very request is being served; ask again for its response.", param="Idempotency-Key"
        )
    return Finished(row.response)


async def reserve(
    connection: AsyncConnection, principal: str, key: IdempotencyKey, run_id: str, now: float
) -> Finished | None:
    """Keep the key for a run, or give the response that it has already.

    Two requests at once are told apart here: the second waits for the first one's transaction to end.
    Raises ThreadBusy, KeyReused, ThreadDeleted.
    """
    await forget_expired(connection, now)
    row = {
        "principal": principal,
        "route": key.route,
        "key": key.key,
        "body_hash": key.body_hash,
        "run_id": run_id,
        "created_at": now,
    }
    done = await connection.execute(_RESERVE.on(connection), row)
    return None if done.rowcount == 1 else await find_response(connection, principal, key, now)


async def point_at(connection: AsyncConnection, reserved_for: str, run_id: str | None) -> None:
    """Have the key that was kept for a run that is not needed give another run's response."""
    await connection.execute(
        update(idempotency).where(idempotency.c.run_id == reserved_for).values(run_id=run_id)
    )


async def forget_expired(connection: AsyncConnection, now: float) -> None:
    """Delete the keys whose time is over."""
    await connection.execute(delete(idempotency).where(idempotency.c.created_at < now - REMEMBERED_SECONDS))
