"""Chat answers looked at closely: decoded, checked, and turned from whole into streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

from routing.errors import ContentRefused, ProviderUnavailable
from routing.types import ChatChunk

_CONTENT = ("content", "tool_calls", "refusal", "function_call", "audio")
"""Fields of a message or delta that make it an answer."""


def decode(text: bytes) -> ChatChunk | None:
    """A JSON object with the text it came from; None if it is none.

    A lone surrogate, which no UTF-8 text can hold, becomes `?` in both.
    """
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            text = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")
            data = orjson.loads(text)
        except (ValueError, RecursionError):
            return None
    return ChatChunk(text, data) if isinstance(data, dict) else None


def has_content(message: dict[str, Any]) -> bool:
    """Whether a message or delta says or calls anything."""
    return any(message.get(name) for name in _CONTENT)


def choices_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a completion or chunk. Raises ValueError when they are not what they should be."""
    choices = data.get("choices") or []
    if not isinstance(choices, list):
        raise ValueError("the choices are not a list")
    for choice in choices:
        if not isinstance(choice, dict) or not isinstance(choice.get("delta") or {}, dict):
            raise ValueError("a choice is not an object")
    return choices


def checked(provider: str, data: dict[str, Any]) -> dict[str, Any]:
    """The completion itself, if its first choice is an answer.

    Raises ProviderUnavailable when there is none, ContentRefused when a content filter kept it back.
    """
    choices = choices_of(data)
    if not choices or not all(isinstance(choice.get("message"), dict) for choice in choices):
        raise ProviderUnavailable(provider, f"{provider} sent an answer without a message")
    first = choices[0]
    refuse_bad_ending(provider, first.get("finish_reason") or "stop", said=has_content(first["message"]))
    return data


def refuse_bad_ending(provider: str, finish_reason: str | None, *, said: bool) -> None:
    """Raise unless the answer came to an end and said something.

    It may say nothing when it ran into the length limit: that is the caller's to see and to raise.
    """
    if finish_reason is None or finish_reason == "error":
        raise ProviderUnavailable(provider, f"{provider} broke off its answer")
    if said or finish_reason == "length":
        return
    if finish_reason == "content_filter":
        raise ContentRefused(provider, f"{provider}'s content filter refuses to answer this")
    raise ProviderUnavailable(provider, f"{provider} sent an empty answer")


def as_chunks(completion: dict[str, Any]) -> Iterator[ChatChunk]:
    """A whole answer as a stream would bring it: the messages, the finish reasons, the usage."""
    frame: dict[str, Any] = {key: completion[key] for key in ("id", "created", "model") if key in completion}
    frame["object"] = "chat.completion.chunk"
    for number, choice in enumerate(completion["choices"]):
        index = choice.get("index", number)
        delta = dict(choice["message"])
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(delta["tool_calls"])]
        yield _chunk(frame, [{"index": index, "delta": delta, "finish_reason": None}])
        ending = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        yield _chunk(frame, [ending])
    if completion.get("usage"):
        yield _chunk({**frame, "usage": completion["usage"]}, [])


def _chunk(frame: dict[str, Any], choices: list[dict[str, Any]]) -> ChatChunk:
    data = {**frame, "choices": choices}
    return ChatChunk(orjson.dumps(data), data)
