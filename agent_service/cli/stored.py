"""Threads as they stand in the database: for looking at where no service runs, and none need be started."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from agent_service.api.schemas import ThreadList
from agent_service.cli.start import Start
from agent_service.principals import LOCAL
from checkpoints.opening import open_database
from checkpoints.threads import ThreadRecord, ThreadStatus, ThreadStore


def stored_threads(start: Start, status: ThreadStatus | None, limit: int) -> tuple[dict[str, Any], set[str]]:
    """The latest threads as the service would list them, and which of them nobody works on although they run.

    Raises DatabaseUnusable.
    """
    found = asyncio.run(_read(start, status, limit + 1))
    now = time.time()
    left = {each.thread_id for each in found if each.is_abandoned(now)}
    return ThreadList.of_records(found, limit).model_dump(mode="json"), left


async def _read(start: Start, status: ThreadStatus | None, limit: int) -> list[ThreadRecord]:
    where = start.settings.database
    if isinstance(where, Path) and not where.exists():
        return []
    async with open_database(where) as database:
        return await ThreadStore(database).list(LOCAL.name, status=status, limit=limit)
