"""Pieces of the OpenAPI description that several routes share."""

from __future__ import annotations

from typing import Any

from agent_service.api.errors import ErrorAnswer

_MEANING = {
    400: "Malformed body.",
    401: "No valid key.",
    403: "Wrong Origin, or not allowed for this key.",
    404: "Unknown, or somebody else's (`checkpoint_not_found`: the thread is there).",
    409: "`thread_busy` (with `Retry-After`), `question_open`, `not_waiting` or `already_answered`; "
    "`account_configured` for an account that is not to be changed here.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A field is missing or wrong; `param` names it.",
    429: "Too many requests, or `budget_exceeded`; see `Retry-After`.",
    502: "A provider failed.",
    503: "No provider, overload, or shutting down; with `Retry-After` if it may pass by itself.",
    504: "A provider did not answer in time.",
}


_IDS = {"thread_id": "greeter-1", "run_id": "c0ffee00c0ffee00c0ffee00c0ffee00"}
_EVENTS = {
    "tool.finished": {
        "summary": "A file was changed",
        "value": {
            "seq": 4,
            **_IDS,
            "kind": "tool.finished",
            "tool_call_id": "write_1",
            "name": "write_file",
            "ok": True,
            "summary": "wrote name.txt",
            "files_changed": [{"path": "name.txt", "action": "created", "additions": 1, "deletions": 0}],
        },
    },
    "question.opened": {
        "summary": "The run needs a person",
        "value": {
            "seq": 6,
            **_IDS,
            "kind": "question.opened",
            "human_input_request": {
                "tool_call_id": "call_1",
                "question_for_human": "Which name should be greeted?",
                "kind": "question",
                "options": None,
                "preview": None,
            },
        },
    },
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` entries of these statuses."""
    return {status: {"model": ErrorAnswer, "description": _MEANING[status]} for status in statuses}


def event_stream(description: str) -> dict[str, Any]:
    """A `responses` entry for a route that can answer with Server-Sent Events."""
    described = f"{description} The `data` of each event of a stream is one `AgentEvent`."
    content = {"schema": {"$ref": "#/components/schemas/AgentEvent"}, "examples": _EVENTS}
    return {"description": described, "content": {"text/event-stream": content}}
