"""Deletes checkpoints, and then whatever nothing needs any more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.graph_tables import GRAPH_TABLES, Where, channel_values, checkpoints, items, writes
from checkpoints.lineage import trace, versions_in
from checkpoints.sequences import NODE, reachable
from checkpoints.values import ITEM, LIST, SNAPSHOT, Stored

_DELTA_CHANNELS = "counters_since_delta_snapshot"
"""LangGraph's metadata key: channels whose value is not stored at this checkpoint."""

_DELETE_CHECKPOINT = delete(checkpoints).where(
    checkpoints.c.thread_id == bindparam("thread_id"),
    checkpoints.c.namespace == bindparam("namespace"),
    checkpoints.c.checkpoint_id == bindparam("id"),
)
_DELETE_WRITES = delete(writes).where(
    writes.c.thread_id == bindparam("thread_id"),
    writes.c.namespace == bindparam("namespace"),
    writes.c.checkpoint_id == bindparam("id"),
)
_DELETE_VALUE = delete(channel_values).where(
    channel_values.c.thread_id == bindparam("thread_id"),
    channel_values.c.namespace == bindparam("namespace"),
    channel_values.c.channel == bindparam("channel"),
    channel_values.c.version == bindparam("version"),
)
_DELETE_ITEM = delete(items).where(items.c.thread_id == bindparam("thread_id"), items.c.id == bindparam("id"))

Key = tuple[str, str]
"""Namespace and checkpoint id."""


async def delete_thread(connection: AsyncConnection, thread_id: str) -> None:
    """Delete all rows of the thread."""
    for table in GRAPH_TABLES:
        await connection.execute(delete(table).where(table.c.thread_id == thread_id))


async def delete_runs(connection: AsyncConnection, serde: SerializerProtocol, run_ids: Sequence[str]) -> None:
    """Delete the checkpoints of these runs in all threads."""
    query = select(checkpoints.c.thread_id, checkpoints.c.namespace, checkpoints.c.checkpoint_id)
    found: dict[str, list[Key]] = {}
    for run_id in run_ids:
        for thread_id, namespace, name in await connection.execute(
            query.where(checkpoints.c.run_id == run_id)
        ):
            found.setdefault(thread_id, []).append((namespace, name))
    for thread_id, keys in found.items():
        await _delete(connection, serde, thread_id, keys)


async def keep_latest(connection: AsyncConnection, serde: SerializerProtocol, thread_id: str) -> None:
    """Keep the newest checkpoint of each namespace, and of its ancestors those that delta channels rest on.

    The namespace of a single call of a subgraph goes with the checkpoint that made the call.
    """
    query = select(checkpoints.c.namespace, checkpoints.c.checkpoint_id, checkpoints.c.metadata).where(
        checkpoints.c.thread_id == thread_id
    )
    rows = (await connection.execute(query.order_by(checkpoints.c.checkpoint_id))).all()
    heads = {row.namespace: row for row in rows}
    kept: set[Key] = set()
    for namespace, head in heads.items():
        details = json.loads(head.metadata)
        kept.add((namespace, head.checkpoint_id))
        if channels := details.get(_DELTA_CHANNELS):
            where = Where(thread_id, namespace)
            lineage = await trace(connection, serde, where, head.checkpoint_id, channels)
            kept |= {(namespace, name) for name in lineage.path}
    for namespace, head in heads.items():
        callers = json.loads(head.metadata).get("parents") or {}
        if _is_one_call(namespace) and any(caller not in kept for caller in callers.items()):
            kept = {each for each in kept if each[0] != namespace}
    gone = [name for row in rows if (name := (row.namespace, row.checkpoint_id)) not in kept]
    await _delete(connection, serde, thread_id, gone)


def _is_one_call(namespace: str) -> bool:
    """Whether it is the namespace of one call (`node:task_id`), not of a subgraph with a memory (`node`)."""
    return ":" in namespace.rpartition("|")[2]


async def _delete(
    connection: AsyncConnection, serde: SerializerProtocol, thread_id: str, keys: Iterable[Key]
) -> None:
    """Delete these checkpoints and their writes; no other writes, as some precede their checkpoint."""
    gone = [{"thread_id": thread_id, "namespace": namespace, "id": name} for namespace, name in keys]
    if gone:
        await connection.execute(_DELETE_CHECKPOINT, gone)
        await connection.execute(_DELETE_WRITES, gone)
        await _sweep(connection, serde, thread_id)


async def _sweep(connection: AsyncConnection, serde: SerializerProtocol, thread_id: str) -> None:
    """Delete the values that no checkpoint of the thread names, then the items that no row rests on."""
    bodies = select(checkpoints.c.namespace, checkpoints.c.kind, checkpoints.c.body)
    used = {
        (namespace, *version)
        for namespace, kind, body in await connection.execute(
            bodies.where(checkpoints.c.thread_id == thread_id)
        )
        for version in versions_in(serde, Stored(kind, body)).items()
    }
    columns = (channel_values.c.namespace, channel_values.c.channel, channel_values.c.version)
    stored = await connection.execute(select(*columns).where(channel_values.c.thread_id == thread_id))
    unused = [
        {"thread_id": thread_id, "namespace": namespace, "channel": channel, "version": version}
        for namespace, channel, version in stored
        if (namespace, channel, version) not in used
    ]
    if unused:
        await connection.execute(_DELETE_VALUE, unused)
    names = select(items.c.id).where(items.c.thread_id == thread_id)
    needed = await _needed_items(connection, thread_id)
    loose = [
        {"thread_id": thread_id, "id": name}
        for name in (await connection.execute(names)).scalars()
        if name not in needed
    ]
    if loose:
        await connection.execute(_DELETE_ITEM, loose)


async def _needed_items(connection: AsyncConnection, thread_id: str) -> set[bytes]:
    """The addresses of all items that the thread's values and writes rest on."""
    needed: set[bytes] = set()
    roots: list[bytes] = []
    for table in (channel_values, writes):
        query = select(table.c.kind, table.c.data).where(
            table.c.thread_id == thread_id, table.c.kind.in_((ITEM, LIST, SNAPSHOT))
        )
        for kind, data in await connection.execute(query):
            if kind == ITEM:
                needed.add(data)
            else:
                roots.append(data)
    nodes = select(items.c.id, items.c.data).where(items.c.thread_id == thread_id, items.c.kind == NODE)
    children = {row.id: row.data for row in await connection.execute(nodes)}
    return needed | reachable(roots, children)
