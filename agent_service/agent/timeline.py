"""A thread's past: looking through it, going back in it, branching off from it, and clearing it away."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError

from agent_service import events
from agent_service.agent.contract import (
    CodeAgentResponse,
    ForkRequest,
    HistoryCheckpoint,
    Pruned,
    PrunedThread,
    PruneRequest,
    RewindRequest,
    SkippedThread,
)
from agent_service.agent.forks import forked_events, forked_response
from agent_service.agent.supervisor import ActiveRun, RunSupervisor
from agent_service.agent.withdrawal import question_closed
from checkpoints.errors import StateDamaged
from checkpoints.idempotency import Finished, IdempotencyKey
from checkpoints.runs import NewRun
from checkpoints.stores import Stores
from checkpoints.threads import ThreadRecord

logger = logging.getLogger(__name__)

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Some checkpoints of a thread, the newest first."""

    checkpoints: list[HistoryCheckpoint]
    more: bool
    """Whether there are older ones."""


class Timeline:
    """The past of the threads of a service."""

    def __init__(self, supervisor: RunSupervisor, stores: Stores) -> None:
        self._supervisor = supervisor
        self._stores = stores

    async def history(self, principal: str, thread_id: str, *, limit: int, before: str | None) -> HistoryPage:
        """The thread's newest checkpoints, or those older than `before`.

        Raises ThreadNotFound; CheckpointNotFound when there is no `before`.
        """
        thread = await self._stores.threads.get(principal, thread_id)
        waiting = thread.status == "requires_human_input"
        runner = await self._supervisor.runner()
        found = await runner.checkpoints(thread_id, limit=limit + 1, before=before, waiting=waiting)
        return HistoryPage(found[:limit], len(found) > limit)

    async def fork(
        self, principal: str, thread_id: str, request: ForkRequest, key: IdempotencyKey | None = None
    ) -> str:
        """Make a new thread that goes on from a checkpoint of this one; its id.

        Raises ThreadNotFound, ThreadBusy, CheckpointNotFound, KeyReused.
        """
        if key and (earlier := await self._stores.runs.replay(principal, key)):
            return _thread_of(earlier)
        ids = {"thread_id": str(uuid4()), "run_id": uuid4().hex}
        raw = request.model_dump_json(exclude_unset=True).encode()
        new = NewRun(principal, ids["thread_id"], ids["run_id"], raw, key)
        finished = await (await self._supervisor.runner()).branches.fork(
            new,
            thread_id,
            request.checkpoint_id,
            lambda stored, open_ids: forked_response(stored, open_ids, **ids, source_id=thread_id),
            lambda response: forked_events(response, f"Fork thread {thread_id}."),
        )
        return _thread_of(finished) if finished else ids["thread_id"]

    async def rewind(
        self, principal: str, thread_id: str, request: RewindRequest, key: IdempotencyKey | None = None
    ) -> ActiveRun | Finished:
        """Begin to take the thread back to a checkpoint; the response is a RewindResponse.

        Raises ThreadNotFound, ThreadBusy, CheckpointNotFound, KeyReused.
        """
        instruction = f"Go back to checkpoint {request.checkpoint_id}."
        ids = {"thread_id": thread_id, "run_id": uuid4().hex}
        started = events.new_event(events.RunStarted(**ids, instruction=instruction))
        raw = request.model_dump_json(exclude_unset=True).encode()
        new = NewRun(principal, thread_id, ids["run_id"], raw, key, [started])
        run = await self._stores.runs.rewind(
            new,
            request.checkpoint_id,
            instruction,
            lambda run_id, call_id: question_closed(thread_id, run_id, call_id, "cancelled", principal),
        )
        return run if isinstance(run, Finished) else self._supervisor.start(run)

    async def prune(self, principal: str, request: PruneRequest) -> Pruned:
        """Clear away old checkpoints or whole threads of the principal, none that runs or waits."""
        days = request.older_than_days
        before = None if days is None else time.time() - days * _DAY
        found = await self._stores.threads.finished(principal, before=before)
        done = Pruned()
        if request.keep_checkpoints is not None:
            done = await self._trim(found, request.keep_checkpoints, dry_run=request.dry_run)
        elif request.delete and before is not None:
            gone = await self._delete(found, before, dry_run=request.dry_run)
            done = Pruned(threads_deleted=len(gone), threads=gone)
        if done.threads and not request.dry_run:
            await self._compact()
        return done

    async def _delete(
        self, found: Sequence[ThreadRecord], before: float, *, dry_run: bool
    ) -> list[PrunedThread]:
        """Delete these threads if nothing happened on them meanwhile; those that went."""
        store = self._stores.threads
        return [
            PrunedThread(thread_id=each.thread_id, title=each.title)
            for each in found
            if dry_run or await store.forget_finished(each.principal, each.thread_id, before)
        ]

    async def _trim(self, found: Sequence[ThreadRecord], keep: int, *, dry_run: bool) -> Pruned:
        """Delete all but so many checkpoints of these threads; those that had more, and the damaged ones."""
        history = (await self._supervisor.runner()).history
        drop = history.surplus if dry_run else history.keep_last
        done = Pruned()
        for each in found:
            try:
                count = await drop(each.thread_id, keep)
            except StateDamaged as damaged:
                logger.error("checkpoints of a damaged thread are not deleted: %s", damaged)
                done.skipped.append(SkippedThread(thread_id=each.thread_id, reason=str(damaged)))
                continue
            if count:
                done.threads.append(
                    PrunedThread(thread_id=each.thread_id, title=each.title, checkpoints_deleted=count)
                )
        done.threads_pruned = len(done.threads)
        done.checkpoints_deleted = sum(each.checkpoints_deleted for each in done.threads)
        return done

    async def _compact(self) -> None:
        try:
            await self._stores.database.compact()
        except SQLAlchemyError as error:  # the rows are gone all the same
            logger.warning("the space of what was deleted could not be given back: %s", error)


def _thread_of(finished: Finished) -> str:
    return CodeAgentResponse.model_validate_json(finished.response).thread_id
