"""Checkpoints as they were saved: found, listed, and put together again with their values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple, get_checkpoint_id
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.driver import fetch
from checkpoints.errors import StateDamaged
from checkpoints.graph_reader import GraphReader
from checkpoints.graph_tables import Where, checkpoints
from checkpoints.values import Stored, reading, unpack

STORED = "stored"
"""Added to a checkpoint: the channels whose values were stored with it. An empty channel has no row."""
_CHECKPOINT = """
    SELECT thread_id, namespace, checkpoint_id, parent_id, metadata, kind, body FROM checkpoints
    WHERE thread_id = :thread_id AND namespace = :namespace"""
_ONE = f"{_CHECKPOINT} AND checkpoint_id = :id"
_LATEST = f"{_CHECKPOINT} ORDER BY checkpoint_id DESC LIMIT 1"


class Saved(NamedTuple):
    """The row of a checkpoint."""

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent_id: str | None
    metadata: str
    kind: str
    body: bytes


def where_of(config: RunnableConfig) -> Where:
    """The thread and the namespace that a config names."""
    configurable = config["configurable"]
    return Where(str(configurable["thread_id"]), configurable.get("checkpoint_ns", ""))


def config_of(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    """The config that names a checkpoint."""
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }


async def find(connection: AsyncConnection, config: RunnableConfig) -> Saved | None:
    """The checkpoint that the config names, or the newest of its namespace; None if there is none."""
    key = where_of(config)._asdict()
    if checkpoint_id := get_checkpoint_id(config):
        rows = await fetch(connection, _ONE, key | {"id": checkpoint_id})
    else:
        rows = await fetch(connection, _LATEST, key)
    return Saved(*rows[0]) if rows else None


async def assemble(reader: GraphReader, serde: SerializerProtocol, row: Saved) -> CheckpointTuple:
    """The checkpoint with its values and its pending writes. Raises StateDamaged."""
    with reading(row.thread_id):
        body = unpack(serde, Stored(row.kind, row.body))
        metadata = json.loads(row.metadata)
    stored = await _values(reader, row.thread_id, body)
    body.pop(STORED, None)
    pending = (await reader.writes([row.checkpoint_id]))[row.checkpoint_id]
    loaded = iter(await reader.load([*stored.values(), *(write.stored for write in pending)]))
    return CheckpointTuple(
        config=config_of(row.thread_id, row.namespace, row.checkpoint_id),
        checkpoint=cast(
            Checkpoint, {**body, "channel_values": {channel: next(loaded) for channel, _ in stored}}
        ),
        metadata=metadata,
        parent_config=config_of(row.thread_id, row.namespace, row.parent_id) if row.parent_id else None,
        pending_writes=[(write.task_id, write.channel, next(loaded)) for write in pending],
    )


async def check(reader: GraphReader, serde: SerializerProtocol, rows: Sequence[Saved]) -> None:
    """See that `assemble` would find all of these checkpoints of one namespace. Raises StateDamaged.

    What several of them share is looked at once.
    """
    stored: dict[tuple[str, str], Stored] = {}
    for row in rows:
        with reading(row.thread_id):
            body = unpack(serde, Stored(row.kind, row.body))
            json.loads(row.metadata)
        stored |= await _values(reader, row.thread_id, body)
    pending = await reader.writes([row.checkpoint_id for row in rows])
    await reader.check([*stored.values(), *(write.stored for found in pending.values() for write in found)])


async def _values(reader: GraphReader, thread_id: str, body: dict[str, Any]) -> dict[tuple[str, str], Stored]:
    """The rows of a checkpoint's values. Raises StateDamaged."""
    with reading(thread_id):
        held = body.get(STORED, ())  # checkpoints of earlier versions do not tell
        versions = {channel: str(version) for channel, version in body["channel_versions"].items()}
    stored = await reader.values(versions.items())
    for channel in held:
        if (channel, versions.get(channel)) not in stored:
            raise StateDamaged(thread_id, f"the value of its channel {channel!r} is missing")
    return stored


async def listing(
    connection: AsyncConnection,
    config: RunnableConfig | None,
    filter: dict[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> list[RunnableConfig]:
    """The configs of the checkpoints below a config (of all, without one), newest first.

    Metadata is compared here: a filter's keys never become SQL. Raises StateDamaged.
    """
    query = _listing(config, before)
    if limit is not None and not filter:
        query = query.limit(max(limit, 0))
    rows = (await connection.execute(query)).all()
    if filter:
        rows = [row for row in rows if _matches(row, filter)]
    return [
        config_of(row.thread_id, row.namespace, row.checkpoint_id)
        for row in (rows if limit is None else rows[: max(limit, 0)])
    ]


def _listing(config: RunnableConfig | None, before: RunnableConfig | None) -> Select[Any]:
    columns = (checkpoints.c.thread_id, checkpoints.c.namespace, checkpoints.c.checkpoint_id)
    query = select(*columns, checkpoints.c.metadata)
    if config is not None:
        query = query.where(checkpoints.c.thread_id == str(config["configurable"]["thread_id"]))
        if (namespace := config["configurable"].get("checkpoint_ns")) is not None:
            query = query.where(checkpoints.c.namespace == namespace)
        if checkpoint_id := get_checkpoint_id(config):
            query = query.where(checkpoints.c.checkpoint_id == checkpoint_id)
    if before is not None and (limit := get_checkpoint_id(before)):
        query = query.where(checkpoints.c.checkpoint_id < limit)
    return query.order_by(checkpoints.c.checkpoint_id.desc(), *columns[:2])


def _matches(row: Row[Any], wanted: dict[str, Any]) -> bool:
    """Whether the metadata has these values; a key that is not there counts as None."""
    with reading(row.thread_id):
        details = json.loads(row.metadata)
    return all(details.get(name) == value for name, value in wanted.items())
