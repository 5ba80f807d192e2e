"""What happened to files, in numbers for clients."""

from __future__ import annotations

from agent_service.agent.contract import FileChanged
from checkpoints.journal import Change
from tools.diff import count_changes


def file_changed(change: Change) -> FileChanged:
    """The change in numbers."""
    additions, deletions = count_changes(change.before, change.after)
    action = "created" if change.before is None else "deleted" if change.after is None else "modified"
    return FileChanged(path=change.path, action=action, additions=additions, deletions=deletions)
