"""What a run tells while it goes on: one union of events, spoken by JSON, SSE and every client."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from checkpoints.events import NewEvent, StoredEvent

MAX_PATHS = 100


class Event(BaseModel):
    """What all events have in common."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    seq: int = 0
    """The thread's own increasing number; of what is not stored, that of the latest stored one."""
    thread_id: str
    """The thread."""
    run_id: str
    """The run; an answer to a question begins another one."""


class RunStarted(Event):
    """A run began."""

    kind: Literal["run.started"] = "run.started"
    """Which event it is."""
    instruction: str
    """What it works on."""
    resumed: bool = False
    """Whether it goes on with an instruction after an answer, as the part of the work that comes next."""


class Token(Event):
    """A piece of the model's text, as it comes."""

    kind: Literal["token"] = "token"
    """Which event it is."""
    text: str
    """The piece; all of them together are told again as one message."""


class Message(Event):
    """A whole text of the model, or the answer of a person."""

    kind: Literal["message"] = "message"
    """Which event it is."""
    role: Literal["assistant", "user"]
    """Who speaks."""
    text: str
    """The whole text."""
    model: str | None = None
    """`provider/model` that wrote it."""


class ToolStarted(Event):
    """A tool call is being carried out."""

    kind: Literal["tool.started"] = "tool.started"
    """Which event it is."""
    tool_call_id: str
    """The call."""
    name: str
    """The tool."""
    summary: str
    """The call in a few words."""


class ToolFinished(Event):
    """A tool call was carried out, or refused."""

    kind: Literal["tool.finished"] = "tool.finished"
    """Which event it is."""
    tool_call_id: str
    """The call."""
    name: str
    """The tool."""
    ok: bool
    """Whether it was carried out."""
    summary: str
    """The outcome in a few words."""
    files_changed: list[dict[str, Any]] = Field(default_factory=list)
    """What this call made of files."""


class QuestionOpened(Event):
    """The run needs a person: `human_input_request` as in the response."""

    kind: Literal["question.opened"] = "question.opened"
    """Which event it is."""
    human_input_request: dict[str, Any]
    """The question."""


class QuestionAnswered(Event):
    """Somebody answered."""

    kind: Literal["question.answered"] = "question.answered"
    """Which event it is."""
    tool_call_id: str
    """The question."""
    answer: str
    """The answer that counts."""
    by: str
    """The principal that gave it."""


class QuestionClosed(Event):
    """A question was withdrawn, or nobody answered in time; it was not taken for a yes."""

    kind: Literal["question.closed"] = "question.closed"
    """Which event it is."""
    tool_call_id: str
    """The question."""
    status: Literal["cancelled", "expired"]
    """`expired`: nobody answered in time."""
    by: str
    """The principal that withdrew it, or whose thread it is."""


class ModelSwitched(Event):
    """Another model goes on with the thread."""

    kind: Literal["model.switched"] = "model.switched"
    """Which event it is."""
    from_: str = Field(serialization_alias="from")
    """`provider/model`."""
    to: str
    """`provider/model`."""
    reason: str
    """Why, in words."""


class WorkspaceChanged(Event):
    """Somebody else changed, made or deleted files of the project."""

    kind: Literal["workspace.changed"] = "workspace.changed"
    """Which event it is."""
    paths: list[str]
    """Relative to the project, at most 100 of them."""


class ThreadRewound(Event):
    """The thread went back to an earlier checkpoint."""

    kind: Literal["thread.rewound"] = "thread.rewound"
    """Which event it is."""
    checkpoint_id: str
    """Where it went back to."""
    restored: list[str]
    """Files that are as they were then again."""
    kept: list[dict[str, str]]
    """Files that were left as they are: `path` and `reason`."""


class Failed(Event):
    """Something went wrong; the run may still go on."""

    kind: Literal["error"] = "error"
    """Which event it is."""
    message: str
    """A sentence for people."""
    code: str
    """For programs. Of a run that ended: `cancelled`, `expired` (nobody answered in time), `limit_reached`,
    `provider_error`, `truncated` or `empty_answer` (the model's answer), `checkpoint_not_found`,
    `misconfigured`, `state_damaged`, `run_failed` or `internal`. Of one that goes on: `stream_cut` (the model
    is asked again), `events_expired` (what came before is not kept any more) or `state_damaged` (what was
    stored in its place cannot be read)."""


class RunFinished(Event):
    """The run ended: completed, paused, failed or cancelled."""

    kind: Literal["run.finished"] = "run.finished"
    """Which event it is."""
    response: dict[str, Any]
    """As invoke and resume answer it."""


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

EVENTS: tuple[type[Event], ...] = tuple(Event.__subclasses__())


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
