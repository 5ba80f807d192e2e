"""Going back to a checkpoint: the conversation, and the files too if that is wanted.

A rewind is a run like any other: its thread is claimed for it, and when its process dies somebody else does
the same once more. So every step looks first whether it was taken before.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson
from langchain_core.messages import ToolMessage

from agent_service import events
from agent_service.agent.contract import KeptFile, RewindRequest, RewindResponse
from agent_service.agent.errors import RunEnded
from agent_service.agent.files_changed import file_changed
from agent_service.agent.last_look import last_look
from agent_service.agent.outcome import Outcome
from agent_service.agent.seen import fingerprint
from checkpoints.branches import Branches
from checkpoints.errors import CheckpointNotFound
from checkpoints.history import History, Moment
from checkpoints.journal import Change, Intent, Span, Write, content_hash, spans
from checkpoints.runs import Run
from checkpoints.stores import Stores
from tools.errors import StaleFile, ToolError
from tools.tool import Effect, ToolResult
from tools.workspace import Workspace

CHANGED_SINCE = "changed since by somebody else"
CHANGED_IN_BETWEEN = "changed by somebody else between two changes of this thread"
NOT_ASKED_AGAIN = (
    "A question was open at that moment; it is not asked again by itself, so send an instruction to go on. "
    "(A fork that is made while a thread waits keeps its questions open.)"
)


@dataclass(slots=True)
class _Files:
    restored: list[str] = field(default_factory=list)
    kept: list[KeptFile] = field(default_factory=list)

    def keep(self, path: str, reason: str) -> None:
        self.kept.append(KeptFile(path=path, reason=reason))


class Rewinder:
    """Performs runs of the kind `rewind`."""

    def __init__(
        self, stores: Stores, history: History, branches: Branches, wrote: Callable[[str, str, str], None]
    ) -> None:
        """`wrote` is told (thread id, path, fingerprint) just before a file is written."""
        self._stores = stores
        self._history = history
        self._branches = branches
        self._wrote = wrote

    async def perform(self, run: Run, open_workspace: Callable[[], Awaitable[Workspace | None]]) -> Outcome:
        """Take the thread back; files that somebody else changed since are left alone, and named.

        `open_workspace` may raise RunEnded; nothing is done then.
        """
        wanted = RewindRequest.model_validate_json(run.request, extra="ignore")  # of another version, too
        files, notes, ended = _Files(), list[str](), None
        try:
            moment = await self._history.moment(run.thread_id, wanted.checkpoint_id)
            undone = await self._undone(run, wanted.checkpoint_id, moment) if wanted.files else []
            workspace = await open_workspace() if undone else None
            await self._branches.go_back(run, wanted.checkpoint_id, files=wanted.files)
            notes = await self._notes(run, moment)
            if workspace is not None:
                await self._restore_all(run, workspace, undone, files)
        except (RunEnded, CheckpointNotFound) as error:
            ended = error
        changes = await self._stores.journal.changes(run.thread_id, turn_id=run.turn_id)
        response = await asyncio.to_thread(_response, run, wanted, files, notes, changes, ended)
        if ended is not None:
            return Outcome(response, "error", [])
        told = events.ThreadRewound(
            thread_id=run.thread_id,
            run_id=run.run_id,
            checkpoint_id=wanted.checkpoint_id,
            restored=files.restored,
            kept=[each.model_dump() for each in files.kept],
        )
        return Outcome(response, "idle", [], told=[told])

    async def _notes(self, run: Run, moment: Moment) -> list[str]:
        """What becomes of questions, in words."""
        withdrawn = await self._stores.log.count(run.thread_id, run.run_id, "question.closed")
        notes = [_withdrawn(withdrawn)] if withdrawn else []
        return [*notes, NOT_ASKED_AGAIN] if moment.asked else notes

    async def _undone(self, run: Run, checkpoint_id: str, moment: Moment) -> list[Span]:
        """What was made of each file after the checkpoint, but by this rewind.

        Where it was not noted how far the effects had come then, it is the latest one of which the
        conversation knows the outcome; calls only answered for order's sake, as never carried out, do not
        count.
        """
        latest = moment.latest_effect
        if latest is None:
            messages = await self._history.value(run.thread_id, checkpoint_id, "messages")
            answered = {
                m.tool_call_id for m in messages or [] if isinstance(m, ToolMessage) and m.status == "success"
            }
            latest = await self._stores.journal.latest_of(run.thread_id, answered)
        writes = await self._stores.journal.writes(run.thread_id, after=latest)
        return spans(write for write in writes if not write.tool_call_id.startswith(_prefix(run)))

    async def _restore_all(self, run: Run, workspace: Workspace, undone: list[Span], files: _Files) -> None:
        for number, span in enumerate(undone):
            try:
                if await self._restore(run, workspace, f"{_prefix(run)}{number}", span):
                    files.restored.append(span.path)
            except StaleFile:
                files.keep(span.path, CHANGED_SINCE if span.unbroken else CHANGED_IN_BETWEEN)
            except ToolError as refused:
                files.keep(span.path, str(refused))

    async def _restore(self, run: Run, workspace: Workspace, call_id: str, span: Span) -> bool:
        """Whether the file had to be restored. Raises ToolError, StaleFile above all, if it is left alone.

        Journaled as an effect of its own, so that what the thread changed in all stays right, and so that a
        later rewind can take this one back.
        """
        path = span.path
        known = await self._stores.journal.get(run.thread_id, call_id)
        if known is not None and known.state != "begun":
            if known.state == "void":
                raise StaleFile(CHANGED_SINCE)
            return True
        workspace.check_writable(path)
        present = content_hash(await asyncio.to_thread(workspace.current, path))
        if present == span.before_hash:
            if known is not None:
                await self._finish(run, call_id)
            return known is not None
        if present != span.after_hash or not span.unbroken:
            if known is not None:
                await self._finish(run, call_id, void=True)
            raise StaleFile(CHANGED_SINCE)
        then, now = await self._stores.journal.contents(run.thread_id, span)
        if known is None:
            await self._stores.journal.begin(run, Intent(call_id, "", path, now, then))
            sys.audit("agent_service.effect.intended", call_id)

        async def look() -> None:
            await self._stores.journal.confirm(run)
            self._wrote(run.thread_id, path, fingerprint(then))

        effect = Effect(path, now, then, ToolResult(""), preview="")
        try:
            await asyncio.to_thread(workspace.commit, effect, last_look(look))
        except ToolError:
            await self._finish(run, call_id, void=True)
            raise
        await self._finish(run, call_id)
        return True

    async def _finish(self, run: Run, call_id: str, *, void: bool = False) -> None:
        await self._stores.journal.finish(run, call_id, state="void" if void else "done")
        sys.audit("agent_service.effect.done", call_id)


def is_restored(write: Write) -> bool:
    """Whether a rewind made that effect, and no tool call."""
    return write.tool_call_id.startswith(f"rewind_{write.turn_id}_")


def _prefix(run: Run) -> str:
    """Of the journal's names for the effects of a rewind, whose only turn is itself."""
    return f"rewind_{run.run_id}_"


def _response(
    run: Run,
    wanted: RewindRequest,
    files: _Files,
    notes: list[str],
    changes: list[Change],
    ended: Exception | None,
) -> RewindResponse:
    return RewindResponse(
        explanation=None if ended else _in_words(wanted.checkpoint_id, files, notes),
        agent_status="error" if ended else "completed",
        error_details=str(ended) if ended else None,
        error_code=getattr(ended, "code", "checkpoint_not_found") if ended else None,
        request_params=orjson.loads(run.request),
        thread_id=run.thread_id,
        run_id=run.run_id,
        files_changed=[file_changed(change) for change in changes],
        checkpoint_id=wanted.checkpoint_id,
        restored=files.restored,
        kept=files.kept,
        notes=notes,
    )


def _withdrawn(questions: int) -> str:
    if questions == 1:
        return "The question that was open is withdrawn."
    return f"The {questions} questions that were open are withdrawn."


def _in_words(checkpoint_id: str, files: _Files, notes: list[str]) -> str:
    parts = [f"The conversation is back at checkpoint {checkpoint_id}.", *notes]
    if files.restored:
        parts.append(f"Restored: {', '.join(files.restored)}.")
    if files.kept:
        kept = ", ".join(f"{each.path} ({each.reason})" for each in files.kept)
        parts.append(f"Left as they are: {kept}.")
    return " ".join(parts)
