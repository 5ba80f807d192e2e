"""What a run came to, and what is stored and told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import orjson

from agent_service import events
from agent_service.agent.contract import CodeAgentResponse
from agent_service.agent.files_changed import file_changed
from checkpoints.events import NewEvent
from checkpoints.journal import Change
from checkpoints.questions import Question
from checkpoints.rows import understanding
from checkpoints.runs import Run
from checkpoints.threads import ThreadStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """The response, and what is stored with it."""

    response: CodeAgentResponse
    status: ThreadStatus
    """How the thread stands now."""
    questions: list[Question]
    """Those that were opened by this run."""
    told: Sequence[events.AgentEvent] = ()
    """What is told of the end of the run besides what follows from the response."""


class Ending(NamedTuple):
    """The end of a run, ready to be stored."""

    outcome: Outcome
    response: bytes
    told: list[NewEvent]

    @classmethod
    def of(cls, run: Run, outcome: Outcome) -> Self:
        """Of a run that came to that."""
        return cls(outcome, orjson.dumps(outcome.response.model_dump(mode="json")), _told(run, outcome))


def failed(run: Run, reason: str, code: str, changes: Sequence[Change]) -> Outcome:
    """The outcome of a run that the service itself failed at."""
    response = CodeAgentResponse(
        agent_status="error",
        error_details=reason,
        error_code=code,
        request_params=request_params(run),
        thread_id=run.thread_id,
        run_id=run.run_id,
        files_changed=[file_changed(change) for change in changes],
    )
    return Outcome(response, "error", [])


def request_params(run: Run) -> dict[str, Any]:
    """The request that the response echoes; empty if what is stored of it is damaged: a run must end."""
    try:
        found = orjson.loads(run.request)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {}


def read_response(thread_id: str, stored: bytes) -> CodeAgentResponse:
    """The response of a run of the thread, as it was stored. Raises StateDamaged."""
    with understanding(thread_id, "its latest response"):
        return CodeAgentResponse.model_validate_json(stored)


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
        told.append(events.Failed(**ids, message=response.error_details, code=response.error_code or ""))
    told += outcome.told
    told.append(events.RunFinished(**ids, response=response.model_dump(mode="json")))
    return [events.new_event(each) for each in told]
