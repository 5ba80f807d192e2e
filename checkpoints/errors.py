"""Errors of the checkpoints room, grouped by what the caller can do.

CheckpointError
  DatabaseUnusable       -> mend the file or the URL named in the message
  ThreadNotFound         -> another thread id (also another principal's: nobody learns that it exists)
    ThreadDeleted        -> a new Idempotency-Key, if it is to be done again
  CheckpointNotFound     -> a checkpoint of the thread's history
  ThreadBusy             -> wait for the run that is under way
  QuestionOpen           -> answer the question first
  NotWaiting             -> nothing waits for that answer
  AlreadyAnswered        -> too late: another answer was taken
  KeyReused              -> a new Idempotency-Key for a new request
  LeaseLost              -> stop: somebody else runs this thread now
  StateDamaged           -> restore the database from a backup, or delete the thread
  ThreadNotEmpty         -> copy to a new thread id
  SealedOtherwise        -> the master key that the stored keys were sealed with
"""

from __future__ import annotations

from collections.abc import Sequence


class CheckpointError(Exception):
    """Something that the store refuses; the message says what to do."""


class DatabaseUnusable(CheckpointError):
    """The database cannot be opened, or was written by a newer version."""


class ThreadNotFound(CheckpointError):
    """There is no such thread, or it belongs to somebody else."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"There is no thread {thread_id[:64]!r}.")


class ThreadDeleted(ThreadNotFound):
    """The Idempotency-Key's request was served, and its thread was deleted since."""

    param = "Idempotency-Key"
    """The part of the request that says so."""

    def __init__(self) -> None:
        CheckpointError.__init__(
            self,
            "The request with this Idempotency-Key was served, and its thread was deleted since; "
            "use a new key to have it done again.",
        )


class CheckpointNotFound(CheckpointError):
    """The thread has no such checkpoint, or not any more."""

    def __init__(self, checkpoint_id: str) -> None:
        super().__init__(
            f"The thread has no checkpoint {checkpoint_id[:64]!r}; "
            "GET /v1/agents/threads/{id}/history lists those there are."
        )


class ThreadBusy(CheckpointError):
    """A run is under way on this thread."""

    retry_after = 2.0
    """Seconds after which a further try makes sense."""

    def __init__(
        self,
        message: str = "A run is under way on this thread; wait for it or cancel it.",
        *,
        param: str | None = None,
    ) -> None:
        """`param`: the part of the request that says why; see `checkpoints.idempotency`."""
        super().__init__(message)
        self.param = param


class QuestionOpen(CheckpointError):
    """The thread waits for an answer, so it takes no new instruction."""

    def __init__(self, tool_call_id: str, question: str) -> None:
        super().__init__(
            f"The thread waits for an answer to {question[:200]!r} (tool_call_id {tool_call_id}). "
            "Answer it with POST /v1/agents/resume, or cancel it."
        )
        self.tool_call_id = tool_call_id


class NotWaiting(CheckpointError):
    """No open question has that tool_call_id."""

    def __init__(self, tool_call_id: str, open_ids: Sequence[str] = (), became: str | None = None) -> None:
        known = f"Open are: {', '.join(open_ids)}." if open_ids else "No question is open."
        fate = f"; it was {became}" if became == "cancelled" else f"; it has {became}" if became else ""
        super().__init__(f"The thread has no open question {tool_call_id[:64]!r}{fate}. {known}")


class AlreadyAnswered(CheckpointError):
    """The question was answered before, otherwise; the first answer stands."""

    def __init__(self, tool_call_id: str) -> None:
        super().__init__(
            f"Question {tool_call_id[:64]!r} has been answered already; the first answer stands."
        )


class KeyReused(CheckpointError):
    """The Idempotency-Key came with another body before."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another request; use a new key for a new one.")


class LeaseLost(CheckpointError):
    """This process no longer holds the thread."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"Thread {thread_id!r} was taken over by another process.")


class StateDamaged(CheckpointError):
    """A row that the thread's state rests on is missing, or is not what was stored."""

    def __init__(self, thread_id: str, reason: str = "a part of it is missing") -> None:
        super().__init__(
            f"The stored state of thread {thread_id!r} cannot be used: {reason}. "
            f"Go back to before the damage (`agent-service threads history {thread_id}` shows where to, "
            "`agent-service threads rewind` goes there), restore the database from a backup, "
            "or delete the thread."
        )


class ThreadNotEmpty(CheckpointError):
    """A thread cannot be copied over another one."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"Thread {thread_id!r} has checkpoints already; copy to a new thread id.")


class SealedOtherwise(CheckpointError):
    """Stored keys were sealed under a master key that is not at hand."""

    def __init__(self, versions: Sequence[str]) -> None:
        super().__init__(
            "The provider keys in the database were encrypted with another master key "
            f"({', '.join(versions)}); give that one."
        )
        self.versions = tuple(versions)
