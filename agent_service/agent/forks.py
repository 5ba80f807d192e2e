"""What a fork answers before anything happened on it: how its source stood, under the fork's own name."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from agent_service import events
from agent_service.agent.contract import CodeAgentResponse
from agent_service.agent.outcome import read_response
from checkpoints.events import NewEvent


def forked_response(
    stored: bytes | None, open_ids: Sequence[str], *, thread_id: str, run_id: str, source_id: str
) -> bytes:
    """The response of a new fork.

    `stored` is the source's latest response if the fork stands as the source does, else None; `open_ids` the
    tool call ids of the questions that are open in the fork. Raises StateDamaged.
    """
    if stored is None:
        response = CodeAgentResponse(
            agent_status="completed",
            explanation=f"A fork of thread {source_id}; it goes on with the next instruction.",
            request_params={},
            thread_id=thread_id,
            run_id=run_id,
        )
    else:
        earlier = read_response(source_id, stored)
        pending = [request for request in earlier.pending_requests if request.tool_call_id in open_ids]
        response = earlier.model_copy(
            update={
                "thread_id": thread_id,
                "run_id": run_id,
                "pending_requests": pending,
                "human_input_request": pending[0] if pending else None,
            }
        )
    return orjson.dumps(response.model_dump(mode="json"))


def forked_events(stored: bytes, instruction: str) -> list[NewEvent]:
    """What a new fork tells: its making is a run that is over at once, with the questions that are open."""
    response = CodeAgentResponse.model_validate_json(stored)
    ids = {"thread_id": response.thread_id, "run_id": response.run_id}
    told: list[events.AgentEvent] = [events.RunStarted(**ids, instruction=instruction)]
    for request in response.pending_requests:
        opened = request.model_dump(mode="json")
        told.append(events.QuestionOpened(**ids, human_input_request=opened))
    told.append(events.RunFinished(**ids, response=response.model_dump(mode="json")))
    return [events.new_event(each) for each in told]
