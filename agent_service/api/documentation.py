"""Pieces of the OpenAPI description that several routes share."""

from __future__ import annotations

from typing import Any

from agent_service.api.error_codes import ErrorCode
from agent_service.api.errors import ErrorAnswer

OPEN = (ErrorCode.ORIGIN_NOT_ALLOWED, ErrorCode.OTHER_USER, ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL)
"""What a route may answer that needs no key, like any other."""
_ALWAYS = (*OPEN, ErrorCode.INVALID_API_KEY, ErrorCode.HOST_NOT_ALLOWED)
SENT = (ErrorCode.BODY_TIMEOUT, ErrorCode.TOO_LARGE, ErrorCode.NOT_JSON)
"""What may be wrong with any POST or PATCH."""
BODY = (ErrorCode.MALFORMED, ErrorCode.INVALID, *SENT, ErrorCode.OVERLOADED)
"""What may be wrong with a body that a route takes."""
MODEL = (ErrorCode.MODEL_NOT_FOUND, ErrorCode.PROVIDER_NOT_FOUND, ErrorCode.NO_PROVIDER)
"""What may be wrong with the choice of a model."""
THREAD = (ErrorCode.THREAD_NOT_FOUND, ErrorCode.DATABASE_UNAVAILABLE)
"""What may be wrong with a thread."""
STATE = (*THREAD, ErrorCode.STATE_DAMAGED)
"""What may be wrong with a thread that is read: all but its deletion needs its rows to be sound."""
RUN = (
    *BODY,
    *STATE,
    ErrorCode.THREAD_BUSY,
    ErrorCode.KEY_REUSED,
    ErrorCode.TAKEN_OVER,
    ErrorCode.SHUTTING_DOWN,
)
"""What may be wrong with a run that is begun."""

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
            "summary": "+1 -0",
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


def errors(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """The `responses` entries of a route that answers with these errors, and with those of the edge."""
    return described(*_ALWAYS, *codes)


def described(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """The `responses` entries of these errors alone."""
    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes), key=lambda code: (code.status, code.code)):
        by_status.setdefault(code.status, []).append(f"`{code.code}`: {code.meaning}.")
    return {
        status: {"model": ErrorAnswer, "description": " ".join(sentences)}
        for status, sentences in by_status.items()
    }


def event_stream(description: str) -> dict[str, Any]:
    """A `responses` entry for a route that can answer with Server-Sent Events."""
    described = f"{description} The `data` of each event of a stream is one `AgentEvent`."
    content = {"schema": {"$ref": "#/components/schemas/AgentEvent"}, "examples": _EVENTS}
    return {"description": described, "content": {"text/event-stream": content}}
