"""Runs: who may run a thread now, and what came of it.

A thread is claimed by compare-and-set (`checkpoints.leases`) in one transaction with everything that must be
true at the same moment: the answer of the question that lets it go on, the run's row, its Idempotency-Key,
and the events that tell of it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.columns import storable
from checkpoints.database import Database, Upsert
from checkpoints.errors import (
    AlreadyAnswered,
    CheckpointNotFound,
    NotWaiting,
    QuestionOpen,
    StateDamaged,
    ThreadBusy,
)
from checkpoints.events import EventLog, NewEvent, StoredEvent
from checkpoints.graph_tables import ROOT, checkpoints
from checkpoints.idempotency import Finished, IdempotencyKey, find_response, point_at, reserve
from checkpoints.leases import check_fence, claim
from checkpoints.questions import (
    Question,
    close_questions,
    find_questions,
    open_questions,
    settle_question,
)
from checkpoints.rows import check_row
from checkpoints.tables import runs, threads
from checkpoints.threads import ThreadRecord, ThreadStatus, find_thread, own_thread

RunKind = Literal["invoke", "resume", "rewind", "fork"]
_ADD_THREAD = Upsert(threads)


@dataclass(frozen=True, slots=True)
class Run:
    """One claim of a thread, from a request to its response."""

    run_id: str
    thread_id: str
    principal: str
    kind: RunKind
    turn_id: str
    """The run that brought the instruction; a resume goes on with the turn of an earlier invoke."""
    instruction: str
    """Of the turn."""
    request: bytes
    fence: int

    @classmethod
    def of(cls, row: Row[Any], principal: str, fence: int) -> Self:
        """From a row of the table, and what its thread's says."""
        names = ("run_id", "thread_id", "kind", "turn_id", "instruction", "request")
        return cls(**{name: row._mapping[name] for name in names}, principal=principal, fence=fence)

    def row(self, now: float) -> dict[str, Any]:
        """For the table, of a run that begins now."""
        return {
            "run_id": self.run_id,
            "thread_id": self.thread_id,
            "kind": self.kind,
            "turn_id": self.turn_id,
            "instruction": self.instruction,
            "request": self.request,
            "created_at": now,
        }


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that somebody asks for."""

    principal: str
    thread_id: str
    run_id: str
    request: bytes
    key: IdempotencyKey | None = None
    events: Sequence[NewEvent] = ()
    """What is told of it once it is begun."""


@dataclass(frozen=True, slots=True)
class NewThread:
    """What a thread is started with, if its id is not known yet."""

    title: str
    project_directory: str | None
    project_identity: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a question."""

    tool_call_id: str
    text: str
    by: str


_Begun = tuple[Run | Finished, list[StoredEvent]]
"""A run or the response of an earlier one, and what is to be announced after the commit."""


class RunStore:
    """Claims threads for runs, settles them, and takes over those that nobody performs any more."""

    def __init__(self, database: Database, log: EventLog, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._log = log
        self._clock = clock

    async def begin(self, new: NewRun, instruction: str, thread: NewThread) -> Run | Finished:
        """Claim the thread for a new instruction; an unknown thread is made.

        Raises ThreadNotFound (another principal's), ThreadBusy, QuestionOpen, KeyReused, StateDamaged.
        """

        async def operation(connection: AsyncConnection) -> _Begun:
            if earlier := await self._reserve(connection, new):
                return earlier, []
            found = await find_thread(connection, new.thread_id, new.principal, lock=True)
            if found is None:
                await self._add_thread(connection, new, thread)  # nothing if it is another principal's
                found = await own_thread(connection, new.principal, new.thread_id)
            if found.status == "requires_human_input" and (
                asked := await find_questions(connection, new.thread_id, status="open")
            ):
                raise QuestionOpen(asked[0].tool_call_id, asked[0].question)
            return await self._start(connection, found, new, "invoke", new.run_id, instruction)

        return await self._begun(operation)

    async def answer(self, new: NewRun, answer: Answer) -> Run | Finished:
        """Take the answer, once, and claim the thread to go on with it.

        The same answer again gives the thread's present outcome. Raises ThreadNotFound, ThreadBusy,
        NotWaiting, AlreadyAnswered, KeyReused, StateDamaged.
        """

        async def operation(connection: AsyncConnection) -> _Begun:
            if earlier := await self._reserve(connection, new):
                return earlier, []
            thread = await own_thread(connection, new.principal, new.thread_id)
            asked = {q.tool_call_id: q for q in await find_questions(connection, new.thread_id)}
            question = asked.get(answer.tool_call_id)
            fate = question.fate(self._clock()) if question else None
            if question is None or fate in ("cancelled", "expired"):
                still_open = [q.tool_call_id for q in asked.values() if q.fate(self._clock()) == "open"]
                raise NotWaiting(answer.tool_call_id, still_open, fate)
            if question.status == "answered":
                finished = await self._again(connection, thread, question, answer.text)
                if new.key is not None:
                    await point_at(connection, new.run_id, thread.run_id)
                return finished, []
            latest = await self._latest(connection, thread)
            begun = await self._start(connection, thread, new, "resume", latest.turn_id, latest.instruction)
            if not await settle_question(
                connection,
                new.thread_id,
                answer.tool_call_id,
                status="answered",
                answer=answer.text,
                by=answer.by,
                now=self._clock(),
            ):
                raise NotWaiting(answer.tool_call_id)
            return begun

        return await self._begun(operation)

    async def rewind(
        self,
        new: NewRun,
        checkpoint_id: str,
        instruction: str,
        tell: Callable[[str, str], NewEvent],
    ) -> Run | Finished:
        """Claim the thread to take it back to a checkpoint; questions that are open there are cancelled.

        `tell` says what is told of such a question, given the run and its tool call id. Raises
        ThreadNotFound, CheckpointNotFound, ThreadBusy, KeyReused.
        """

        async def operation(connection: AsyncConnection) -> _Begun:
            if earlier := await self._reserve(connection, new):
                return earlier, []
            thread = await own_thread(connection, new.principal, new.thread_id)
            found = select(checkpoints.c.checkpoint_id).where(
                checkpoints.c.thread_id == new.thread_id,
                checkpoints.c.namespace == ROOT,
                checkpoints.c.checkpoint_id == checkpoint_id,
            )
            if (await connection.execute(found)).first() is None:
                raise CheckpointNotFound(checkpoint_id)
            run, told = await self._start(connection, thread, new, "rewind", new.run_id, instruction)
            closed = await close_questions(
                connection, new.thread_id, by=new.principal, now=self._clock(), status="cancelled"
            )
            also = [tell(new.run_id, call_id) for call_id in closed]
            return run, told + await self._log.append(connection, new.thread_id, also)

        return await self._begun(operation)

    async def settle(
        self,
        run: Run,
        response: bytes,
        status: ThreadStatus,
        questions: Sequence[Question] = (),
        told: Sequence[NewEvent] = (),
    ) -> None:
        """End the run: its response, its questions, its events and the thread's status, all at once.

        Settling again what was settled changes nothing. Raises LeaseLost.
        """

        async def operation(connection: AsyncConnection) -> list[StoredEvent]:
            now = self._clock()
            await check_fence(connection, run.thread_id, run.fence)
            done = await connection.execute(
                update(runs)
                .where(runs.c.run_id == run.run_id, runs.c.finished_at.is_(None))
                .values(response=response, finished_at=now)
            )
            if done.rowcount != 1:
                return []
            await connection.execute(
                update(threads)
                .where(threads.c.thread_id == run.thread_id)
                .values(status=status, holder=None, lease_until=None, cancel_requested=False, updated_at=now)
            )
            if questions:
                await open_questions(connection, run.thread_id, run.run_id, questions, now)
            if status != "requires_human_input":  # a question is open only while its thread waits
                await close_questions(connection, run.thread_id, by=run.principal, now=now)
            return await self._log.append(connection, run.thread_id, told)

        self._log.announce(await self._database.write(operation))

    async def replay(self, principal: str, key: IdempotencyKey) -> Finished | None:
        """The response kept for this key, if there was such a request. Raises ThreadBusy, KeyReused."""
        async with self._database.read() as connection:
            return await find_response(connection, principal, key, self._clock())

    async def latest(self, thread_id: str) -> Run | None:
        """The thread's latest run. Raises StateDamaged."""
        query = select(runs, threads.c.principal, threads.c.fence).join(
            threads, threads.c.run_id == runs.c.run_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query.where(threads.c.thread_id == thread_id))).one_or_none()
        if row is None:
            return None
        check_row(thread_id, runs, row)
        return Run.of(row, row.principal, row.fence)

    async def request(self, thread_id: str, run_id: str) -> bytes | None:
        """The request that a run of the thread was started with; None if it was not one of this thread's."""
        query = select(runs.c.request).where(runs.c.run_id == run_id, runs.c.thread_id == thread_id)
        async with self._database.read() as connection:
            request = (await connection.execute(query)).scalar_one_or_none()
        return None if request is None else bytes(request)

    async def response(self, run_id: str | None) -> bytes | None:
        """The stored response of a run; None while it goes on."""
        async with self._database.read() as connection:
            return await self._response(connection, run_id)

    async def last_response(self, thread_id: str) -> bytes | None:
        """The stored response of the thread's latest run that ended."""
        query = (
            select(runs.c.response)
            .where(runs.c.thread_id == thread_id, runs.c.response.is_not(None))
            .order_by(runs.c.finished_at.desc())
            .limit(1)
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one_or_none()

    async def take_over(self, thread_id: str) -> Run | None:
        """Claim a run that nobody performs any more; None when somebody else was faster.

        Raises StateDamaged.
        """

        async def operation(connection: AsyncConnection) -> Run | None:
            thread = await find_thread(connection, thread_id, lock=True)
            if thread is None or not thread.is_abandoned(await self._database.time(connection)):
                return None
            latest = await self._latest(connection, thread)
            fence = await claim(self._database, connection, thread.thread_id, thread.fence, latest.run_id)
            return Run.of(latest, thread.principal, fence)

        return await self._database.write(operation)

    async def _begun(self, operation: Callable[[AsyncConnection], Awaitable[_Begun]]) -> Run | Finished:
        begun, told = await self._database.write(operation)
        self._log.announce(told)
        return begun

    async def _reserve(self, connection: AsyncConnection, new: NewRun) -> Finished | None:
        if new.key is None:
            return None
        return await reserve(connection, new.principal, new.key, new.run_id, self._clock())

    async def _again(
        self, connection: AsyncConnection, thread: ThreadRecord, question: Question, answer: str
    ) -> Finished:
        """A question that was answered before is answered again."""
        if question.answer != storable(answer):
            raise AlreadyAnswered(question.tool_call_id)
        if thread.status == "running":
            raise ThreadBusy("This answer was taken and its run goes on.")
        response = await self._response(connection, thread.run_id)
        if response is None:
            raise ThreadBusy
        return Finished(response)

    async def _add_thread(self, connection: AsyncConnection, new: NewRun, thread: NewThread) -> None:
        now = self._clock()
        row = {
            "thread_id": new.thread_id,
            "principal": new.principal,
            "title": thread.title,
            "project_directory": thread.project_directory,
            "project_identity": thread.project_identity,
            "status": "idle",
            "fence": 0,
            "created_at": now,
            "updated_at": now,
        }
        await connection.execute(_ADD_THREAD.on(connection), row)

    async def _start(
        self,
        connection: AsyncConnection,
        thread: ThreadRecord,
        new: NewRun,
        kind: RunKind,
        turn_id: str,
        instruction: str,
    ) -> tuple[Run, list[StoredEvent]]:
        """Claim the thread, and write down the run and what is told of it. Raises ThreadBusy."""
        if thread.status == "running":
            raise ThreadBusy
        fence = await claim(self._database, connection, thread.thread_id, thread.fence, new.run_id)
        run = Run(
            new.run_id, thread.thread_id, thread.principal, kind, turn_id, instruction, new.request, fence
        )
        await connection.execute(insert(runs), run.row(self._clock()))
        return run, await self._log.append(connection, run.thread_id, new.events)

    async def _latest(self, connection: AsyncConnection, thread: ThreadRecord) -> Row[Any]:
        """The row of the thread's latest run. Raises StateDamaged."""
        row = (await connection.execute(select(runs).where(runs.c.run_id == thread.run_id))).one_or_none()
        if row is None:
            raise StateDamaged(thread.thread_id, "its latest run is missing")
        check_row(thread.thread_id, runs, row)
        return row

    async def _response(self, connection: AsyncConnection, run_id: str | None) -> bytes | None:
        query = select(runs.c.response).where(runs.c.run_id == run_id)
        return (await connection.execute(query)).scalar_one_or_none()
