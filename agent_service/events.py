"""What a run tells while it goes on: one union of events, spoken by JSON, SSE and every client."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)

    seq: int = 0
    """The thread's own increasing number."""
    thread_id: str
    run_id: str


class RunStarted(_Event):
    """A run began."""

    kind: Literal["run.started"] = "run.started"
    instruction: str


class Token(_Event):
    """A piece of the model's text, as it comes."""

    kind: Literal["token"] = "token"
    text: str


class Message(_Event):
    """A whole text of the model, or the answer of a person."""

    kind: Literal["message"] = "message"
    role: Literal["assistant", "user"]
    text: str
    model: str | None = None


class ToolStarted(_Event):
    """A tool call is being carried out."""

    kind: Literal["tool.started"] = "tool.started"
    tool_call_id: str
    name: str
    summary: str


class ToolFinished(_Event):
    """A tool call was carried out, or refused."""

    kind: Literal["tool.finished"] = "tool.finished"
    tool_call_id: str
    name: str
    ok: bool
    summary: str
    files_changed: list[dict[str, Any]] = Field(default_factory=list)


class QuestionOpened(_Event):
    """The run needs a person: `human_input_request` as in the response."""

    kind: Literal["question.opened"] = "question.opened"
    human_input_request: dict[str, Any]


class QuestionAnswered(_Event):
    """Somebody answered."""

    kind: Literal["question.answered"] = "question.answered"
    tool_call_id: str
    answer: str
    by: str


class ModelSwitched(_Event):
    """Another model goes on with the thread."""

    kind: Literal["model.switched"] = "model.switched"
    from_: str = Field(serialization_alias="from")
    to: str
    reason: str


class Failed(_Event):
    """Something went wrong; the run may still go on."""

    kind: Literal["error"] = "error"
    message: str
    code: str


class RunFinished(_Event):
    """The run ended: completed, paused, failed or cancelled."""

    kind: Literal["run.finished"] = "run.finished"
    response: dict[str, Any]


AgentEvent = Annotated[
    RunStarted
    | Token
    | Message
    | ToolStarted
    | ToolFinished
    | QuestionOpened
    | QuestionAnswered
    | ModelSwitched
    | Failed
    | RunFinished,
    Field(discriminator="kind"),
]

EVENT_KINDS: tuple[str, ...] = tuple(event.model_fields["kind"].default for event in _Event.__subclasses__())


def encode_sse(event: AgentEvent) -> bytes:
    """The event as Server-Sent Events text (WHATWG HTML, section 9.2)."""
    data = orjson.dumps(event.model_dump(by_alias=True))
    return b"event: " + event.kind.encode() + b"\ndata: " + data + b"\n\n"


KEEP_ALIVE = b": still here\n\n"
"""A comment line, sent when nothing happens, so that no proxy closes the stream."""
