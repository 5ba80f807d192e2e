"""What is wrong with a request's fields, in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from agent_service.agent.contract import CHECKPOINT_ID_PATTERN, THREAD_ID_PATTERN
from agent_service.errors import InvalidRequest
from agent_service.layers import known_names

_PATTERNS = {
    THREAD_ID_PATTERN: "it must have 8 to 64 characters, all of them letters (A-Z, a-z), digits, `-` or `_`",
    CHECKPOINT_ID_PATTERN: "it must be the id of a checkpoint, as the thread's history shows it",
}

_LONGEST_NAME = 64
"""Characters of an unknown name that are repeated."""


class Misfit(NamedTuple):
    """A field that cannot be taken as it is."""

    param: str | None
    """The field; None for the body as a whole."""
    message: str
    """A sentence."""


def first_misfit(error: RequestValidationError, route: object) -> Misfit:
    """The first of Pydantic's findings; a name that is not known comes with the nearest one that is."""
    found: Mapping[str, Any] = error.errors()[0]
    place: tuple[str | int, ...] = tuple(found["loc"])[1:]
    param = ".".join(map(str, place)) or None
    return Misfit(param, f"{param or 'The body'}: {_reason(found, place, route)}.")


def only_known_parameters(request: Request) -> None:
    """A dependency of routes that take no parameters in the address but their own. Raises InvalidRequest."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = [each.alias for each in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            shown = name[:_LONGEST_NAME]
            raise InvalidRequest(shown, f"{shown}: {_unknown(shown, known, 'parameter')}.")


def _reason(found: Mapping[str, Any], place: tuple[str | int, ...], route: object) -> str:
    context: Mapping[str, Any] = found.get("ctx") or {}
    if found["type"] == "extra_forbidden":
        return _unknown(str(place[-1]), _fields(route, place[:-1]))
    if found["type"] == "string_pattern_mismatch" and (words := _PATTERNS.get(context.get("pattern", ""))):
        return words
    reason: str = found["msg"]
    return reason.removeprefix("Value error, ")


def _unknown(name: str, known: list[str], what: str = "field") -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`" if near else f"known here: {', '.join(known) or 'none'}"
    return f"there is no such {what}; {hint}"


def _fields(route: object, place: tuple[str | int, ...]) -> list[str]:
    """The fields that the route's body has at that place."""
    if not isinstance(route, APIRoute) or route.body_field is None:
        return []
    model: Any = route.body_field.field_info.annotation
    return known_names(model, tuple(map(str, place)))
