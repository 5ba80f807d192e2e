"""The runs under way in this process: tasks of the service, not of the connections that asked for them."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from sqlalchemy.exc import SQLAlchemyError

from agent_service.agent.errors import InternalFault, RunCancelled
from agent_service.agent.limits import StopSignal
from agent_service.agent.outcome import Ending, Outcome, failed
from agent_service.agent.parts import AgentParts
from agent_service.agent.retention import Retention
from agent_service.agent.withdrawal import withdraw_questions
from agent_service.chores import of_one_thread, repeat
from checkpoints.diagnosis import diagnose, is_damage, passes
from checkpoints.errors import CheckpointError, DatabaseUnusable, LeaseLost, StateDamaged
from checkpoints.giving_up import give_up
from checkpoints.journal import Change
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
FIRST_FORGET_SECONDS = (60.0, 600.0)
"""How long after the start for the first time: not while there is most to do, nor by all replicas at once."""
WARM_UP_AFTER_SECONDS = 1.0
DRAIN_SECONDS = 15.0
"""How long a shutdown waits for the steps in flight."""
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 30.0
"""How soon it is seen whether the database takes writes again; twice as long each further time."""


@dataclass(slots=True)
class ActiveRun:
    """A run under way."""

    run: Run
    stop: StopSignal = field(default_factory=StopSignal)
    response: asyncio.Future[bytes] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """The stored response, once there is one; an exception when it could not be stored."""
    task: asyncio.Task[None] | None = None
    """Done when the run is not performed any more."""


class RunSupervisor:
    """Performs claimed runs in the background and stores what they came to. Use it with `async with`."""

    def __init__(
        self, parts: AgentParts, stores: Stores, retention: Retention, *, takes_up: bool = True
    ) -> None:
        """`takes_up`: whether to go on with runs whose process died, as somebody must who has the models."""
        self._parts = parts
        self._takes_up = takes_up
        self._stores = stores
        self._retention = retention
        self._active: dict[str, ActiveRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resources = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._runner: Runner | None = None
        self._draining = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._renewing = asyncio.create_task(repeat(self._renew, RENEW_SECONDS))
        self._ending = asyncio.create_task(self._end_the_last_steps())
        self._chores = (
            asyncio.create_task(repeat(self._take_over, LOOK_SECONDS)),
            asyncio.create_task(
                repeat(self._forget_events, FORGET_SECONDS, after=random.uniform(*FIRST_FORGET_SECONDS))
            ),
            asyncio.create_task(repeat(self._expire, LOOK_SECONDS)),
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
        self._ending.cancel()
        self._renewing.cancel()  # not sooner: what is still under way is ours
        ended = (self._ending, self._renewing, *self._chores, *self._tasks)
        await asyncio.gather(*ended, return_exceptions=True)
        await self._resources.aclose()

    def start(self, run: Run) -> ActiveRun:
        """Perform the run, whatever happens to whoever asked for it."""
        sys.audit("agent_service.run.claimed", run.thread_id)
        active = ActiveRun(run)
        active.response.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._active[run.thread_id] = active
        if self._draining.is_set():
            active.stop.leave_off()
        active.task = asyncio.create_task(self._serve(active))
        self._tasks.add(active.task)
        active.task.add_done_callback(self._tasks.discard)
        return active

    def drain(self) -> None:
        """Let every run leave off after the step in flight; they are taken up again at the next start."""
        self._draining.set()
        for active in self._active.values():
            active.stop.leave_off()

    def active(self, thread_id: str) -> ActiveRun | None:
        """The thread's run, if it is under way in this process."""
        return self._active.get(thread_id)

    async def withdraw(self, principal: str, thread_id: str, status: Literal["cancelled", "expired"]) -> None:
        """Close all open questions of a thread, which is idle then; nothing if it does not wait.

        Raises ThreadNotFound, StateDamaged.
        """
        if await withdraw_questions(self._stores.questions, principal, thread_id, status):
            await self._trim(thread_id)

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

    async def _end_the_last_steps(self) -> None:
        """Stop what a shutdown has no time for, so that whoever waits for those runs hears of it."""
        await self._draining.wait()
        await asyncio.sleep(DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()

    async def _serve(self, active: ActiveRun) -> None:
        try:
            await self._perform(active)
        except LeaseLost as lost:
            logger.warning("%s", lost)
            if not active.response.done():
                active.response.set_exception(lost)
        except _LetGo:
            logger.warning("run %s is left to whoever comes next", active.run.run_id)
        except Exception as error:  # the lease runs out then, and whoever sees that takes the run up again
            logger.exception("run %s of thread %s was let go", active.run.run_id, active.run.thread_id)
            if is_damage(error) and not active.response.done():
                active.response.set_exception(error)
        finally:
            if self._active.get(active.run.thread_id) is active:
                del self._active[active.run.thread_id]
            if not active.response.done():
                active.response.cancel()

    async def _perform(self, active: ActiveRun) -> None:
        run = active.run
        try:
            outcome = await self._outcome(active)
            ending = None if outcome is None else Ending.of(run, outcome)
        except (LeaseLost, _LetGo):
            raise
        except StateDamaged as damaged:  # more of the same is no help, and other threads go on
            logger.error("run %s ends: %s", run.run_id, damaged)
            ending = await self._failure(run, str(damaged), "state_damaged")
        except Exception as error:  # noqa: BLE001 - whatever it was, the thread must come to rest
            ending = await self._broken(run, error)
        if ending is None:  # left off for a shutdown: another process may go on at once
            await release(self._stores.database, run.thread_id, run.fence)
        else:
            await self._settle(active, ending)

    async def _outcome(self, active: ActiveRun) -> Outcome | None:
        """What the run came to, None when it left off; begun again after the database refused for a while."""
        for seconds in _growing(FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS):
            try:
                return await (await self.runner()).perform(active.run, active.stop)
            except (SQLAlchemyError, DatabaseUnusable) as error:
                await self._wait_for_database(active, error, seconds)
        raise AssertionError("unreachable")

    async def _settle(self, active: ActiveRun, ending: Ending) -> None:
        """Store the end of the run before anybody hears of it."""
        run, (outcome, stored, told) = active.run, ending
        for seconds in _growing(FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS):
            try:
                await self._stores.runs.settle(run, stored, outcome.status, outcome.questions, told)
                break
            except (SQLAlchemyError, DatabaseUnusable) as error:
                await self._wait_for_database(active, error, seconds)
        sys.audit("agent_service.run.settled", run.thread_id)
        if not active.response.done():
            active.response.set_result(stored)
        if outcome.status in FINISHED:
            await self._trim(run.thread_id)

    async def _wait_for_database(self, active: ActiveRun, error: Exception, seconds: float) -> None:
        """Come back when the database takes writes again.

        Whoever waits for the run is told why it takes longer, so that nobody is told a success instead.
        Raises the error if waiting would not help, LeaseLost, and _LetGo when the service ends before.
        """
        if not passes(error):
            raise error
        run = active.run
        logger.error("run %s waits for the database: %s", run.run_id, error)
        if not active.response.done():
            active.response.set_exception(error)
        while not active.stop.leaving:
            await asyncio.sleep(seconds)
            with suppress(SQLAlchemyError, DatabaseUnusable):
                if run.thread_id in await renew(self._stores.database, {run.thread_id: run.fence}):
                    return
                raise LeaseLost(run.thread_id)
        raise _LetGo

    async def _broken(self, run: Run, error: Exception) -> Ending:
        """The end of a run that the error broke off."""
        if isinstance(error, SQLAlchemyError) and is_damage(error):
            logger.error("run %s of thread %s ends: %s", run.run_id, run.thread_id, error)
            return await self._failure(run, diagnose(error), "state_damaged")
        logger.error("run %s of thread %s failed", run.run_id, run.thread_id, exc_info=error)
        return await self._failure(run, str(InternalFault()), InternalFault.code)

    async def _failure(self, run: Run, reason: str, code: str) -> Ending:
        """The end of a run that the service itself failed at."""
        changes: list[Change] = []
        with suppress(SQLAlchemyError, CheckpointError):
            changes = await self._stores.journal.changes(run.thread_id, turn_id=run.turn_id)
        return Ending.of(run, failed(run, reason, code, changes))

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
        begun = list(self._active.values())
        held = await renew(self._stores.database, {each.run.thread_id: each.run.fence for each in begun})
        for active in begun:
            lease = held.get(active.run.thread_id)
            if lease is None:
                active.stop.leave_off()  # its next write is refused in any case
            elif lease.cancel_requested:
                active.stop.set(RunCancelled())

    async def _take_over(self) -> None:
        """Go on with runs whose process died, here or elsewhere, from their last checkpoint."""
        if self._draining.is_set() or not self._takes_up:
            return
        for thread_id in await abandoned_threads(self._stores.database, self._active.keys()):
            with of_one_thread(thread_id, "taking up runs"):
                try:
                    await self._take_up(thread_id)
                except StateDamaged as damaged:
                    await self._give_up(thread_id, damaged)

    async def _take_up(self, thread_id: str) -> None:
        """Go on with the run if that is this process's to do. Raises StateDamaged."""
        thread = await self._stores.threads.find(thread_id)
        if thread is None:
            return
        if not (thread.cancel_requested or await asyncio.to_thread(self._is_here, thread)):
            return
        if run := await self._stores.runs.take_over(thread.thread_id):
            logger.info("taking up run %s of thread %s again", run.run_id, run.thread_id)
            active = self.start(run)
            if thread.cancel_requested:
                active.stop.set(RunCancelled())

    async def _give_up(self, thread_id: str, damaged: StateDamaged) -> None:
        """End a run that nobody can go on with: its thread would seem to run for ever."""
        if run := await give_up(self._stores.database, thread_id):
            logger.error("run %s cannot be taken up and ends: %s", run.run_id, damaged)
            stored = await self._failure(run, str(damaged), "state_damaged")
            await self._stores.runs.settle(run, stored.response, "error", told=stored.told)

    def _is_here(self, thread: ThreadRecord) -> bool:
        """Whether this machine shall go on with the thread: its project is here, at the same path.

        A SQLite file is of one machine. There, and where it was run before, a folder that is gone or replaced
        does not hinder: the run says so, or asks. Nor does it when nobody came for a long time.
        """
        if (
            self._stores.database.dialect == "sqlite"
            or thread.project_directory is None
            or is_of_this_machine(thread.holder)
            or thread.is_stranded(time.time())
        ):
            return True
        try:
            return Workspace(Path(thread.project_directory)).identity == thread.project_identity
        except (ToolError, OSError):
            return False

    async def _expire(self) -> None:
        """Close the questions that nobody answered in time."""
        for principal, thread_id in await self._stores.questions.expired():
            with of_one_thread(thread_id, "closing questions"):
                await self.withdraw(principal, thread_id, "expired")


class _LetGo(Exception):
    """The service ends while the database refuses: somebody else takes the run up from what is stored."""


def _growing(first: float, last: float) -> Iterator[float]:
    """First, twice that, and so on, up to the last, which is repeated for ever."""
    while True:
        yield first
        first = min(2 * first, last)


def _import_runner() -> type[Runner]:
    from agent_service.agent.runner import Runner

    return Runner
