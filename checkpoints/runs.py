"""Runs: who may run a thread now, and what came of it.

A thread is claimed by compare-and-set in one transaction with everything that must be true at the same
moment: the answer of the question that lets it go on, the run's row, its Idempotency-Key. The claim
carries a fence, a number that grows with every claim; a write made under an older fence is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.errors import (
    AlreadyAnswered,
    KeyReused,
    LeaseLost,
    NotWaiting,
    QuestionOpen,
    ThreadBusy,
    ThreadNotFound,
)
from checkpoints.owner import is_alive, this_process
from checkpoints.questions import Question, find_questions, open_questions, settle_question
from checkpoints.tables import idempotency, runs, threads
from checkpoints.threads import ThreadRecord, ThreadStatus, find_thread, forget_thread

IDEMPOTENCY_SECONDS = 24 * 3600
"""How long an Idempotency-Key is remembered."""

RunKind = Literal["invoke", "resume"]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's name for one request, so that a repeat of it is not a second one."""

    route: str
    key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Run:
    """One claim of a thread, from a request to its response."""

    run_id: str
    thread_id: str
    principal: str
    kind: RunKind
    turn_id: str
    """The run that brought the instruction; a resume goes on with the turn of an earlier invoke."""
    request: bytes
    fence: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The request was served before; this is its response, byte for byte."""

    response: bytes


@dataclass(frozen=True, slots=True)
class NewThread:
    """What a thread is started with, if its id is not known yet."""

    title: str
    project_directory: str | None
    project_identity: str | None


class RunStore:
    """Claims threads for runs, settles them, and finds runs whose process died."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def begin(
        self,
        principal: str,
        thread_id: str,
        run_id: str,
        request: bytes,
        new: NewThread,
        key: IdempotencyKey | None = None,
    ) -> Run | Finished:
        """Claim the thread for a new instruction; an unknown thread is made.

        Raises ThreadNotFound (another principal's), ThreadBusy, QuestionOpen, KeyReused.
        """
        async with self._database.write() as connection:
            if key and (earlier := await self._repeated(connection, principal, key)):
                return earlier
            thread = await find_thread(connection, thread_id)
            if thread is None:
                thread = await self._make(connection, principal, thread_id, new)
            elif thread.principal != principal:
                raise ThreadNotFound(thread_id)
            if thread.status == "requires_human_input":
                first, *_ = await find_questions(connection, thread_id, status="open")
                raise QuestionOpen(first.tool_call_id, first.question)
            return await self._start(connection, thread, run_id, "invoke", run_id, request, key)

    async def answer(
        self,
        principal: str,
        thread_id: str,
        run_id: str,
        request: bytes,
        tool_call_id: str,
        answer: str,
        by: str,
        key: IdempotencyKey | None = None,
    ) -> Run | Finished:
        """Take the answer, once, and claim the thread to go on with it.

        The same answer again gives the thread's present outcome. Raises ThreadNotFound, ThreadBusy,
        NotWaiting, AlreadyAnswered, KeyReused.
        """
        async with self._database.write() as connection:
            if key and (earlier := await self._repeated(connection, principal, key)):
                return earlier
            thread = await find_thread(connection, thread_id)
            if thread is None or thread.principal != principal:
                raise ThreadNotFound(thread_id)
            asked = {q.tool_call_id: q for q in await find_questions(connection, thread_id)}
            question = asked.get(tool_call_id)
            if question is None or question.status == "cancelled":
                raise NotWaiting(tool_call_id, [q.tool_call_id for q in asked.values() if q.status == "open"])
            if question.status == "answered":
                return await self._again(connection, thread, question, answer)
            turn_id = await self._turn(connection, thread)
            run = await self._start(connection, thread, run_id, "resume", turn_id, request, key)
            settled = await settle_question(
                connection,
                thread_id,
                tool_call_id,
                status="answered",
                answer=answer,
                by=by,
                now=self._clock(),
            )
            if not settled:
                raise NotWaiting(tool_call_id)
            return run

    async def settle(
        self, run: Run, response: bytes, status: ThreadStatus, questions: Sequence[Question] = ()
    ) -> None:
        """End the run: its response, its questions and the thread's status, all at once. Raises LeaseLost."""
        now = self._clock()
        async with self._database.write() as connection:
            done = await connection.execute(
                update(threads)
                .where(threads.c.thread_id == run.thread_id, threads.c.fence == run.fence)
                .values(status=status, holder=None, updated_at=now)
            )
            if done.rowcount != 1:
                raise LeaseLost(run.thread_id)
            await connection.execute(
                update(runs).where(runs.c.run_id == run.run_id).values(response=response, finished_at=now)
            )
            await open_questions(connection, run.thread_id, run.run_id, questions, now)
            if status != "requires_human_input":  # a question is open only while its thread waits
                await self._close_questions(connection, run.thread_id, run.principal)

    async def cancel_questions(
        self, principal: str, thread_id: str, by: str, rewrite: Callable[[bytes], bytes]
    ) -> bool:
        """Close all open questions of a waiting thread and make it idle; False when it does not wait.

        `rewrite` makes the response that the thread shows from now on out of the last one.
        """
        async with self._database.write() as connection:
            thread = await find_thread(connection, thread_id)
            if thread is None or thread.principal != principal:
                raise ThreadNotFound(thread_id)
            if thread.status != "requires_human_input":
                return False
            await self._close_questions(connection, thread_id, by)
            await connection.execute(
                update(threads)
                .where(threads.c.thread_id == thread_id)
                .values(status="idle", updated_at=self._clock())
            )
            response = await self._response(connection, thread.run_id)
            if response is not None:
                await connection.execute(
                    update(runs).where(runs.c.run_id == thread.run_id).values(response=rewrite(response))
                )
            return True

    async def forget(self, principal: str, thread_id: str) -> None:
        """Delete the thread's rows. Raises ThreadNotFound, ThreadBusy."""
        async with self._database.write() as connection:
            thread = await find_thread(connection, thread_id)
            if thread is None or thread.principal != principal:
                raise ThreadNotFound(thread_id)
            if thread.status == "running" and is_alive(thread.holder or ""):
                raise ThreadBusy
            await forget_thread(connection, thread_id)

    async def accept_project(self, thread_id: str, identity: str) -> None:
        """The folder that stands at the project's path now is the thread's project from now on."""
        async with self._database.write() as connection:
            await connection.execute(
                update(threads).where(threads.c.thread_id == thread_id).values(project_identity=identity)
            )

    async def request(self, run_id: str) -> bytes:
        """The request that a run was started with."""
        async with self._database.read() as connection:
            query = select(runs.c.request).where(runs.c.run_id == run_id)
            return bytes((await connection.execute(query)).scalar_one())

    async def turn_request(self, thread_id: str) -> bytes:
        """The request that brought the instruction which the thread works on."""
        latest = select(runs.c.turn_id).join(threads, threads.c.run_id == runs.c.run_id)
        turn = latest.where(threads.c.thread_id == thread_id).scalar_subquery()
        async with self._database.read() as connection:
            query = select(runs.c.request).where(runs.c.run_id == turn)
            return bytes((await connection.execute(query)).scalar_one())

    async def replay(self, principal: str, key: IdempotencyKey) -> Finished | None:
        """The response kept for this key, if there was such a request. Raises ThreadBusy, KeyReused."""
        async with self._database.write() as connection:
            return await self._repeated(connection, principal, key)

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

    async def take_over_abandoned(self) -> list[Run]:
        """Claim the runs whose process is gone, to finish them."""
        query = select(threads.c.thread_id, threads.c.holder).where(threads.c.status == "running")
        async with self._database.read() as connection:
            held = (await connection.execute(query)).all()
        abandoned = [thread_id for thread_id, holder in held if not is_alive(holder or "")]
        taken = [await self._take_over(thread_id) for thread_id in abandoned]
        return [run for run in taken if run is not None]

    async def _take_over(self, thread_id: str) -> Run | None:
        """Claim a run from a dead process; None when somebody else was faster."""
        async with self._database.write() as connection:
            thread = await find_thread(connection, thread_id)
            if thread is None or thread.status != "running" or is_alive(thread.holder or ""):
                return None
            row = (await connection.execute(select(runs).where(runs.c.run_id == thread.run_id))).one()
            fence = await self._claim(connection, thread, thread.run_id or "")
            return _run(row, thread.principal, fence)

    async def _repeated(
        self, connection: AsyncConnection, principal: str, key: IdempotencyKey
    ) -> Finished | None:
        """The response kept for this key. Raises ThreadBusy while it is not there yet, KeyReused."""
        expired = idempotency.c.created_at < self._clock() - IDEMPOTENCY_SECONDS
        await connection.execute(delete(idempotency).where(expired))
        row = (
            await connection.execute(
                select(idempotency).where(
                    idempotency.c.principal == principal,
                    idempotency.c.route == key.route,
                    idempotency.c.key == key.key,
                )
            )
        ).one_or_none()
        if row is None:
            return None
        if row.body_hash != key.body_hash:
            raise KeyReused
        response = await self._response(connection, row.run_id)
        if response is None:
            raise ThreadBusy("This very request is being served; ask again for its response.")
        return Finished(response)

    async def _again(
        self, connection: AsyncConnection, thread: ThreadRecord, question: Question, answer: str
    ) -> Finished:
        """A question that was answered before is answered again."""
        if question.answer != answer:
            raise AlreadyAnswered(question.tool_call_id)
        if thread.status == "running":
            raise ThreadBusy("This answer was taken and its run goes on.")
        response = await self._response(connection, thread.run_id)
        if response is None:
            raise ThreadBusy
        return Finished(response)

    async def _make(
        self, connection: AsyncConnection, principal: str, thread_id: str, new: NewThread
    ) -> ThreadRecord:
        now = self._clock()
        record = ThreadRecord(
            thread_id=thread_id,
            principal=principal,
            title=new.title,
            project_directory=new.project_directory,
            project_identity=new.project_identity,
            status="idle",
            holder=None,
            fence=0,
            run_id=None,
            created_at=now,
            updated_at=now,
        )
        columns = {name: getattr(record, name) for name in ThreadRecord.__slots__}
        await connection.execute(insert(threads).values(**columns))
        return record

    async def _start(
        self,
        connection: AsyncConnection,
        thread: ThreadRecord,
        run_id: str,
        kind: RunKind,
        turn_id: str,
        request: bytes,
        key: IdempotencyKey | None,
    ) -> Run:
        """Claim the thread and write down the run. Raises ThreadBusy."""
        if thread.status == "running":
            raise ThreadBusy
        now = self._clock()
        fence = await self._claim(connection, thread, run_id)
        await connection.execute(
            insert(runs).values(
                run_id=run_id,
                thread_id=thread.thread_id,
                kind=kind,
                turn_id=turn_id,
                request=request,
                created_at=now,
            )
        )
        if key is not None:
            await connection.execute(
                insert(idempotency).values(
                    principal=thread.principal,
                    route=key.route,
                    key=key.key,
                    body_hash=key.body_hash,
                    run_id=run_id,
                    created_at=now,
                )
            )
        return Run(run_id, thread.thread_id, thread.principal, kind, turn_id, request, fence)

    async def _claim(self, connection: AsyncConnection, thread: ThreadRecord, run_id: str) -> int:
        """Take the thread if nobody did since it was read; gives the new fence. Raises ThreadBusy."""
        fence = thread.fence + 1
        done = await connection.execute(
            update(threads)
            .where(threads.c.thread_id == thread.thread_id, threads.c.fence == thread.fence)
            .values(
                status="running",
                holder=this_process(),
                fence=fence,
                run_id=run_id,
                updated_at=self._clock(),
            )
        )
        if done.rowcount != 1:
            raise ThreadBusy
        return fence

    async def _close_questions(self, connection: AsyncConnection, thread_id: str, by: str) -> None:
        now = self._clock()
        for question in await find_questions(connection, thread_id, status="open"):
            call_id = question.tool_call_id
            await settle_question(
                connection, thread_id, call_id, status="cancelled", answer=None, by=by, now=now
            )

    async def _turn(self, connection: AsyncConnection, thread: ThreadRecord) -> str:
        query = select(runs.c.turn_id).where(runs.c.run_id == thread.run_id)
        return str((await connection.execute(query)).scalar_one())

    async def _response(self, connection: AsyncConnection, run_id: str | None) -> bytes | None:
        query = select(runs.c.response).where(runs.c.run_id == run_id)
        return (await connection.execute(query)).scalar_one_or_none()


def _run(row: Row[Any], principal: str, fence: int) -> Run:
    return Run(row.run_id, row.thread_id, principal, row.kind, row.turn_id, row.request, fence)
