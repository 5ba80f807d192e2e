"""Questions to the human: durable rows, each answered once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database
from checkpoints.tables import questions

QuestionStatus = Literal["open", "answered", "cancelled"]


@dataclass(frozen=True, slots=True)
class Question:
    """What a run asked before it paused."""

    tool_call_id: str
    interrupt_id: str
    kind: Literal["question", "approval"]
    question: str
    options: tuple[str, ...] = ()
    preview: str | None = None
    proposal: str | None = None
    status: QuestionStatus = "open"
    answer: str | None = None


def _record(row: Row[Any]) -> Question:
    return Question(
        tool_call_id=row.tool_call_id,
        interrupt_id=row.interrupt_id,
        kind=row.kind,
        question=row.question,
        options=tuple(json.loads(row.options)),
        preview=row.preview,
        proposal=row.proposal,
        status=row.status,
        answer=row.answer,
    )


async def find_questions(
    connection: AsyncConnection, thread_id: str, *, status: QuestionStatus | None = None
) -> list[Question]:
    """The thread's questions, the oldest first."""
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


class QuestionStore:
    """Looks questions up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, thread_id: str, *, status: QuestionStatus | None = None) -> list[Question]:
        """The thread's questions, the oldest first."""
        async with self._database.read() as connection:
            return await find_questions(connection, thread_id, status=status)
