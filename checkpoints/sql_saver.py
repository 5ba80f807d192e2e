"""The checkpoint saver: each message is stored once, each version of a list as a few addresses.

LangGraph hands the whole state to its saver at every step, and the stock savers write all of it each time.
Here the difference is found while saving, so no reducer, overwrite, removal or fork can make what is stored
differ from the run.
How lists are taken apart: `checkpoints.sequences`; what a row holds: `checkpoints.values`.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints import pruning
from checkpoints.clock import keep_ahead_of
from checkpoints.database import Database
from checkpoints.events import OUTBOX, EventLog, NewEvent, StoredEvent
from checkpoints.graph_reader import GraphReader
from checkpoints.graph_tables import ROOT, Where
from checkpoints.graph_writer import GraphWriter, copy_thread
from checkpoints.journal import EFFECTS, latest_effect
from checkpoints.leases import FENCE, check_fence
from checkpoints.lineage import trace
from checkpoints.precedence import Precedence
from checkpoints.saved import STORED, assemble, config_of, find, listing, where_of
from checkpoints.values import (
    Encoder,
    ListMemory,
    Stored,
    list_kind,
    list_within,
    pack,
)

LISTED_AT_ONCE = 8
"""How many checkpoints of a listing are read in one transaction."""


class SqlCheckpointSaver(BaseCheckpointSaver[str]):
    """A LangGraph checkpointer on our database. Async methods only, of one event loop.

    With `FENCE` among the config's `configurable` values, every write is refused once somebody else has
    claimed the thread. What a task writes to the channel `OUTBOX`, a list of `NewEvent`, goes to the event
    log in the same transaction as its other writes: together with them, once.
    """

    def __init__(self, database: Database, log: EventLog, *, serde: SerializerProtocol) -> None:
        super().__init__(serde=serde)
        self._database = database
        self._log = log
        self._lists = ListMemory()  # this and the next are shared by the copies that `with_allowlist` makes
        self._precedence = Precedence()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the newest of its namespace; None if there is none."""
        async with self._database.read() as connection:
            row = await find(connection, config)
            if row is None:
                return None
            keep_ahead_of(row.checkpoint_id)
            reader = GraphReader(connection, self.serde, where_of(config))
            return await assemble(reader, self.serde, row)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints of a thread (of all, without a config), newest first.

        A consumer that pauses holds no transaction; what is deleted meanwhile is left out.
        """
        async with self._database.read() as connection:
            found = await listing(connection, config, filter, before, limit)
        for at in range(0, len(found), LISTED_AT_ONCE):
            for each in await self._tuples(found[at : at + LISTED_AT_ONCE]):
                yield each

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint with the values whose version moved; the config names its parent."""
        where = where_of(config)
        encoder = Encoder(self.serde)
        values = checkpoint["channel_values"]
        moved = {channel: str(version) for channel, version in new_versions.items() if channel in values}
        row = self._checkpoint_row(config, checkpoint, metadata, moved)
        parts = {channel: inner for channel in moved if (inner := list_within(values[channel])) is not None}
        # All is serialised before the first await: the run may go on meanwhile and change what it holds.
        rows = {channel: encoder.encode(values[channel]) for channel in moved if channel not in parts}
        earlier = {channel: self._lists.get(*where, channel) for channel in parts}
        lists = {
            channel: encoder.encode_list(moved[channel], inner, earlier[channel])
            for channel, inner in parts.items()
        }

        async def operation(connection: AsyncConnection) -> None:
            await _check_fence(connection, config)
            writer = GraphWriter(connection, where)
            for channel, remembered in lists.items():
                base = earlier[channel]
                if base is not None and not await writer.has(channel, base):
                    lists[channel] = encoder.encode_list(moved[channel], remembered.objects)
                rows[channel] = Stored(list_kind(values[channel]), lists[channel].folded.root)
            await writer.add_items(encoder.items)
            await writer.put_values({channel: (moved[channel], stored) for channel, stored in rows.items()})
            await writer.put_checkpoint(await _noting_effects(connection, config, row))

        if parent := get_checkpoint_id(config):
            await self._precedence.written((*where, parent, _fence(config)))
        await self._database.write(operation)
        sys.audit("agent_service.checkpoint.stored")
        self._lists.keep(*where, lists)
        return config_of(*where, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task produced. Of LangGraph's own channels the last write counts, else the first."""
        if not writes:
            return
        encoder = Encoder(self.serde)
        told: list[NewEvent] = next((value for channel, value in writes if channel == OUTBOX), [])
        rows = [
            {
                "checkpoint_id": str(config["configurable"]["checkpoint_id"]),
                "task_id": task_id,
                "idx": WRITES_IDX_MAP.get(channel, position),
                "task_path": task_path,
                "channel": channel,
                **encoder.encode([] if channel == OUTBOX else value)._asdict(),
            }
            for position, (channel, value) in enumerate(writes)
        ]
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        where = where_of(config)

        async def operation(connection: AsyncConnection) -> list[StoredEvent]:
            await _check_fence(connection, config)
            writer = GraphWriter(connection, where)
            await writer.add_items(encoder.items)
            *others, last = sorted(rows, key=lambda row: row["channel"] == OUTBOX)
            if others:
                await writer.put_writes(others, replace=special)
            if not told:
                await writer.put_writes([last], replace=special)
            elif await writer.add_write(last):  # a task that was stored before has told of itself already
                return await self._log.append(connection, where.thread_id, told)
            return []

        superstep = (*where, str(config["configurable"]["checkpoint_id"]), _fence(config))
        async with self._precedence.writing(superstep, task_id):
            stored = await self._database.write(operation)
        sys.audit("agent_service.writes.stored")
        self._log.announce(stored)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete everything of the thread."""
        await self._database.write(lambda connection: pruning.delete_thread(connection, str(thread_id)))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs, by the `run_id` of their metadata."""
        await self._database.write(lambda connection: pruning.delete_runs(connection, self.serde, run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread, its history and its pending writes, too. Raises ThreadNotEmpty."""
        await self._database.write(
            lambda connection: copy_thread(connection, source_thread_id, target_thread_id)
        )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete old checkpoints (`keep_latest`, see `keep_last`) or all of them (`delete`)."""
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"Unknown strategy {strategy!r}; there are 'keep_latest' and 'delete'.")
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread_id)
            else:
                await self.keep_last(thread_id, 1)

    async def keep_last(self, thread_id: str, n: int) -> None:
        """Delete all but the newest n checkpoints of the thread, whatever branch of a fork they are on.

        Of subgraphs stays what these checkpoints called, and what a subgraph remembers between its calls.
        Older ancestors stay as far as a delta channel rests on them.
        """
        if n < 1:
            raise ValueError("At least one checkpoint must stay; adelete_thread deletes all.")
        await self._database.write(
            lambda connection: pruning.keep_last(connection, self.serde, str(thread_id), n)
        )

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """For each channel the value stored at its nearest ancestor, and the writes since, oldest first."""
        history: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        async with self._database.read() as connection:
            row = await find(connection, config) if channels else None
            if row is None:
                return history
            where = Where(row.thread_id, row.namespace)
            lineage = await trace(connection, self.serde, where, row.checkpoint_id, channels)
            reader = GraphReader(connection, self.serde, where)
            for channel, found in lineage.writes.items():
                values = await reader.load([write.stored for write in found])
                history[channel]["writes"] = [
                    (write.task_id, channel, value) for write, value in zip(found, values, strict=True)
                ]
            for channel, seed in lineage.seeds.items():
                (history[channel]["seed"],) = await reader.load([seed])
        return history

    def get_next_version(self, current: str | None, channel: None) -> str:
        """A later version than `current`; the random part keeps two branches of a fork apart."""
        number = int(str(current).split(".", 1)[0]) if current is not None else 0
        return f"{number + 1:032}.{random.random():016}"

    async def _tuples(self, configs: Sequence[RunnableConfig]) -> list[CheckpointTuple]:
        """These checkpoints, as far as they are still there."""
        tuples: list[CheckpointTuple] = []
        readers: dict[Where, GraphReader] = {}
        async with self._database.read() as connection:
            for config in configs:
                where = where_of(config)
                if where not in readers:
                    readers[where] = GraphReader(connection, self.serde, where)
                row = await find(connection, config)
                if row is not None:
                    tuples.append(await assemble(readers[where], self.serde, row))
        return tuples

    def _checkpoint_row(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        moved: Mapping[str, str],
    ) -> dict[str, Any]:
        details = get_checkpoint_metadata(config, metadata)
        body = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        body[STORED] = [*moved]
        kind, packed = pack(*self.serde.dumps_typed(body))
        return {
            "checkpoint_id": checkpoint["id"],
            "parent_id": get_checkpoint_id(config),
            "run_id": details.get("run_id"),
            "metadata": json.dumps(details, separators=(",", ":")),
            "kind": kind,
            "body": packed,
        }


def _fence(config: RunnableConfig) -> int | None:
    fence: int | None = config["configurable"].get(FENCE)
    return fence


async def _check_fence(connection: AsyncConnection, config: RunnableConfig) -> None:
    if (fence := _fence(config)) is not None:
        await check_fence(connection, str(config["configurable"]["thread_id"]), fence)


async def _noting_effects(
    connection: AsyncConnection, config: RunnableConfig, row: dict[str, Any]
) -> dict[str, Any]:
    """The row of a checkpoint, for a run's with how far its thread's effects had come: see `EFFECTS`."""
    where = where_of(config)
    if _fence(config) is None or where.namespace != ROOT:
        return row
    details = json.loads(row["metadata"]) | {EFFECTS: await latest_effect(connection, where.thread_id)}
    return row | {"metadata": json.dumps(details, separators=(",", ":"))}
