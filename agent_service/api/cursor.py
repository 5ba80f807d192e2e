"""Where a list of threads goes on: the place of the last one that was seen."""

from __future__ import annotations

import base64
import math

from agent_service.errors import InvalidRequest
from checkpoints.threads import ThreadRecord


def write_cursor(last: ThreadRecord) -> str:
    """The place of that thread."""
    return base64.urlsafe_b64encode(f"{last.updated_at!r} {last.thread_id}".encode()).decode()


def read_cursor(cursor: str) -> tuple[float, str]:
    """(updated_at, thread_id) of the last thread seen. Raises InvalidRequest."""
    try:
        moment, thread_id = base64.b64decode(cursor, b"-_", validate=True).decode().split(" ")
        updated_at = float(moment)
    except ValueError:
        updated_at = math.nan
    if not math.isfinite(updated_at):
        raise InvalidRequest("cursor", "cursor: it is not one of this service; start without one.")
    return updated_at, thread_id
