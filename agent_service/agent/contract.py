"""What goes into the agent and what comes out: the documented bodies of invoke and resume."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from agent_service.agent.approvals import ApprovalRules
from agent_service.documented import Documented
from routing.types import Quality

AgentStatus = Literal["completed", "requires_human_input", "error"]

THREAD_ID_PATTERN = r"^[A-Za-z0-9_-]{8,64}$"
CHECKPOINT_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
MAX_INSTRUCTION = 1 << 20
"""Characters."""


class _Body(Documented):
    """Fields that are not known are refused: a misspelt one would be a wish that nobody hears."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [fields]})


class CodeAgentRequest(_Body):
    """An instruction for the agent."""

    model_config = _example(
        instruction="Ask the user which name to greet, then write it to name.txt.",
        project_directory="/tmp/greeter",
        thread_id="greeter-1",
    )

    instruction: Annotated[str, Field(min_length=1, max_length=MAX_INSTRUCTION)]
    """What to do, in plain words."""
    context: Annotated[str | None, Field(max_length=4 * MAX_INSTRUCTION)] = None
    """Further material, such as the code that is selected in an editor."""
    language: Annotated[str | None, Field(max_length=64)] = None
    """The programming language wanted."""
    project_directory: Annotated[str | None, Field(max_length=4096)] = None
    """Absolute path of the project; enables the file tools. Omitted on a known thread: as before."""
    thread_id: Annotated[str | None, Field(pattern=THREAD_ID_PATTERN)] = None
    """A new name starts a thread, a known one goes on with it; omitted: a new thread with a random name."""
    model_quality: Quality | None = None
    """How to choose the model; `best_quality` if omitted."""
    provider: Annotated[str | None, Field(max_length=64)] = None
    """Only this provider; there is no fail-over to another then."""
    model: Annotated[str | None, Field(max_length=256)] = None
    """`auto`, an alias, `provider/model`, or a model's own id."""
    approvals: ApprovalRules | None = None
    """Per tool name (`*`: every tool that is not named) a rule: `auto`, `ask` or `deny`; or one rule each for
    path patterns as in .gitignore, relative to the project, of which the last that matches counts. May only
    make the service's policy stricter."""
    stream: bool = False
    """Answer with Server-Sent Events."""
    background: bool = False
    """Answer 202 at once; the run goes on by itself."""


class ResumeRequest(_Body):
    """An answer to an open question."""

    model_config = _example(thread_id="greeter-1", tool_call_id="call_1", human_response="Orion")

    thread_id: Annotated[str, Field(pattern=THREAD_ID_PATTERN)]
    """The thread that waits."""
    tool_call_id: Annotated[str, Field(min_length=1, max_length=64)]
    """The question, as named in `human_input_request`."""
    human_response: Annotated[str, Field(max_length=MAX_INSTRUCTION)]
    """For a question any text that is not blank; for an approval `yes` or `no`, or a no in other words."""
    stream: bool = False
    """Answer with Server-Sent Events."""
    background: bool = False
    """Answer 202 at once; the run goes on by itself."""

    @field_validator("human_response")
    @classmethod
    def _said(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("is blank; the question stays open: answer it, or withdraw it with cancel")
        return text


class HumanInputRequest(Documented):
    """A question that waits for an answer."""

    tool_call_id: str
    """Names the question; an answer must repeat it."""
    question_for_human: str
    """What the agent wants to know."""
    kind: Literal["question", "approval"]
    """A `question` takes any text; an `approval` a yes or a no."""
    options: list[str] | None = None
    """Suggested answers; any other text is taken too."""
    preview: str | None = None
    """For an approval: what would happen, as a unified diff or a command line."""
    expires_at: Annotated[datetime | None, Field(exclude_if=lambda moment: moment is None)] = None
    """When it is withdrawn unanswered; not there if it waits for ever."""


class FileChanged(Documented):
    """What happened to one file since the instruction."""

    path: str
    """Relative to the project."""
    action: Literal["created", "modified", "deleted"]
    """What became of the file, from before the instruction until now."""
    additions: int
    """Lines."""
    deletions: int
    """Lines."""


class RunUsage(Documented):
    """What the instruction cost so far."""

    model_calls: int = 0
    """Answers had from models."""
    prompt_tokens: int = 0
    """As the providers count them."""
    completion_tokens: int = 0
    """As the providers count them."""
    cost_usd: float | None = None
    """At list prices; null when a price is not known."""


class CodeAgentResponse(Documented):
    """Where the thread stands at the end of a run."""

    model_config = _example(
        agent_status="requires_human_input",
        human_input_request={
            "tool_call_id": "call_1",
            "question_for_human": "Which name should be greeted?",
            "kind": "question",
            "options": None,
            "preview": None,
        },
        request_params={"instruction": "Ask the user which name to greet, then write it to name.txt."},
        thread_id="greeter-1",
        run_id="c0ffee00c0ffee00c0ffee00c0ffee00",
    )

    generated_code: str | None = None
    """The code of the final message; null when the work went into files."""
    explanation: str | None = None
    """The prose of the final message; on a pause, the prose beside the question."""
    agent_status: AgentStatus
    """How the run ended."""
    human_input_request: HumanInputRequest | None = None
    """The first open question."""
    request_params: dict[str, Any]
    """The request, as it was understood."""
    model_used: str | None = None
    """`provider/model` of the last call."""
    error_details: str | None = None
    """One sentence, for `agent_status: error`."""
    error_code: str | None = None
    """For programs, beside `error_details`; `cancelled`: a person stopped the run or its question."""
    thread_id: str
    """Go on with it by naming it in the next instruction."""
    run_id: str
    """This run."""
    files_changed: list[FileChanged] = Field(default_factory=list)
    """Net, since the instruction."""
    models_used: list[str] = Field(default_factory=list)
    """All of them since the instruction, the latest last."""
    usage: RunUsage = RunUsage()
    """Since the instruction."""
    pending_requests: list[HumanInputRequest] = Field(default_factory=list)
    """All open questions."""


class ForkRequest(_Body):
    """Where a fork begins."""

    model_config = _example(checkpoint_id="1f1e57ff-14a0-6c11-8004-5e0a3f1c9b27")

    checkpoint_id: Annotated[str | None, Field(pattern=CHECKPOINT_ID_PATTERN)] = None
    """As in the history; omitted: the latest one."""


class RewindRequest(_Body):
    """How far back to go."""

    model_config = _example(checkpoint_id="1f1e57ff-14a0-6c11-8004-5e0a3f1c9b27", files=True)

    checkpoint_id: Annotated[str, Field(pattern=CHECKPOINT_ID_PATTERN)]
    """As in the history."""
    files: bool = False
    """Restore the files that the thread changed since, too."""


class PruneRequest(_Body):
    """What to clear away of finished threads; those that run or wait are left alone."""

    model_config = _example(keep_checkpoints=50, older_than_days=30, dry_run=True)

    keep_checkpoints: Annotated[int | None, Field(ge=1)] = None
    """So many of the newest checkpoints of each thread stay; files and conversation stay as they are."""
    older_than_days: Annotated[float | None, Field(ge=0, le=36_500)] = None
    """Only threads on which nothing happened for so long."""
    delete: bool = False
    """Delete those threads as a whole; needs `older_than_days`."""
    dry_run: bool = False
    """Only tell what would go."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.delete == (self.keep_checkpoints is not None):
            raise ValueError("say either how many checkpoints to keep (keep_checkpoints), or delete: true")
        if self.delete and self.older_than_days is None:
            raise ValueError("delete needs older_than_days")
        return self


class PrunedThread(Documented):
    """What was cleared away of one thread."""

    thread_id: str
    """The thread."""
    title: str
    """The first line of its first instruction."""
    checkpoints_deleted: int = 0
    """Where `keep_checkpoints` was asked for."""


class SkippedThread(Documented):
    """A thread that could not be looked at, so that nothing of it was cleared away."""

    thread_id: str
    """The thread."""
    reason: str
    """Why not, and what to do about it."""


class Pruned(Documented):
    """What was cleared away; with `dry_run` what would be."""

    threads_pruned: int = 0
    """Threads that have fewer checkpoints now."""
    checkpoints_deleted: int = 0
    """Theirs, together."""
    threads_deleted: int = 0
    """Threads that are gone as a whole."""
    threads: list[PrunedThread] = Field(default_factory=list)
    """All of these, those longest left alone first."""
    skipped: list[SkippedThread] = Field(default_factory=list)
    """Threads that are damaged."""


class KeptFile(Documented):
    """A file that a rewind left alone."""

    path: str
    """Relative to the project."""
    reason: str
    """Why it was not restored."""


class RewindResponse(CodeAgentResponse):
    """Where the thread stands after a rewind."""

    checkpoint_id: str = ""
    """Where it went back to."""
    restored: list[str] = Field(default_factory=list)
    """Files that are as they were then again."""
    kept: list[KeptFile] = Field(default_factory=list)
    """Files that were left as they are."""
    notes: list[str] = Field(default_factory=list)
    """About questions: that those which were open are withdrawn, and that one of that moment is not asked
    again by itself; a sentence each."""


class HistoryCheckpoint(Documented):
    """A moment of a thread to which it can go back."""

    checkpoint_id: str
    """Its name, for fork and rewind."""
    parent_id: str | None
    """The checkpoint before it; with rewinds a history has branches."""
    created_at: datetime
    """UTC."""
    run_id: str | None
    """The run that made it."""
    step: int
    """Its place on its branch."""
    messages: int
    """How long the conversation was."""
    summary: str
    """The last message in a few words; empty before the first one."""
    waiting: bool
    """Whether the thread waits here for an answer."""
    rewound: bool = False
    """Whether the thread was taken back here: it is a copy of the checkpoint `parent_id` then."""
    damaged: bool = False
    """Whether it cannot be read, so that no run can go on from it; the other fields may tell nothing then."""


class MessageCall(Documented):
    """A tool call in a message."""

    id: str
    """Answered by the tool message with this `tool_call_id`."""
    name: str
    """The tool."""
    arguments: dict[str, Any] | str
    """Text where the model wrote no valid JSON object."""


class ThreadMessage(Documented):
    """A message of a conversation."""

    role: Literal["user", "assistant", "tool"]
    """Who speaks."""
    content: str
    """Text; empty for a message of tool calls only."""
    model: str | None = None
    """For the assistant: who wrote it, as `provider/model`."""
    tool_calls: list[MessageCall] = Field(default_factory=list)
    """What the assistant wants done."""
    tool_call_id: str | None = None
    """For a tool: the call this answers."""


class RunAccepted(Documented):
    """A run that goes on in the background."""

    thread_id: str
    """Ask here how it goes."""
    run_id: str
    """The run that was begun."""
