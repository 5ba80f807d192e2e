"""What tests of this room begin with: open stores, a run, a question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from checkpoints.events import NewEvent
from checkpoints.idempotency import Finished, IdempotencyKey
from checkpoints.opening import open_database
from checkpoints.questions import Question, QuestionStatus
from checkpoints.runs import Answer, NewRun, NewThread, Run
from checkpoints.stores import Stores
from tests.databases import Place

T = TypeVar("T")
ASKED = Question("call_1", "interrupt_1", "question", "Which?")
MANY = 32
"""How many clients try at once."""


def with_stores(place: Place, scenario: Callable[[Stores], Awaitable[None]]) -> None:
    """Play a scenario on the stores of that database."""

    async def run() -> None:
        async with open_database(place) as database:
            await scenario(Stores.on(database))

    asyncio.run(run())


def new_run(
    run_id: str = "r1",
    thread_id: str = "t",
    principal: str = "p",
    *,
    key: IdempotencyKey | None = None,
    events: Sequence[NewEvent] = (),
) -> NewRun:
    return NewRun(principal, thread_id, run_id, b"{}", key, events)


async def try_begin(stores: Stores, new: NewRun, *, title: str = "title") -> Run | Finished:
    return await stores.runs.begin(new, "do it", NewThread(title, None, None))


async def begin(stores: Stores, run_id: str = "r1", thread_id: str = "t", principal: str = "p") -> Run:
    begun = await try_begin(stores, new_run(run_id, thread_id, principal))
    assert isinstance(begun, Run)
    return begun


async def answer(stores: Stores, run_id: str = "r2", text: str = "x", call_id: str = "call_1") -> Run:
    begun = await stores.runs.answer(new_run(run_id), Answer(call_id, text, "p"))
    assert isinstance(begun, Run)
    return begun


async def waiting(stores: Stores, *questions: Question) -> Run:
    """A thread that waits for answers, and the run that asked."""
    run = await begin(stores)
    await stores.runs.settle(run, b"asked", "requires_human_input", questions or [ASKED])
    return run


async def withdraw(
    stores: Stores, thread_id: str = "t", principal: str = "p", *, status: QuestionStatus = "cancelled"
) -> bool:
    """Withdraw the thread's questions; of each is told."""
    return await stores.questions.withdraw(
        principal,
        thread_id,
        by=principal,
        rewrite=lambda response: response + b", withdrawn",
        tell=lambda run_id, question: NewEvent(run_id, status, b"{}"),
        status=status,
    )


async def all_at_once(tries: Sequence[Coroutine[Any, Any, T]]) -> tuple[list[T], list[BaseException]]:
    """What succeeded, and how the others failed."""
    results = await asyncio.gather(*tries, return_exceptions=True)
    failed = [each for each in results if isinstance(each, BaseException)]
    return [each for each in results if not isinstance(each, BaseException)], failed
