"""Where the graph's own state is kept. Nobody outside this room knows which saver it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from checkpoints.database import Database
from checkpoints.events import EventLog

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


@asynccontextmanager
async def open_saver(database: Database, log: EventLog) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """The checkpoint saver, in the same database as everything else; strict msgpack, no pickle."""
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer  # a second to import: only when used

    from checkpoints.sql_saver import SqlCheckpointSaver

    yield SqlCheckpointSaver(database, log, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
