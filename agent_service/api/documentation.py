"""Pieces of the OpenAPI description that several routes share."""

from __future__ import annotations

from typing import Any

from agent_service.api.errors import ErrorAnswer
from agent_service.events import EVENT_KINDS

_MEANING = {
    400: "Malformed body.",
    401: "No valid key.",
    403: "Wrong Origin, or not allowed for this key.",
    404: "Unknown, or somebody else's (`checkpoint_not_found`: the thread is there).",
    409: "`thread_busy` (with `Retry-After`), `question_open`, `not_waiting` or `already_answered`.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A field is missing or wrong; `param` names it.",
    429: "Too many requests, or `budget_exceeded`; see `Retry-After`.",
    502: "A provider failed.",
    503: "No provider, overload, or shutting down; see `Retry-After`.",
    504: "A provider did not answer in time.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` entries of these statuses."""
    return {status: {"model": ErrorAnswer, "description": _MEANING[status]} for status in statuses}


def event_stream(description: str) -> dict[str, Any]:
    """A `responses` entry for a route that can answer with Server-Sent Events."""
    kinds = ", ".join(f"`{kind}`" for kind in EVENT_KINDS)
    described = f"{description} Events: {kinds}."
    return {"description": described, "content": {"text/event-stream": {"schema": {"type": "string"}}}}
