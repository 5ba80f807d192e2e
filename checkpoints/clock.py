"""The time that checkpoint ids carry. The newest checkpoint of a thread is the one with the greatest id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from langgraph.checkpoint.base import id as ids

_FIRST_DAY = datetime(1582, 10, 15, tzinfo=UTC)
"""From which ids count in steps of 100 ns: https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-6"""


def made_at(checkpoint_id: str) -> datetime:
    """When the checkpoint was made, as far as its id tells; that first day if it does not."""
    try:
        made = ids.UUID(checkpoint_id)
    except ValueError:
        return _FIRST_DAY
    return _FIRST_DAY + timedelta(microseconds=made.time // 10 if made.version == 6 else 0)


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
