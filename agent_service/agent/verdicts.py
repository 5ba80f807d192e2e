"""What became of the changes that the agent made: found in the files when the user comes back.

A change that still stands, or on which somebody built, was kept; one that was taken back was discarded. What
was made into something else altogether tells nothing. The verdict goes to the model that wrote the file last.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile

from langchain_core.messages import AIMessage, AnyMessage
from sqlalchemy.exc import SQLAlchemyError

from agent_service.agent.findings import Finding, Maker, OutcomeBook
from agent_service.agent.rewind import is_restored
from checkpoints.errors import CheckpointError
from checkpoints.journal import EffectJournal, Write, content_hash, spans
from routing.learning import Outcome
from tools.errors import ToolError
from tools.workspace import Workspace

logger = logging.getLogger(__name__)


class ChangeJudge:
    """Judges the changes of a thread, each once, while its run holds the thread."""

    def __init__(self, journal: EffectJournal, book: OutcomeBook) -> None:
        self._journal, self._book = journal, book

    async def pending(self, thread_id: str, *, before_turn: str | None = None) -> list[Write]:
        """What is not judged yet, of all turns or of those before one. Empty if it cannot be read."""
        try:
            writes = await self._journal.writes(thread_id, after=await self._book.judged(thread_id))
        except (SQLAlchemyError, CheckpointError) as error:
            logger.warning("changes of thread %s could not be judged: %s", thread_id, error)
            return []
        return [*takewhile(lambda write: write.turn_id != before_turn, writes)]

    async def judge(
        self, thread_id: str, writes: Sequence[Write], workspace: Workspace, messages: Sequence[AnyMessage]
    ) -> None:
        """Look what became of these, in their order, and let the book learn it. A failure is only logged.

        `messages` tell who made the calls; where they do not, nothing is learned.
        """
        known, files = makers(messages), defaultdict[str, list[Write]](list)
        for write in writes:
            files[write.path].append(write)
        try:
            findings = [
                Finding(maker, outcome)
                for path, history in files.items()
                if (maker := known.get(_last_call(history)))
                and (outcome := await self._outcome(thread_id, path, history, workspace))
            ]
            await self._book.learn(thread_id, writes[-1].seq, findings)
        except (SQLAlchemyError, CheckpointError) as error:
            logger.warning("changes of thread %s could not be judged: %s", thread_id, error)

    async def _outcome(
        self, thread_id: str, path: str, history: Sequence[Write], workspace: Workspace
    ) -> Outcome | None:
        """What became of a file's changes; None = that does not show."""
        try:
            present = await asyncio.to_thread(workspace.current, path)
        except ToolError:
            return None  # no readable file any more, or a huge one
        found = content_hash(present)
        if is_restored(history[-1]) and found == history[-1].after_hash:
            return "change_discarded"
        ours = [write for write in history if not is_restored(write)]
        [span] = spans(ours)
        if span.before_hash == span.after_hash:
            return None
        if found in (span.before_hash, span.after_hash):
            return "change_kept" if found == span.after_hash else "change_discarded"
        before, after = await self._journal.contents(thread_id, span)
        built_upon = await asyncio.to_thread(holds_what_was_added, before, after, present)
        return "change_kept" if built_upon else None


def makers(messages: Sequence[AnyMessage]) -> Mapping[str, Maker]:
    """Who made each tool call of the conversation."""
    found: dict[str, Maker] = {}
    for message in messages:
        if isinstance(message, AIMessage):
            provider, _, model = message.response_metadata.get("model", "").partition("/")
            maker = Maker((provider, model), message.response_metadata.get("task", "tools"))
            found |= {call["id"] or "": maker for call in message.tool_calls if model}
    return found


def holds_what_was_added(before: bytes | None, after: bytes | None, present: bytes | None) -> bool:
    """Whether each line that a change added stands as often as it left it, whatever else changed since."""
    old, new, now = (Counter((each or b"").splitlines()) for each in (before, after, present))
    added = new - old
    return bool(added) and all(now[line] >= new[line] for line in added)


def _last_call(history: Sequence[Write]) -> str:
    """The model's last call about a file; empty if there is none."""
    return next((write.tool_call_id for write in reversed(history) if not is_restored(write)), "")
