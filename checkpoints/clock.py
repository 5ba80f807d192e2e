"""The time that checkpoint ids carry. The newest checkpoint of a thread is the one with the greatest id."""

from __future__ import annotations

from langgraph.checkpoint.base import id as ids


def keep_ahead_of(checkpoint_id: str) -> None:
    """Have all ids that this process makes from now on be greater than that one, whatever its clock says.

    Another process may have made it, whose clock is ahead of ours, or ours may have been set back since; what
    is stored under a lesser id would be lost behind it. LangGraph keeps its ids ascending within a process.
    """
    try:
        made = ids.UUID(checkpoint_id)
    except ValueError:
        return
    if made.version == 6:
        latest: int | None = ids._last_v6_timestamp
        ids._last_v6_timestamp = max(made.time, latest or 0)  # type: ignore[assignment]
