"""Bodies of the routes about threads, models and the service itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from agent_service.agent.contract import (
    AgentStatus,
    CodeAgentResponse,
    HistoryCheckpoint,
    HumanInputRequest,
    KeptFile,
    RewindResponse,
    ThreadMessage,
)
from agent_service.api.cursor import write_cursor
from agent_service.documented import Documented
from checkpoints.threads import ThreadRecord, ThreadStatus

if TYPE_CHECKING:  # whoever only lists threads need not load the agent
    from agent_service.agent.code_agent import ThreadView
    from agent_service.agent.timeline import HistoryPage


class ThreadSummary(Documented):
    """A thread in a list."""

    thread_id: str
    """Unique over all principals."""
    title: str
    """The first line of its first instruction."""
    project_directory: str | None
    """Absolute path; null without a project."""
    created_at: datetime
    """UTC."""
    updated_at: datetime
    """Of the last run's begin or end, UTC."""
    status: ThreadStatus
    """What the thread is doing."""
    error_details: str | None = None
    """Why its latest run failed, in a sentence; in a list only that the thread is damaged, and what to do."""

    @classmethod
    def of(cls, record: ThreadRecord) -> Self:
        return cls(**_summary(record))


class ThreadList(Documented):
    """Threads, the latest first."""

    threads: list[ThreadSummary]
    """This page."""
    next_cursor: str | None = None
    """Give it as `cursor` for the next page; null on the last one."""

    @classmethod
    def of_records(cls, found: Sequence[ThreadRecord], limit: int) -> Self:
        """A page of so many; one more was looked for."""
        more = write_cursor(found[limit - 1]) if len(found) > limit else None
        return cls(threads=[ThreadSummary.of(each) for each in found[:limit]], next_cursor=more)


class ThreadDetail(ThreadSummary):
    """A thread and its latest run."""

    run_id: str | None
    """The latest run."""
    agent_status: AgentStatus | None
    """Null while a run goes on."""
    human_input_request: HumanInputRequest | None
    """The first open question."""
    pending_requests: list[HumanInputRequest]
    """All open questions."""
    last_response: CodeAgentResponse | None
    """Of the latest run that ended."""

    @classmethod
    def of_view(cls, view: ThreadView) -> Self:
        response = view.response
        return cls(
            **{**_summary(view.record), "error_details": response.error_details if response else None},
            run_id=view.record.run_id,
            agent_status=response.agent_status if response else None,
            human_input_request=response.human_input_request if response else None,
            pending_requests=response.pending_requests if response else [],
            last_response=view.last_response,
        )


class ThreadMessages(Documented):
    """A conversation, oldest message first."""

    thread_id: str
    """The thread."""
    messages: list[ThreadMessage]
    """Oldest first."""


class ThreadDiff(Documented):
    """What a thread changed, net."""

    thread_id: str
    """The thread."""
    diff: str
    """One unified diff of all files; empty when nothing changed."""


class ThreadHistory(Documented):
    """A thread's checkpoints, the newest first."""

    thread_id: str
    """The thread."""
    checkpoints: list[HistoryCheckpoint]
    """This page."""
    next_cursor: str | None = None
    """Give it as `before` for the next page; null on the last one."""

    @classmethod
    def of_page(cls, thread_id: str, page: HistoryPage) -> Self:
        more = page.checkpoints[-1].checkpoint_id if page.more else None
        return cls(thread_id=thread_id, checkpoints=page.checkpoints, next_cursor=more)


class ThreadRewound(ThreadDetail):
    """A thread after it was taken back."""

    restored: list[str]
    """Files that are as they were then again, relative to the project."""
    kept: list[KeptFile]
    """Files that were left as they are."""
    notes: list[str]
    """About questions: that those which were open are withdrawn, and that one of that moment is not asked
    again by itself; a sentence each."""

    @classmethod
    def of_rewind(cls, view: ThreadView, response: RewindResponse) -> Self:
        shown = ThreadDetail.of_view(view)
        return cls(**dict(shown), restored=response.restored, kept=response.kept, notes=response.notes)


class Health(Documented):
    """How the service is."""

    status: Literal["ok", "degraded"]
    """`degraded`: no model can be reached as far as is known, or the configuration file is not valid."""
    providers: dict[str, bool]
    """Provider -> usable as far as is known."""
    timestamp: datetime
    """UTC."""
    problems: list[str] = Field(default_factory=list)
    """What is wrong, or may be, and what to do about it; `status` tells whether it matters now."""


class About(Documented):
    """The service in a nutshell."""

    name: str
    """`agent-service`."""
    version: str
    """Of the service."""
    links: dict[str, str]
    """Where to go from here."""


def _summary(record: ThreadRecord) -> dict[str, object]:
    return {
        "thread_id": record.thread_id,
        "title": record.title,
        "project_directory": record.project_directory,
        "created_at": datetime.fromtimestamp(record.created_at, UTC),
        "updated_at": datetime.fromtimestamp(record.updated_at, UTC),
        "status": record.status,
        "error_details": record.damage,
    }
