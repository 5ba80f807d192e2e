"""A thread's past: looking through it, going back in it, branching off from it, and clearing it away."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError

from agent_service import events
from agent_service.agent.contract import (
    CodeAgentResponse,
    ForkRequest,
    HistoryCheckpoint,
    Pruned,
    PruneRequest,
    RewindRequest,
)
from agent_service.agent.forks import forked_events, forked_response
from agent_service.agent.supervisor import ActiveRun, RunSupervisor
from agent_service.agent.withdrawal import question_closed
from checkpoints.idempotency import Finished, IdempotencyKey
from checkpoints.runs import NewRun
from checkpoints.stores import Stores

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
        """The thread's newest checkpoints, or those older than `before`. Raises ThreadNotFound."""
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
            lambda run_id, question: question_closed(thread_id, run_id, question, "cancelled", principal),
        )
        return run if isinstance(run, Finished) else self._supervisor.start(run)

    async def prune(self, principal: str, request: PruneRequest) -> Pruned:
        """Clear away old checkpoints or whole threads of the principal, none that runs or waits."""
        days = request.older_than_days
        before = None if days is None else time.time() - days * _DAY
        found = await self._stores.threads.finished(principal, before=before)
        done = Pruned()
        if request.delete and before is not None:
            for thread_id in found:
                done.threads_deleted += await self._stores.threads.forget_finished(
                    principal, thread_id, before
                )
        elif request.keep_checkpoints is not None:
            history = (await self._supervisor.runner()).history
            for thread_id in found:
                gone = await history.keep_last(thread_id, request.keep_checkpoints)
                done.threads_pruned += gone > 0
                done.checkpoints_deleted += gone
        if done != Pruned():
            await self._compact()
        return done

    async def _compact(self) -> None:
        try:
            await self._stores.database.compact()
        except SQLAlchemyError as error:  # the rows are gone all the same
            logger.warning("the space of what was deleted could not be given back: %s", error)


def _thread_of(finished: Finished) -> str:
    return CodeAgentResponse.model_validate_json(finished.response).thread_id
