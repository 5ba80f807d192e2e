"""The runs under way in this process: tasks of the service, not of the connections that asked for them."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import orjson
from sqlalchemy.exc import SQLAlchemyError

from agent_service import events
from agent_service.agent.contract import CodeAgentResponse
from agent_service.agent.errors import InternalFault, RunCancelled
from agent_service.agent.limits import StopSignal
from agent_service.agent.outcome import Outcome
from agent_service.agent.parts import AgentParts
from agent_service.agent.retention import Retention
from agent_service.agent.withdrawal import withdraw_questions
from checkpoints.errors import CheckpointError, DatabaseUnusable, LeaseLost, StateDamaged
from checkpoints.events import NewEvent
from checkpoints.leases import RENEW_SECONDS, abandoned_threads, release, renew
from checkpoints.owner import is_of_this_machine
from checkpoints.runs import Run
from checkpoints.saver import open_saver
from checkpoints.stores import Stores
from checkpoints.threads import FINISHED, ThreadRecord
from tools.errors import ToolError
from tools.workspace import Workspace

if TYPE_CHECKING:
    from agent_service.agent.runner import Runner

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often runs that nobody performs, and questions whose time is over, are looked for."""
FORGET_SECONDS = 6 * 3600.0
"""How often old events are looked for."""
WARM_UP_AFTER_SECONDS = 1.0
DRAIN_SECONDS = 15.0
"""How long a shutdown waits for the steps in flight."""
RETRY_SECONDS = 2.0
"""How often a run is taken up again, or its end written, when the database does not take it."""
_DATABASE_TROUBLE = (SQLAlchemyError, DatabaseUnusable)


@dataclass(slots=True)
class ActiveRun:
    """A run under way."""

    run: Run
    stop: StopSignal = field(default_factory=StopSignal)
    response: asyncio.Future[bytes] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """The stored response, once there is one; an exception when it could not be stored."""


class RunSupervisor:
    """Performs claimed runs in the background and stores what they came to. Use it with `async with`."""

    def __init__(self, parts: AgentParts, stores: Stores, retention: Retention) -> None:
        self._parts = parts
        self._stores = stores
        self._retention = retention
        self._active: dict[str, ActiveRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resources = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._runner: Runner | None = None
        self._draining = False

    async def __aenter__(self) -> Self:
        self._chores = (
            asyncio.create_task(_repeat(self._take_over, LOOK_SECONDS)),
            asyncio.create_task(_repeat(self._renew, RENEW_SECONDS)),
            asyncio.create_task(_repeat(self._forget_events, FORGET_SECONDS)),
            asyncio.create_task(_repeat(self._expire, LOOK_SECONDS)),
            asyncio.create_task(self._warm_up()),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for chore in self._chores:
            chore.cancel()
        self.drain()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._chores, *self._tasks, return_exceptions=True)
        await self._resources.aclose()

    def start(self, run: Run) -> ActiveRun:
        """Perform the run, whatever happens to whoever asked for it."""
        sys.audit("agent_service.run.claimed", run.thread_id)
        active = ActiveRun(run)
        active.response.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._active[run.thread_id] = active
        task = asyncio.create_task(self._serve(active))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return active

    def drain(self) -> None:
        """Let every run leave off after the step in flight; they are taken up again at the next start."""
        self._draining = True
        for active in self._active.values():
            active.stop.pause()

    def active(self, thread_id: str) -> ActiveRun | None:
        """The thread's run, if it is under way in this process."""
        return self._active.get(thread_id)

    async def runner(self) -> Runner:
        """The runner; made on first use, which imports LangGraph in a worker thread."""
        async with self._opening:
            if self._runner is None:
                make_runner = await asyncio.to_thread(_import_runner)
                saver = await self._resources.enter_async_context(
                    open_saver(self._stores.database, self._stores.log)
                )
                self._runner = make_runner(self._parts, self._stores, saver)
            return self._runner

    async def _serve(self, active: ActiveRun) -> None:
        try:
            await self._perform(active)
        except LeaseLost as lost:
            logger.warning("%s", lost)
            if not active.response.done():
                active.response.set_exception(lost)
        finally:
            if self._active.get(active.run.thread_id) is active:
                del self._active[active.run.thread_id]
            if not active.response.done():
                active.response.cancel()

    async def _perform(self, active: ActiveRun) -> None:
        run = active.run
        try:
            outcome = await self._outcome(active)
        except LeaseLost:
            raise
        except StateDamaged as damaged:  # more of the same is no help, and other threads go on
            logger.error("run %s ends: %s", run.run_id, damaged)
            outcome = _failed(run, str(damaged), "state_damaged")
        except Exception:  # whatever it was, the thread must come to rest
            logger.exception("run %s of thread %s failed", run.run_id, run.thread_id)
            outcome = _failed(run, str(InternalFault()), InternalFault.code)
        if outcome is None:  # left off for a shutdown: another process may go on at once
            await release(self._stores.database, run.thread_id, run.fence)
        else:
            await self._settle(active, outcome)

    async def _outcome(self, active: ActiveRun) -> Outcome | None:
        """What the run came to. While the database is unwilling it is taken up again from what is stored."""
        while True:
            try:
                return await (await self.runner()).perform(active.run, active.stop)
            except _DATABASE_TROUBLE as error:
                if active.stop.pausing:
                    return None
                await self._wait_for_database(active, error)

    async def _settle(self, active: ActiveRun, outcome: Outcome) -> None:
        """Store the end of the run before anybody hears of it; try again while the database is unwilling."""
        run, told = active.run, _told(active.run, outcome)
        stored = orjson.dumps(outcome.response.model_dump(mode="json"))
        while True:
            try:
                await self._stores.runs.settle(run, stored, outcome.status, outcome.questions, told)
                break
            except _DATABASE_TROUBLE as error:
                await self._wait_for_database(active, error)
        sys.audit("agent_service.run.settled", run.thread_id)
        if not active.response.done():
            active.response.set_result(stored)
        if outcome.status in FINISHED:
            await self._trim(run.thread_id)

    async def _wait_for_database(self, active: ActiveRun, error: Exception) -> None:
        """Tell whoever waits for the run why it takes longer, so that nobody is told a success instead."""
        logger.error("run %s waits for the database: %s", active.run.run_id, error)
        if not active.response.done():
            active.response.set_exception(error)
        await asyncio.sleep(RETRY_SECONDS)

    async def _trim(self, thread_id: str) -> None:
        """Delete the checkpoints that are not to be kept; a failure is no matter of the run that ended."""
        if self._retention.keep_checkpoints is None:
            return
        try:
            await (await self.runner()).history.keep_last(thread_id, self._retention.keep_checkpoints)
        except (CheckpointError, SQLAlchemyError) as error:
            logger.error("old checkpoints of thread %s could not be deleted: %s", thread_id, error)

    async def _forget_events(self) -> None:
        """Delete the events that are too old to be kept."""
        if (seconds := self._retention.keep_events_seconds) is not None:
            await self._stores.log.forget_before(time.time() - seconds)

    async def _warm_up(self) -> None:
        """Import what runs need once the service has begun to answer, so that the first run need not wait."""
        await asyncio.sleep(WARM_UP_AFTER_SECONDS)
        await self.runner()

    async def _renew(self) -> None:
        """Renew the leases of the runs under way, and stop those that are not ours any more."""
        if not self._active:
            return
        begun = list(self._active.values())
        held = await renew(self._stores.database)
        for active in begun:
            lease = held.get(active.run.thread_id)
            if lease is None or lease.fence != active.run.fence:
                active.stop.pause()  # its next write is refused in any case
            elif lease.cancel_requested:
                active.stop.set(RunCancelled())

    async def _take_over(self) -> None:
        """Go on with runs whose process died, here or elsewhere, from their last checkpoint."""
        for thread in () if self._draining else await abandoned_threads(self._stores.database):
            if not await asyncio.to_thread(_is_here, thread):
                continue
            if run := await self._stores.runs.take_over(thread.thread_id):
                logger.info("taking up run %s of thread %s again", run.run_id, run.thread_id)
                active = self.start(run)
                if thread.cancel_requested:
                    active.stop.set(RunCancelled())

    async def _expire(self) -> None:
        """Close the questions that nobody answered in time."""
        for principal, thread_id in await self._stores.questions.expired():
            await withdraw_questions(self._stores.questions, principal, thread_id, "expired")


async def _repeat(chore: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do the chore for ever; after a failure the next time may go better."""
    while True:
        try:
            await chore()
        except Exception:
            logger.exception("a chore of the service failed; it is tried again")
        await asyncio.sleep(seconds)


def _is_here(thread: ThreadRecord) -> bool:
    """Whether this machine can go on with the thread: its project is here, at the same path.

    On the machine where it was run before a replaced folder does not hinder: the human is asked about it.
    """
    if thread.project_directory is None or is_of_this_machine(thread.holder):
        return True
    try:
        return Workspace(Path(thread.project_directory)).identity == thread.project_identity
    except (ToolError, OSError):
        return False


def _told(run: Run, outcome: Outcome) -> list[NewEvent]:
    """What is told of the end of a run."""
    ids = {"thread_id": run.thread_id, "run_id": run.run_id}
    response = outcome.response
    asked = {q.tool_call_id for q in outcome.questions}
    told: list[events.AgentEvent] = [
        events.QuestionOpened(**ids, human_input_request=request.model_dump(mode="json"))
        for request in response.pending_requests
        if request.tool_call_id in asked
    ]
    if response.error_details:
        told.append(events.Failed(**ids, message=response.error_details, code=outcome.error_code))
    told += outcome.told
    told.append(events.RunFinished(**ids, response=response.model_dump(mode="json")))
    return [events.new_event(each) for each in told]


def _import_runner() -> type[Runner]:
    from agent_service.agent.runner import Runner

    return Runner


def _failed(run: Run, reason: str, code: str) -> Outcome:
    response = CodeAgentResponse(
        agent_status="error",
        error_details=reason,
        request_params={},
        thread_id=run.thread_id,
        run_id=run.run_id,
    )
    return Outcome(response, "error", [], code)
