"""Refusing to change a file that somebody else changed since the agent saw it, and showing how it is now."""

from __future__ import annotations

from agent_service.agent.seen import CallNotes
from tools.errors import StaleFile
from tools.excerpt import excerpt
from tools.workspace import is_binary


def stale_file(path: str, present: bytes | None, wanted: str, notes: CallNotes) -> StaleFile:
    """What the model is told: the lines as they are now, all of them or those nearest to `wanted`.

    What is told whole counts as seen.
    """
    if present is None:
        notes.saw(path, None)
        return StaleFile(
            f"{path} was deleted by somebody else since you last saw it; nothing was written. "
            "If it is to exist again, make it with write_file."
        )
    changed = f"{path} was changed by somebody else since you last saw it, and was left as it is"
    if is_binary(present):
        return StaleFile(f"{changed}. It is a binary file now; use another path, or ask the human.")
    now = excerpt(present, wanted)
    if not now.whole:
        return StaleFile(f"{changed}. Read it before you change it. The nearest lines now:\n{now.text}")
    notes.saw(path, present)
    return StaleFile(f"{changed}. Decide anew; its lines now, with their numbers:\n{now.text}")
