"""What a run tells while it goes on: one union of events, spoken by JSON, SSE and every client."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from checkpoints.events import NewEvent, StoredEvent

MAX_PATHS = 100


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)

    seq: int = 0
    """The thread's own increasing number; of what is not stored, that of the latest stored one."""
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


class QuestionClosed(_Event):
    """A question was withdrawn, or nobody answered in time; it was not taken for a yes."""

    kind: Literal["question.closed"] = "question.closed"
    tool_call_id: str
    status: Literal["cancelled", "expired"]
    by: str


class ModelSwitched(_Event):
    """Another model goes on with the thread."""

    kind: Literal["model.switched"] = "model.switched"
    from_: str = Field(serialization_alias="from")
    to: str
    reason: str


class WorkspaceChanged(_Event):
    """Somebody else changed, made or deleted files of the project."""

    kind: Literal["workspace.changed"] = "workspace.changed"
    paths: list[str]
    """Relative to the project, at most MAX_PATHS of them."""


class ThreadRewound(_Event):
    """The thread went back to an earlier checkpoint."""

    kind: Literal["thread.rewound"] = "thread.rewound"
    checkpoint_id: str
    restored: list[str]
    """Files that are as they were then again."""
    kept: list[dict[str, str]]
    """Files that were left as they are: `path` and `reason`."""


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
    | QuestionClosed
    | ModelSwitched
    | WorkspaceChanged
    | ThreadRewound
    | Failed
    | RunFinished,
    Field(discriminator="kind"),
]

EVENT_KINDS: tuple[str, ...] = tuple(event.model_fields["kind"].default for event in _Event.__subclasses__())


def new_event(event: AgentEvent) -> NewEvent:
    """The event as it is stored; its number comes then."""
    data = orjson.dumps(event.model_dump(by_alias=True, exclude={"seq"}))
    return NewEvent(event.run_id, event.kind, data)


def encode_sse(event: StoredEvent | AgentEvent) -> bytes:
    """The event as Server-Sent Events text (WHATWG HTML, section 9.2); what is stored has an id."""
    if isinstance(event, StoredEvent):
        number = b"%d" % event.seq
        head = b"id: " + number + b"\nevent: " + event.kind.encode()
        return head + b'\ndata: {"seq":' + number + b"," + event.data[1:] + b"\n\n"
    data = orjson.dumps(event.model_dump(by_alias=True))
    return b"event: " + event.kind.encode() + b"\ndata: " + data + b"\n\n"


KEEP_ALIVE = b": still here\n\n"
"""A comment line, sent when nothing happens, so that no proxy closes the stream."""
