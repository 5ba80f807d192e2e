"""The runs under way in this process: tasks of the service, not of the connections that asked for them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

import orjson
from sqlalchemy.exc import SQLAlchemyError

from agent_service import events
from agent_service.agent.contract import CodeAgentResponse
from agent_service.agent.errors import InternalFault
from agent_service.agent.limits import StopSignal
from agent_service.agent.outcome import Outcome
from agent_service.agent.parts import AgentParts
from checkpoints.errors import LeaseLost
from checkpoints.runs import Run
from checkpoints.saver import open_saver
from checkpoints.stores import Stores

if TYPE_CHECKING:
    from agent_service.agent.runner import Runner

logger = logging.getLogger(__name__)

TAKE_OVER_SECONDS = 5.0
"""How often runs of processes that died are looked for."""
WARM_UP_AFTER_SECONDS = 1.0
DRAIN_SECONDS = 15.0
"""How long a shutdown waits for the steps in flight."""
RETRY_SECONDS = 2.0
"""How often the end of a run is written again when the database does not take it."""


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

    def __init__(self, parts: AgentParts, stores: Stores) -> None:
        self._parts = parts
        self._stores = stores
        self._active: dict[str, ActiveRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resources = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._runner: Runner | None = None

    async def __aenter__(self) -> Self:
        self._chores = (
            asyncio.create_task(self._take_over_for_ever()),
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
        active = ActiveRun(run)
        active.response.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._active[run.thread_id] = active
        task = asyncio.create_task(self._serve(active))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return active

    def drain(self) -> None:
        """Let every run leave off after the step in flight; they are taken up again at the next start."""
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
                saver = await self._resources.enter_async_context(open_saver(self._stores.database))
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
            outcome = await (await self.runner()).perform(run, active.stop)
            if outcome is None:
                return  # left off for a shutdown
            stored = orjson.dumps(outcome.response.model_dump(mode="json"))
        except LeaseLost:
            raise
        except Exception:  # whatever it was, the thread must come to rest
            logger.exception("run %s of thread %s failed", run.run_id, run.thread_id)
            outcome = _failed(run)
            stored = orjson.dumps(outcome.response.model_dump(mode="json"))
        await self._settle(active, outcome, stored)

    async def _settle(self, active: ActiveRun, outcome: Outcome, stored: bytes) -> None:
        """Store the end of the run before anybody hears of it; try again while the database is unwilling."""
        while True:
            try:
                await self._stores.runs.settle(active.run, stored, outcome.status, outcome.questions)
                break
            except SQLAlchemyError as error:
                logger.error("the end of run %s could not be stored: %s", active.run.run_id, error)
                if not active.response.done():
                    active.response.set_exception(error)
                await asyncio.sleep(RETRY_SECONDS)
        self._tell(active.run, outcome)
        if not active.response.done():
            active.response.set_result(stored)

    def _tell(self, run: Run, outcome: Outcome) -> None:
        ids = {"thread_id": run.thread_id, "run_id": run.run_id}
        response = outcome.response
        asked = {q.tool_call_id for q in outcome.questions}
        for request in response.pending_requests:
            if request.tool_call_id in asked:
                opened = request.model_dump(mode="json")
                self._parts.emit(events.QuestionOpened(**ids, human_input_request=opened))
        if response.error_details:
            self._parts.emit(events.Failed(**ids, message=response.error_details, code=outcome.error_code))
        self._parts.emit(events.RunFinished(**ids, response=response.model_dump(mode="json")))

    async def _warm_up(self) -> None:
        """Import what runs need once the service has begun to answer, so that the first run need not wait."""
        await asyncio.sleep(WARM_UP_AFTER_SECONDS)
        await self.runner()

    async def _take_over_for_ever(self) -> None:
        """Go on with runs whose process died, here or elsewhere, from their last checkpoint."""
        while True:
            try:
                for run in await self._stores.runs.take_over_abandoned():
                    logger.info("taking up run %s of thread %s again", run.run_id, run.thread_id)
                    self.start(run)
            except Exception:  # the next look may go better; without it they would stay abandoned
                logger.exception("could not take up abandoned runs")
            await asyncio.sleep(TAKE_OVER_SECONDS)


def _import_runner() -> type[Runner]:
    from agent_service.agent.runner import Runner

    return Runner


def _failed(run: Run) -> Outcome:
    fault = InternalFault()
    response = CodeAgentResponse(
        agent_status="error",
        error_details=str(fault),
        request_params={},
        thread_id=run.thread_id,
        run_id=run.run_id,
    )
    return Outcome(response, "error", [], fault.code)
