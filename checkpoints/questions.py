"""Questions to the human: durable rows, each answered once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Row, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.errors import StateDamaged
from checkpoints.events import EventLog, NewEvent, StoredEvent
from checkpoints.rows import check_row, is_text, understanding
from checkpoints.tables import OPEN, questions, runs, threads
from checkpoints.threads import own_thread

QuestionKind = Literal["question", "approval"]
QuestionStatus = Literal["open", "answered", "cancelled", "expired"]
_KNOWN = {"kind": get_args(QuestionKind), "status": get_args(QuestionStatus)}
EXPIRED = select(threads.c.principal, threads.c.thread_id, threads.c.status).where(
    threads.c.thread_id.in_(
        select(questions.c.thread_id).where(
            questions.c.expires_at < bindparam("now"), questions.c.status == OPEN
        )
    )
)
"""The threads of open questions that nobody answered in time. If it asked for threads that wait, SQLite would
go through all of these, every few seconds, instead of the index of what expires."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a run asked before it paused."""

    tool_call_id: str
    interrupt_id: str
    kind: QuestionKind
    question: str
    options: tuple[str, ...] = ()
    preview: str | None = None
    proposal: str | None = None
    status: QuestionStatus = "open"
    answer: str | None = None
    expires_at: float | None = None
    """Seconds since 1970; None = it waits for ever."""

    def fate(self, now: float) -> QuestionStatus:
        """What became of it; an open one whose time is over counts as expired before anybody has noted it."""
        late = self.status == "open" and self.expires_at is not None and self.expires_at < now
        return "expired" if late else self.status


def _record(row: Row[Any]) -> Question:
    """Raises StateDamaged."""
    check_row(row.thread_id, questions, row)
    for name, known in _KNOWN.items():
        if row._mapping[name] not in known:
            raise StateDamaged(row.thread_id, f"the {name} of a question is none that is known here")
    with understanding(row.thread_id, "a question's list of options"):
        options = tuple(map(_option, json.loads(row.options)))
    return Question(
        tool_call_id=row.tool_call_id,
        interrupt_id=row.interrupt_id,
        kind=row.kind,
        question=row.question,
        options=options,
        preview=row.preview,
        proposal=row.proposal,
        status=row.status,
        answer=row.answer,
        expires_at=row.expires_at,
    )


def _option(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError(f"an option is no text but {type(found).__name__}")
    return found


async def find_questions(
    connection: AsyncConnection, thread_id: str, *, status: QuestionStatus | None = None
) -> list[Question]:
    """The thread's questions, the oldest first. Raises StateDamaged."""
    query = select(questions).where(questions.c.thread_id == thread_id)
    if status is not None:
        query = query.where(questions.c.status == status)
    query = query.order_by(questions.c.created_at, questions.c.tool_call_id)
    return [_record(row) for row in await connection.execute(query)]


async def open_questions(
    connection: AsyncConnection, thread_id: str, run_id: str, asked: Iterable[Question], now: float
) -> None:
    """Add the questions that are not there yet; a run taken up again after a crash asks the same ones."""
    known = {q.tool_call_id for q in await find_questions(connection, thread_id)}
    for index, question in enumerate(asked):
        if question.tool_call_id in known:
            continue
        await connection.execute(
            insert(questions).values(
                thread_id=thread_id,
                tool_call_id=question.tool_call_id,
                interrupt_id=question.interrupt_id,
                run_id=run_id,
                kind=question.kind,
                question=question.question,
                options=json.dumps(question.options),
                preview=question.preview,
                proposal=question.proposal,
                status="open",
                created_at=now + index * 1e-6,  # keeps the order in which they were asked
                expires_at=question.expires_at,
            )
        )


async def settle_question(
    connection: AsyncConnection,
    thread_id: str,
    tool_call_id: str,
    *,
    status: QuestionStatus,
    answer: str | None,
    by: str,
    now: float,
) -> bool:
    """Settle an open question, by compare-and-set; False when it was not open any more."""
    done = await connection.execute(
        update(questions)
        .where(
            questions.c.thread_id == thread_id,
            questions.c.tool_call_id == tool_call_id,
            questions.c.status == "open",
        )
        .values(status=status, answer=answer, answered_by=by, answered_at=now)
    )
    return done.rowcount == 1


async def _any_expired(connection: AsyncConnection, thread_id: str, now: float) -> bool:
    late = select(questions.c.tool_call_id).where(
        questions.c.thread_id == thread_id, questions.c.status == "open", questions.c.expires_at < now
    )
    return (await connection.execute(late.limit(1))).first() is not None


async def close_questions(
    connection: AsyncConnection,
    thread_id: str,
    *,
    by: str,
    now: float,
    status: QuestionStatus = "cancelled",
) -> list[str]:
    """Settle whatever is open, without an answer; gives the tool call ids of what was, the oldest first.

    Nothing else of a question is looked at: a damaged one is got rid of like this.
    """
    still_open = (questions.c.thread_id == thread_id, questions.c.status == "open")
    query = select(questions.c.tool_call_id).where(*still_open)
    in_order = query.order_by(questions.c.created_at, questions.c.tool_call_id)
    closed = (await connection.execute(in_order)).scalars().all()
    settled = {"status": status, "answer": None, "answered_by": by, "answered_at": now}
    await connection.execute(update(questions).where(*still_open).values(settled))
    return [each for each in closed if is_text(each)]


class QuestionStore:
    """Looks questions up, and withdraws them."""

    def __init__(self, database: Database, log: EventLog, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._log = log
        self._clock = clock

    async def all(self, thread_id: str, *, status: QuestionStatus | None = None) -> list[Question]:
        """The thread's questions, the oldest first. Raises StateDamaged."""
        async with self._database.read() as connection:
            return await find_questions(connection, thread_id, status=status)

    async def expired(self) -> list[tuple[str, str]]:
        """Principal and id of the threads that wait for an answer which comes too late by now."""
        async with self._database.read() as connection:
            rows = (await connection.execute(EXPIRED, {"now": self._clock()})).all()
        return [
            (row.principal, row.thread_id)
            for row in rows
            if row.status == "requires_human_input" and is_text(row.thread_id)
        ]

    async def withdraw(
        self,
        principal: str,
        thread_id: str,
        *,
        by: str,
        rewrite: Callable[[bytes], bytes],
        tell: Callable[[str, str], NewEvent],
        status: QuestionStatus = "cancelled",
    ) -> bool:
        """Close all open questions of a waiting thread and make it idle; False when it does not wait.

        `rewrite` makes the response that the thread shows from now on out of the last one; `tell` says
        what is told of a question, given the thread's latest run and its tool call id. Raises ThreadNotFound,
        StateDamaged.
        """

        async def operation(connection: AsyncConnection) -> list[StoredEvent] | None:
            thread = await own_thread(connection, principal, thread_id)
            if thread.status != "requires_human_input":
                return None
            now = self._clock()
            if status == "expired" and not await _any_expired(connection, thread_id, now):
                return None  # it was answered in time after all, and what is open now was asked since
            closed = await close_questions(connection, thread_id, by=by, now=now, status=status)
            idle = {"status": "idle", "updated_at": now}
            await connection.execute(update(threads).where(threads.c.thread_id == thread_id).values(**idle))
            of_run = runs.c.run_id == thread.run_id
            response = (await connection.execute(select(runs.c.response).where(of_run))).scalar_one_or_none()
            if response is not None:
                await connection.execute(update(runs).where(of_run).values(response=rewrite(response)))
            told = [tell(thread.run_id or "", call_id) for call_id in closed]
            return await self._log.append(connection, thread_id, told)

        stored = await self._database.write(operation)
        self._log.announce(stored or [])
        return stored is not None
