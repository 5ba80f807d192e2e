"""Strict JSON: what a request body may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

MAX_DEPTH = 100


class InvalidJson(ValueError):
    """The body is not JSON that we take. The message names the problem and where it is, not the content."""


def parse_json(body: bytes) -> Any:
    """The body's value.

    Refuses, with InvalidJson: an empty body, invalid UTF-8, `NaN` and `Infinity`, numbers that no double
    can hold, lone surrogates, and more than 100 levels. Of repeated keys the last counts.
    """
    if not body.strip():
        raise InvalidJson("The body is empty; send a JSON object.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidJson(f"The body is not valid JSON: {error.msg} ({where}).") from None
    # Level by level, because a deep value is just what recursion cannot be trusted with.
    level = _containers([value])
    for _ in range(MAX_DEPTH):
        if not level:
            return value
        level = _containers(
            part
            for container in level
            for part in (container.values() if isinstance(container, dict) else container)
        )
    if level:
        raise InvalidJson(f"The body is nested more than {MAX_DEPTH} levels deep.")
    return value


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]
