"""What somebody else made of the files that the agent has seen, found by their hashes at the start of a run.

No watcher is needed for this, and none could be trusted: between two runs the service may have been down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import uuid4

from langchain_core.messages import SystemMessage

from agent_service.agent.seen import ABSENT, UNREADABLE, fingerprint
from agent_service.agent.state import AgentContext
from agent_service.events import MAX_PATHS, WorkspaceChanged, new_event
from tools.errors import ToolError
from tools.workspace import Workspace

MOST_NAMED = 40
"""Files that are named to the model; of more it is told how many."""


async def find_drift(context: AgentContext, open_calls: Sequence[str]) -> None:
    """Compare what was seen with the files as they are; followers are told at once, the model in its turn.

    Raises LeaseLost.

    `open_calls` are the tool calls without an answer: a crash may have come between the write of one and the
    note of it, and that write is nobody else's.
    """
    seen = context.seen
    if context.workspace is None or not seen.all():
        return
    drift = await asyncio.to_thread(changed_since, dict(seen.all()), context.workspace)
    for call_id in open_calls if drift else ():
        record = await context.journal.get(context.run.thread_id, call_id)
        if record is None or record.path is None or record.state == "void":
            continue
        if drift.get(record.path) == (record.after_hash or ABSENT):
            del drift[record.path]
    seen.drift = drift
    if news := seen.unheard():
        run = context.run
        event = WorkspaceChanged(thread_id=run.thread_id, run_id=run.run_id, paths=sorted(news)[:MAX_PATHS])
        await context.log.add(run.thread_id, [new_event(event)], fence=run.fence)
        seen.hear(news)


def changed_since(seen: Mapping[str, str], workspace: Workspace) -> dict[str, str]:
    """The files that are not what was seen, with the fingerprint of what is there now. Reads all of them."""
    present = {path: _present(path, workspace) for path in seen}
    return {path: found for path, found in present.items() if found != seen[path]}


def drift_note(drift: Mapping[str, str]) -> SystemMessage:
    """The drift in words for the model."""
    named = [f"{path} (deleted)" if drift[path] == ABSENT else path for path in sorted(drift)[:MOST_NAMED]]
    more = f" and {len(drift) - MOST_NAMED} more" if len(drift) > MOST_NAMED else ""
    files = ", ".join(named) + more
    text = (
        f"Note from the workspace: changed by somebody else since you last saw them: {files}. "
        "Read them again before you change them."
    )
    return SystemMessage(content=text, id=f"drift_{uuid4().hex}")


def _present(path: str, workspace: Workspace) -> str:
    try:
        return fingerprint(workspace.current(path))
    except ToolError:
        return UNREADABLE
