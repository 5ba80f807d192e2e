"""The agent as others see it: instructions and answers in, runs and their outcomes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from agent_service import events
from agent_service.agent.approvals import AnswerUnclear, read_answer
from agent_service.agent.contract import (
    CodeAgentRequest,
    CodeAgentResponse,
    ResumeRequest,
    ThreadMessage,
)
from agent_service.agent.errors import RunCancelled
from agent_service.agent.feed import EventFeed
from agent_service.agent.outcome import read_response
from agent_service.agent.short_text import in_short
from agent_service.agent.supervisor import ActiveRun, RunSupervisor
from agent_service.agent.timeline import Timeline
from agent_service.agent.workspace_watch import WorkspaceWatch
from agent_service.errors import InvalidRequest, UnclearAnswer
from checkpoints.diagnosis import trouble_with
from checkpoints.errors import ThreadBusy, ThreadNotFound
from checkpoints.events import Standing
from checkpoints.idempotency import Finished, IdempotencyKey
from checkpoints.journal import Change
from checkpoints.runs import Answer, NewRun, NewThread
from checkpoints.stores import Stores
from checkpoints.threads import ThreadRecord
from tools.errors import ToolError
from tools.project import ProjectRefused
from tools.workspace import Workspace

CANCEL_SECONDS = 20.0
"""How long a cancel waits for the tools under way."""
_CANCEL_POLL_SECONDS = 0.5
TITLE_LENGTH = 80


class Caller(Protocol):
    """Who asks: owns the threads, and may be limited to some folders."""

    @property
    def name(self) -> str: ...

    @property
    def allowed_roots(self) -> tuple[Path, ...]:
        """Empty = to those that everybody may use."""
        ...


@dataclass(frozen=True, slots=True)
class ThreadView:
    """A thread, and what its latest run came to."""

    record: ThreadRecord
    response: CodeAgentResponse | None
    """None while a run goes on."""
    last_response: CodeAgentResponse | None
    """Of the latest run that ended."""


class CodeAgent:
    """Starts, resumes, shows, cancels and deletes; the runs themselves belong to the supervisor."""

    def __init__(
        self,
        supervisor: RunSupervisor,
        stores: Stores,
        feed: EventFeed,
        watch: WorkspaceWatch,
        open_project: Callable[[Caller, str], Path],
    ) -> None:
        self._supervisor = supervisor
        self._stores = stores
        self._watch = watch
        self._open_project = open_project
        self.feed = feed
        self.timeline = Timeline(supervisor, stores)

    async def replay(self, caller: Caller, key: IdempotencyKey | None) -> Finished | None:
        """The response of an earlier request with this key, before anything else is looked at.

        Raises ThreadBusy while that request is being served, KeyReused.
        """
        return await self._stores.runs.replay(caller.name, key) if key else None

    async def invoke(
        self, caller: Caller, request: CodeAgentRequest, raw: bytes, key: IdempotencyKey | None = None
    ) -> ActiveRun | Finished:
        """Start a run for an instruction, on a new thread or a known one.

        `raw` is the request's body, to be echoed. Raises InvalidRequest and what `RunStore.begin` raises.
        """
        thread_id = request.thread_id or str(uuid4())
        new = await self._new_thread(caller, thread_id, request)
        run_id = _new_id()
        started = events.RunStarted(thread_id=thread_id, run_id=run_id, instruction=request.instruction)
        wanted = NewRun(caller.name, thread_id, run_id, raw, key, [events.new_event(started)])
        run = await self._stores.runs.begin(wanted, request.instruction, new)
        return run if isinstance(run, Finished) else self._supervisor.start(run)

    async def resume(
        self, caller: Caller, request: ResumeRequest, raw: bytes, key: IdempotencyKey | None = None
    ) -> ActiveRun | Finished:
        """Take an answer and go on. Raises InvalidRequest, UnclearAnswer, what `RunStore.answer` raises."""
        await self._check_answer(caller, request)
        ids = {"thread_id": request.thread_id, "run_id": _new_id()}
        latest = await self._stores.runs.latest(request.thread_id)
        told: list[events.AgentEvent] = [
            events.RunStarted(**ids, instruction=latest.instruction if latest else "", resumed=True),
            events.QuestionAnswered(
                **ids, tool_call_id=request.tool_call_id, answer=request.human_response, by=caller.name
            ),
        ]
        wanted = NewRun(
            caller.name, **ids, request=raw, key=key, events=[events.new_event(each) for each in told]
        )
        answer = Answer(request.tool_call_id, request.human_response, caller.name)
        run = await self._stores.runs.answer(wanted, answer)
        return run if isinstance(run, Finished) else self._supervisor.start(run)

    async def thread(self, caller: Caller, thread_id: str) -> ThreadView:
        """The thread as it stands. Raises ThreadNotFound, StateDamaged."""
        record = await self._stores.threads.get(caller.name, thread_id)
        stored = await self._stores.runs.response(record.run_id)
        last = await self._stores.runs.last_response(thread_id) if stored is None else stored
        response, last_response = (
            None if each is None else read_response(thread_id, each) for each in (stored, last)
        )
        return ThreadView(record, response, last_response)

    async def trouble(self) -> str | None:
        """What is wrong with the database, in a sentence; None when it can be read and no damage was met."""
        return self._stores.database.damage or await trouble_with(self._stores.database)

    async def standing(self, thread_id: str) -> Standing | None:
        """How far the thread's events go; None for one that is not there yet."""
        return (await self._stores.log.last([thread_id])).get(thread_id)

    @asynccontextmanager
    async def watching(self, principal: str, thread_id: str) -> AsyncIterator[None]:
        """While it lasts, what others change in the thread's project becomes an event of the thread.

        Raises ThreadNotFound.
        """
        record = await self._stores.threads.get(principal, thread_id)

        async def tell(paths: list[str]) -> None:
            latest = (await self._stores.threads.get(principal, thread_id)).run_id or ""
            event = events.WorkspaceChanged(thread_id=thread_id, run_id=latest, paths=paths)
            await self._stores.log.add(thread_id, [events.new_event(event)])

        if record.project_directory is None:
            yield
            return
        with self._watch.follow(thread_id, Path(record.project_directory), tell):
            yield

    async def threads(
        self, caller: Caller, *, status: str | None, limit: int, after: tuple[float, str] | None
    ) -> list[ThreadRecord]:
        """The caller's threads, latest first."""
        return await self._stores.threads.list(caller.name, status=status, limit=limit, after=after)

    async def messages(self, caller: Caller, thread_id: str) -> list[ThreadMessage]:
        """The conversation so far. Raises ThreadNotFound."""
        await self._stores.threads.get(caller.name, thread_id)
        return await (await self._supervisor.runner()).messages(thread_id)

    async def delete(self, caller: Caller, thread_id: str) -> None:
        """Delete a thread and all that is kept of it. Raises ThreadNotFound, ThreadBusy."""
        self.feed.end(thread_id, await self._stores.threads.forget(caller.name, thread_id))

    async def changes(self, caller: Caller, thread_id: str) -> list[Change]:
        """What the thread made of the project's files so far. Raises ThreadNotFound."""
        await self._stores.threads.get(caller.name, thread_id)
        return await self._stores.journal.changes(thread_id)

    async def cancel(self, caller: Caller, thread_id: str) -> ThreadView:
        """Stop the run under way, or withdraw the open questions; nothing on an idle thread.

        Raises ThreadNotFound; ThreadBusy when the run does not stop in time or runs elsewhere.
        """
        end = asyncio.get_running_loop().time() + CANCEL_SECONDS
        stopping: str | None = None
        while asyncio.get_running_loop().time() < end:
            record = await self._stores.threads.get(caller.name, thread_id)
            if stopping not in (None, record.run_id):  # it has ended; what runs now was begun since
                return await self.thread(caller, thread_id)
            active = self._supervisor.active(thread_id)
            if record.status == "requires_human_input":
                await self._supervisor.withdraw(caller.name, thread_id, "cancelled")
            elif record.status != "running":
                return await self.thread(caller, thread_id)
            elif active is not None and active.task is not None and active.run.run_id == record.run_id:
                stopping = record.run_id
                active.stop.set(RunCancelled())
                await asyncio.wait({active.task}, timeout=_CANCEL_POLL_SECONDS)
            else:  # another process runs it, or soon one will
                stopping = record.run_id
                await self._stores.threads.request_cancel(caller.name, thread_id, stopping)
                await asyncio.sleep(_CANCEL_POLL_SECONDS)
        raise ThreadBusy("The run stops as soon as the tool call under way is finished.")

    def drain(self) -> None:
        """Begin to shut down: runs leave off after the step in flight, streams end."""
        self._supervisor.drain()
        self.feed.close()

    async def _new_thread(self, caller: Caller, thread_id: str, request: CodeAgentRequest) -> NewThread:
        """What the thread is made with if it is new. Raises InvalidRequest when the project does not fit."""
        project, identity = None, None
        if request.project_directory is not None:
            try:
                folder = await asyncio.to_thread(self._open_project, caller, request.project_directory)
                identity = await asyncio.to_thread(lambda: Workspace(folder).identity)
            except ProjectRefused as refused:
                raise InvalidRequest("project_directory", str(refused)) from None
            project = str(folder)
            with suppress(ThreadNotFound):
                known = await self._stores.threads.get(caller.name, thread_id)
                if known.project_directory != project:
                    raise InvalidRequest(
                        "project_directory",
                        f"This thread works in {known.project_directory or 'no project folder'}; "
                        "start a new thread for another project.",
                    )
        title = in_short(request.instruction.strip().partition("\n")[0], TITLE_LENGTH)
        return NewThread(title, project, identity)

    async def _check_answer(self, caller: Caller, request: ResumeRequest) -> None:
        """See that the answer can be used now: once taken, it is not asked for again.

        An approval wants a clear yes or no. Raises InvalidRequest, UnclearAnswer, ThreadNotFound.
        """
        thread = await self._stores.threads.get(caller.name, request.thread_id)
        questions = await self._stores.questions.all(request.thread_id, status="open")
        asked = next((q for q in questions if q.tool_call_id == request.tool_call_id), None)
        if asked is None:
            return
        if asked.kind == "approval":
            try:
                read_answer(request.human_response)
            except AnswerUnclear as unclear:
                raise UnclearAnswer("human_response", str(unclear)) from None
        if thread.project_directory and not await asyncio.to_thread(_is_there, thread.project_directory):
            raise InvalidRequest(
                "thread_id",
                f"The project folder {thread.project_directory} is gone or unreadable; put it back, then "
                "answer again. The question stays open.",
            )


def _is_there(project_directory: str) -> bool:
    try:
        return bool(Workspace(Path(project_directory)).identity)
    except (ToolError, OSError):
        return False


def _new_id() -> str:
    return uuid4().hex
