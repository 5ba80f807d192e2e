"""Steps from one schema version to the next, each within the transaction that opens the database."""

from __future__ import annotations

from sqlalchemy import delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.tables import idempotency, questions, runs, threads


async def migrate(connection: AsyncConnection, version: int) -> None:
    """Bring a database of that version up to date; new tables are made afterwards."""
    if version == 1:
        await _drop_stock_checkpoints(connection)


async def _drop_stock_checkpoints(connection: AsyncConnection) -> None:
    """1 -> 2: our own saver follows LangGraph's stock one, whose tables go unread: nothing was released.

    Threads, their last responses and the journal of their files stay. The conversations are gone, so nothing
    can wait or go on where it was: threads become idle, open questions are cancelled, claims are void.
    """
    for table in ("writes", "checkpoints"):
        await connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
    await connection.execute(
        update(threads)
        .where(threads.c.status.in_(("running", "requires_human_input")))
        .values(status="idle", holder=None, fence=threads.c.fence + 1)
    )
    await connection.execute(update(questions).where(questions.c.status == "open").values(status="cancelled"))
    unanswered = select(runs.c.run_id).where(runs.c.response.is_(None))
    await connection.execute(delete(idempotency).where(idempotency.c.run_id.in_(unanswered)))
