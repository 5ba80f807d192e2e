"""Branches of a history: an earlier checkpoint made the newest one again, and threads made out of threads."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import INTERRUPT
from sqlalchemy import Select, bindparam, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.clock import keep_ahead_of
from checkpoints.database import Database
from checkpoints.errors import CheckpointNotFound, StateDamaged, ThreadBusy
from checkpoints.events import OUTBOX, EventLog, NewEvent, StoredEvent
from checkpoints.graph_tables import ROOT, Where, checkpoints, writes
from checkpoints.graph_writer import GraphWriter, copy_thread
from checkpoints.idempotency import Finished, reserve
from checkpoints.journal import EFFECTS, latest_effect
from checkpoints.leases import check_fence
from checkpoints.pruning import keep_ancestors
from checkpoints.questions import find_questions
from checkpoints.rows import check_row
from checkpoints.runs import NewRun, Run
from checkpoints.tables import questions, runs, threads
from checkpoints.threads import ThreadRecord, own_thread
from checkpoints.values import Stored, pack, reading, unpack

Rewrite = Callable[[bytes | None, Sequence[str]], bytes]
"""The response that a fork shows, from that of its source's latest run (None: the fork stands otherwise) and
the tool call ids of the questions that are open in the fork."""
Tell = Callable[[bytes], Sequence[NewEvent]]
"""The first events of a fork, from the response that it shows."""

STATE = "00000000-0000-0000-0000-000000000000"
"""In place of a task: LangGraph (`NULL_TASK_ID`) takes what this wrote for the state of the checkpoint."""
_FORKED = " (fork)"
_NOTE = (
    update(checkpoints)
    .where(checkpoints.c.thread_id == bindparam("fork"), checkpoints.c.namespace == ROOT)
    .where(checkpoints.c.checkpoint_id == bindparam("id"))
    .values(metadata=bindparam("details"))
)
_ASKED_BY_THE_GRAPH = questions.c.interrupt_id != ""


class Branches:
    """Starts branches. Nothing is taken away from the history that they leave."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        serde: SerializerProtocol,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._log = log
        self._serde = serde
        self._clock = clock

    async def go_back(self, run: Run, checkpoint_id: str, *, files: bool) -> None:
        """Make a copy of the checkpoint the newest one; the run does so once, however often it is told to.

        What was pending there is not pending in the copy. `files`: they go back, too, so the copy is of the
        same moment of theirs; whatever takes them there is done after it. Else theirs is the present moment,
        and what was finished beside a question that was open there is known in the copy.
        Raises CheckpointNotFound, LeaseLost.
        """

        async def operation(connection: AsyncConnection) -> None:
            await check_fence(connection, run.thread_id, run.fence)
            here = select(checkpoints).where(
                checkpoints.c.thread_id == run.thread_id, checkpoints.c.namespace == ROOT
            )
            if (await connection.execute(here.where(checkpoints.c.run_id == run.run_id))).first():
                return
            row = (
                await connection.execute(here.where(checkpoints.c.checkpoint_id == checkpoint_id))
            ).one_or_none()
            if row is None:
                raise CheckpointNotFound(checkpoint_id)
            with reading(run.thread_id):
                details = json.loads(row.metadata)
                body = unpack(self._serde, Stored(row.kind, row.body))
            details |= {"source": "fork", "step": details["step"] + 1, "run_id": run.run_id}
            if not files:
                details[EFFECTS] = await latest_effect(connection, run.thread_id)
            keep_ahead_of((await connection.execute(_head(run.thread_id))).scalar_one())
            name = str(uuid6(clock_seq=details["step"]))
            body |= {"id": name, "ts": datetime.now(UTC).isoformat()}
            kind, packed = pack(*self._serde.dumps_typed(body))
            writer = GraphWriter(connection, Where(run.thread_id, ROOT))
            await writer.put_checkpoint(
                {
                    "checkpoint_id": name,
                    "parent_id": checkpoint_id,
                    "run_id": run.run_id,
                    "metadata": json.dumps(details, separators=(",", ":")),
                    "kind": kind,
                    "body": packed,
                }
            )
            finished = [] if files else await _finished(connection, run.thread_id, checkpoint_id)
            if finished:
                known = [{**each, "checkpoint_id": name, "idx": at} for at, each in enumerate(finished)]
                await writer.put_writes(known, replace=True)

        await self._database.write(operation)
        sys.audit("agent_service.checkpoint.stored")

    async def fork(
        self, new: NewRun, source_id: str, checkpoint_id: str | None, rewrite: Rewrite, tell: Tell
    ) -> Finished | None:
        """Make the thread `new.thread_id` out of another one's history up to a checkpoint (the latest).

        A fork of the latest checkpoint stands as the thread itself does: questions that are open there are
        open in it too, as its own. A fork of an earlier one is idle. The journal of effects stays behind.
        Finished if the same request was served before. Raises ThreadNotFound, ThreadBusy,
        CheckpointNotFound, KeyReused, StateDamaged.
        """

        async def operation(connection: AsyncConnection) -> tuple[Finished | None, list[StoredEvent]]:
            now = self._clock()
            if new.key and (earlier := await reserve(connection, new.principal, new.key, new.run_id, now)):
                return earlier, []
            source = await own_thread(connection, new.principal, source_id)
            if source.status == "running":
                raise ThreadBusy
            head: str | None = (await connection.execute(_head(source_id))).scalar_one()
            await copy_thread(connection, source_id, new.thread_id)
            if head is not None or checkpoint_id is not None:
                wanted = checkpoint_id or head or ""
                await keep_ancestors(connection, self._serde, new.thread_id, wanted, pending=wanted == head)
                await _begin_journal(connection, new.thread_id)
            whole = checkpoint_id in (None, head)
            response = await self._add(connection, new, source, rewrite, whole=whole)
            return None, await self._log.append(connection, new.thread_id, tell(response))

        finished, told = await self._database.write(operation)
        self._log.announce(told)
        return finished

    async def _add(
        self, connection: AsyncConnection, new: NewRun, source: ThreadRecord, rewrite: Rewrite, *, whole: bool
    ) -> bytes:
        """Add the fork's rows beside those of the graph; gives the response that it shows.

        `whole`: it has the source's latest checkpoint.
        """
        now = self._clock()
        asked = await find_questions(connection, source.thread_id, status="open") if whole else []
        still_open = [q.tool_call_id for q in asked if q.interrupt_id]
        stands = whole and bool(still_open) == (source.status == "requires_human_input")
        fork = replace(
            source,
            thread_id=new.thread_id,
            title=source.title.removesuffix(_FORKED) + _FORKED,
            status=source.status if stands else "idle",
            run_id=new.run_id,
            created_at=now,
            updated_at=now,
            fence=0,
            last_event=0,
        )
        await connection.execute(insert(threads).values(fork.row()))
        if whole:
            rest = [column for column in questions.c if column.name != "thread_id"]
            rows = select(literal(fork.thread_id), *rest).where(
                questions.c.thread_id == source.thread_id, _ASKED_BY_THE_GRAPH
            )
            await connection.execute(insert(questions).from_select([questions.c.thread_id, *rest], rows))
        of_source = select(runs).where(runs.c.run_id == source.run_id)
        latest = (await connection.execute(of_source)).one_or_none()
        if latest is None:
            raise StateDamaged(source.thread_id, "its latest run is missing")
        check_row(source.thread_id, runs, latest)
        response = rewrite(latest.response if stands else None, still_open)
        await connection.execute(
            insert(runs).values(
                run_id=new.run_id,
                thread_id=fork.thread_id,
                kind="fork",
                turn_id=latest.turn_id,
                instruction=latest.instruction,
                request=new.request,
                response=response,
                created_at=now,
                finished_at=now,
            )
        )
        return response


def _head(thread_id: str) -> Select[Any]:
    """The newest checkpoint."""
    return select(func.max(checkpoints.c.checkpoint_id)).where(
        checkpoints.c.thread_id == thread_id, checkpoints.c.namespace == ROOT
    )


async def _finished(connection: AsyncConnection, thread_id: str, checkpoint_id: str) -> list[dict[str, Any]]:
    """What the tasks of a checkpoint came to beside those that asked, as writes to the state of a copy.

    The copy's tasks go by other names, so that what is theirs cannot be passed on to them.
    """
    here = (writes.c.thread_id == thread_id, writes.c.namespace == ROOT)
    query = select(writes).where(*here, writes.c.checkpoint_id == checkpoint_id)
    in_order = query.order_by(writes.c.task_path, writes.c.task_id, writes.c.idx)
    rows = (await connection.execute(in_order)).all()
    asked = {row.task_id for row in rows if row.channel == INTERRUPT}
    return [
        {"task_id": STATE, "task_path": "", "channel": row.channel, "kind": row.kind, "data": row.data}
        for row in rows
        if (row.task_id == STATE or (asked and row.task_id not in asked)) and _is_kept(row.channel)
    ]


def _is_kept(channel: str) -> bool:
    """Whether the channel is of the state, and neither LangGraph's own nor a way to tell of it."""
    return channel != OUTBOX and not channel.startswith(("__", "branch:"))


async def _begin_journal(connection: AsyncConnection, thread_id: str) -> None:
    """A fork's own journal is empty: each of its effects will come after all checkpoints that it has now."""
    query = select(checkpoints.c.checkpoint_id, checkpoints.c.metadata).where(
        checkpoints.c.thread_id == thread_id, checkpoints.c.namespace == ROOT
    )
    found = (await connection.execute(query)).all()
    with reading(thread_id):
        noted = [(name, json.loads(details) | {EFFECTS: 0}) for name, details in found]
    rows = [
        {"fork": thread_id, "id": name, "details": json.dumps(details, separators=(",", ":"))}
        for name, details in noted
    ]
    await connection.execute(_NOTE, rows)
