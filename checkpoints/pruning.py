"""Deletes checkpoints, and then whatever nothing needs any more.

The thread's row is locked first: a run that holds the thread's fence, in another process too, stores nothing
between the look at what is needed and the deletion of the rest.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.errors import CheckpointNotFound
from checkpoints.graph_reader import GraphReader
from checkpoints.graph_tables import GRAPH_TABLES, ROOT, Where, channel_values, checkpoints, items, writes
from checkpoints.lineage import trace, versions_in
from checkpoints.saved import Saved, check
from checkpoints.sequences import NODE, reachable
from checkpoints.threads import find_thread
from checkpoints.values import ITEM, LIST, SNAPSHOT, Stored, reading

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
    await find_thread(connection, thread_id, lock=True)
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
    for thread_id, keys in sorted(found.items()):
        await find_thread(connection, thread_id, lock=True)
        await _delete(connection, serde, thread_id, keys)


async def keep_last(
    connection: AsyncConnection, serde: SerializerProtocol, thread_id: str, count: int
) -> int:
    """Keep the newest checkpoints of the root namespace, what they called, and what all these rest on.

    How many went. Raises StateDamaged, and deletes none, if one that would be kept is damaged: an older one
    may be all that is sound.
    """
    await find_thread(connection, thread_id, lock=True)
    gone = await surplus(connection, serde, thread_id, count)
    await _delete(connection, serde, thread_id, gone)
    return len(gone)


async def surplus(
    connection: AsyncConnection, serde: SerializerProtocol, thread_id: str, count: int
) -> Collection[Key]:
    """The checkpoints that `keep_last` would delete. Raises StateDamaged where that does."""
    query = select(checkpoints.c.namespace, checkpoints.c.checkpoint_id, checkpoints.c.metadata).where(
        checkpoints.c.thread_id == thread_id
    )
    rows = await connection.execute(query.order_by(checkpoints.c.checkpoint_id.desc()))
    with reading(thread_id):
        found = {(row.namespace, row.checkpoint_id): json.loads(row.metadata) for row in rows}
        kept = _choose(found, count)
    for namespace, name in tuple(kept):
        if channels := found[namespace, name].get(_DELTA_CHANNELS):
            lineage = await trace(connection, serde, Where(thread_id, namespace), name, channels)
            kept |= {(namespace, ancestor) for ancestor in lineage.path}
    gone = found.keys() - kept
    if gone:
        await _check(connection, serde, thread_id, kept)
    return gone


async def _check(
    connection: AsyncConnection, serde: SerializerProtocol, thread_id: str, keys: Collection[Key]
) -> None:
    """See that these checkpoints can be read. Raises StateDamaged."""
    query = select(*(checkpoints.c[name] for name in Saved._fields)).where(
        checkpoints.c.thread_id == thread_id
    )
    namespaces: dict[str, list[Saved]] = {}
    for row in await connection.execute(query):
        if (row.namespace, row.checkpoint_id) in keys:
            namespaces.setdefault(row.namespace, []).append(Saved(*row))
    for namespace, rows in namespaces.items():
        await check(GraphReader(connection, serde, Where(thread_id, namespace)), serde, rows)


def _choose(found: Mapping[Key, dict[str, Any]], count: int) -> set[Key]:
    """The checkpoints to keep, of these with their metadata, newest first."""
    namespaces: dict[str, list[Key]] = {}
    for key in found:
        namespaces.setdefault(key[0], []).append(key)
    kept = set(namespaces.pop("", [])[:count])
    for namespace in sorted(namespaces, key=lambda name: name.count("|")):  # callers before what they call
        newest: dict[frozenset[Key], Key] = {}
        for key in namespaces[namespace]:
            newest.setdefault(frozenset((found[key].get("parents") or {}).items()), key)
        kept |= {key for callers, key in newest.items() if callers <= kept}
        if not _is_one_call(namespace):
            kept.add(namespaces[namespace][0])
    return kept


async def keep_ancestors(
    connection: AsyncConnection,
    serde: SerializerProtocol,
    thread_id: str,
    checkpoint_id: str,
    *,
    pending: bool,
) -> None:
    """Keep a checkpoint of the graph itself and its ancestors, with what the graphs within it did by then.

    `pending`: what its tasks have written already stays, too. Raises CheckpointNotFound.
    """
    columns = (checkpoints.c.namespace, checkpoints.c.checkpoint_id, checkpoints.c.parent_id)
    query = select(*columns, checkpoints.c.metadata).where(checkpoints.c.thread_id == thread_id)
    rows = (await connection.execute(query)).all()
    parents = {row.checkpoint_id: row.parent_id for row in rows if row.namespace == ROOT}
    if checkpoint_id not in parents:
        raise CheckpointNotFound(checkpoint_id)
    kept: set[str] = set()
    each: str | None = checkpoint_id
    while each is not None and each in parents and each not in kept:
        kept.add(each)
        each = parents[each]
    if not pending:
        gone = {"thread_id": thread_id, "namespace": ROOT, "id": checkpoint_id}
        await connection.execute(_DELETE_WRITES, gone)
    await _delete(
        connection,
        serde,
        thread_id,
        [
            (row.namespace, row.checkpoint_id)
            for row in rows
            if (row.checkpoint_id if row.namespace == ROOT else _caller(row.metadata)) not in kept
        ],
    )


def _caller(details: str) -> str | None:
    """The checkpoint of the graph itself under which a graph within it was called, by its metadata."""
    caller: str | None = (json.loads(details).get("parents") or {}).get(ROOT)
    return caller


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
    left = await connection.execute(bodies.where(checkpoints.c.thread_id == thread_id))
    with reading(thread_id):
        used = {
            (namespace, *version)
            for namespace, kind, body in left
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
