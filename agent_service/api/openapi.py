"""The OpenAPI document: what FastAPI finds out by itself, the events of the streams, and the keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from agent_service.api.edge import OPEN_PATHS
from agent_service.api.error_codes import ErrorCode
from agent_service.events import EVENTS, Event

SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same keys."},
}

_NO_KEY: dict[str, list[str]] = {}
_ANYWHERE = (ErrorCode.NOT_FOUND, ErrorCode.METHOD_NOT_ALLOWED, ErrorCode.HEAD_TOO_LARGE)
_DESCRIPTION = (
    "Keys are needed where the operator configured some; without any, only the user who runs the service "
    "gets in. Every route of `/v1` also works without the prefix. Errors are always an `ErrorAnswer`; each "
    "route names the `code`s that it answers with. Elsewhere: "
    + "; ".join(f"{code.status} `{code.code}`, {code.meaning}" for code in _ANYWHERE)
    + "."
)
_NO_WORDS = "Successful Response"
"""FastAPI's, where a route has none of its own."""
_UNUSED = ("HTTPValidationError", "ValidationError")
"""What FastAPI would answer with, of every route that takes parameters."""

# What the events hold as plain data, because it is stored and sent on as it is.
_HOLDS = {
    ("QuestionOpened", "human_input_request"): "HumanInputRequest",
    ("RunFinished", "response"): "CodeAgentResponse",
    ("ToolFinished", "files_changed"): "FileChanged",
}


def describe(app: FastAPI) -> None:
    """Make `/openapi.json` of the application complete."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION,
        routes=app.routes,
    )
    components = found.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    schemas = components.setdefault("schemas", {})
    schemas.update(_event_schemas())
    schemas["ErrorBody"]["properties"]["code"]["examples"] = sorted({each.code for each in ErrorCode})
    for operation in _operations(found):
        _tell_answers(operation["responses"], schemas)
    for name in _UNUSED:
        schemas.pop(name, None)
    found["security"] = [{name: []} for name in SECURITY_SCHEMES] + [_NO_KEY]
    for path in OPEN_PATHS:
        for operation in found["paths"].get(path, {}).values():
            operation["security"] = []
    return found


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        yield from operations.values()


def _tell_answers(responses: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Make what a route answers true: a success is what its shape says, and errors are those it names."""
    for status, response in list(responses.items()):
        for content in response.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in _UNUSED:
                del responses[status]
            elif name and response["description"] == _NO_WORDS:
                response["description"] = schemas[name]["description"]


def _event_schemas() -> dict[str, Any]:
    names = {event.model_fields["kind"].default: f"{event.__name__}Event" for event in EVENTS}
    references = {kind: f"#/components/schemas/{name}" for kind, name in names.items()}
    union = {
        "title": "AgentEvent",
        "description": "The `data` of one event of a stream; its `event` is the `kind`. All but `token` are "
        "stored and have an `id`, the thread's own increasing number.",
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "kind", "mapping": references},
    }
    return {"AgentEvent": union, **{f"{event.__name__}Event": _event_schema(event) for event in EVENTS}}


def _event_schema(event: type[Event]) -> dict[str, Any]:
    schema = event.model_json_schema(mode="serialization")
    for (name, field), held in _HOLDS.items():
        if event.__name__ == name:
            described = schema["properties"][field]
            reference = {"$ref": f"#/components/schemas/{held}"}
            if described["type"] == "array":
                described["items"] = reference
            else:
                schema["properties"][field] = {**reference, "description": described["description"]}
    return schema
