"""Withdrawing the questions of a thread that waits: they are not wanted any more, or nobody answered."""

from __future__ import annotations

from typing import Literal

import orjson

from agent_service.agent.outcome import read_response
from agent_service.events import QuestionClosed, new_event
from checkpoints.events import NewEvent
from checkpoints.questions import QuestionStore

_EXPLANATIONS = {
    "cancelled": "The question was cancelled by the user.",
    "expired": (
        "Nobody answered the question in time, and nothing was agreed to. "
        "Send a further instruction to go on."
    ),
}


def question_closed(
    thread_id: str, run_id: str, tool_call_id: str, status: Literal["cancelled", "expired"], by: str
) -> NewEvent:
    """What is told of a question that was withdrawn."""
    ids = {"thread_id": thread_id, "run_id": run_id, "tool_call_id": tool_call_id}
    return new_event(QuestionClosed(**ids, status=status, by=by))


async def withdraw_questions(
    store: QuestionStore, principal: str, thread_id: str, status: Literal["cancelled", "expired"]
) -> bool:
    """Close all open questions of a thread, which is idle then; False if it does not wait.

    Raises ThreadNotFound, StateDamaged.
    """

    def rewrite(stored: bytes) -> bytes:
        response = read_response(thread_id, stored)
        withdrawn = response.model_copy(
            update={
                "agent_status": "error",
                "error_details": _EXPLANATIONS[status],
                "error_code": status,
                "human_input_request": None,
                "pending_requests": [],
            }
        )
        return orjson.dumps(withdrawn.model_dump(mode="json"))

    def tell(run_id: str, tool_call_id: str) -> NewEvent:
        return question_closed(thread_id, run_id, tool_call_id, status, principal)

    return await store.withdraw(principal, thread_id, by=principal, status=status, rewrite=rewrite, tell=tell)
