"""An OpenAI request read for other formats: its turns, its images, its tools, its limits.

Raises LookupError, TypeError, AttributeError or ValueError for what is not of OpenAI's form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from routing.errors import RequestRejected

_DATA_URL = re.compile(r"data:([\w.+/-]+);base64,(.*)", re.DOTALL)


class Image(NamedTuple):
    """An image inside a message: its bytes, or where it lies."""

    url: str
    """As it was given."""
    media_type: str | None
    """None = it lies elsewhere."""
    data: str
    """Base64; empty if it lies elsewhere."""


@dataclass(slots=True)
class UserTurn:
    """What the user says, several messages in a row as one."""

    parts: list[str | Image]


@dataclass(slots=True)
class ModelTurn:
    """What the model said and called, with the results of the calls in the order of the calls."""

    text: str
    calls: Sequence[Mapping[str, Any]] = ()
    results: list[tuple[Mapping[str, Any], Sequence[str | Image]]] = field(default_factory=list)
    message: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """As it came, with what the model signed it with."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of a request."""

    system: str
    """All system and developer messages, wherever they stand: the other formats have one place for them."""
    turns: list[UserTurn | ModelTurn]


def read_conversation(messages: Iterable[Mapping[str, Any]], provider: str) -> Conversation:
    """The messages as turns. Raises RequestRejected for parts that are neither text nor image."""
    system: list[str] = []
    turns: list[UserTurn | ModelTurn] = []
    for message in messages:
        role, parts = message["role"], _parts(message.get("content"), provider)
        if role in ("system", "developer"):
            system.append(text_of(parts))
        elif role == "user":
            _add_words(turns, parts)
        elif role == "assistant":
            turns.append(ModelTurn(text_of(parts), message.get("tool_calls") or (), message=message))
        elif role == "tool":
            _add_result(turns, message["tool_call_id"], parts)
        else:
            raise ValueError(f"unknown role {role!r}")
    return Conversation("\n\n".join(filter(None, system)), turns)


def text_of(parts: Iterable[str | Image]) -> str:
    """The parts as text, for places that take nothing else; images are named, not shown."""
    return "\n\n".join(part if isinstance(part, str) else "(an image, left out)" for part in parts)


def arguments_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an earlier call as an object; empty when the model had written none."""
    try:
        arguments = json.loads(call["function"]["arguments"] or "{}")
    except (ValueError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {}


def functions_of(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The functions among the request's tools."""
    return [tool["function"] for tool in body.get("tools") or ()]


def chosen_function(body: Mapping[str, Any]) -> str | None:
    """The one function that must be called; None when the choice is another."""
    choice = body.get("tool_choice")
    return str(choice["function"]["name"]) if isinstance(choice, Mapping) else None


def token_limit(body: Mapping[str, Any]) -> int | None:
    """The longest answer asked for, in tokens; None = not said."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return int(limit) if limit is not None else None


def stops_of(body: Mapping[str, Any]) -> list[str]:
    """The texts that end the answer."""
    stop = body.get("stop")
    return [stop] if isinstance(stop, str) else list(stop or ())


def answer_schema(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that the answer must follow; None if there is none."""
    form = body.get("response_format") or {}
    return form["json_schema"]["schema"] if form.get("type") == "json_schema" else None


def _parts(content: Any, provider: str) -> list[str | Image]:
    """Text and images; texts of nothing but blanks are left out, as some formats refuse them."""
    if isinstance(content, str):
        return [content] if content.strip() else []
    return [part for each in content or () if (part := _part(each, provider))]


def _part(part: Mapping[str, Any], provider: str) -> str | Image | None:
    kind = part["type"]
    if kind in ("text", "refusal"):
        text: str = part[kind]
        return text if text.strip() else None
    if kind != "image_url":
        raise RequestRejected(provider, f"{provider} takes text and images only, no {str(kind)[:40]!r} part")
    url: str = part["image_url"]["url"]
    if inline := _DATA_URL.fullmatch(url):
        return Image(url, inline[1], inline[2])
    return Image(url, None, "")


def _add_words(turns: list[UserTurn | ModelTurn], parts: Sequence[str | Image]) -> None:
    """Put the user's words to those before; nothing said is no turn, which the other formats refuse."""
    last = turns[-1] if turns else None
    if isinstance(last, UserTurn):
        last.parts.extend(parts)
    elif parts:
        turns.append(UserTurn(list(parts)))


def _add_result(turns: list[UserTurn | ModelTurn], call_id: str, parts: Sequence[str | Image]) -> None:
    """Put a result to its call, which stands in the last turn of the model."""
    turn = turns[-1] if turns else None
    calls = {call["id"]: call for call in turn.calls} if isinstance(turn, ModelTurn) else {}
    if not isinstance(turn, ModelTurn) or call_id not in calls:
        raise ValueError(f"a tool message answers no call before it: {call_id!r}")
    turn.results.append((calls[call_id], parts))
    order = list(calls)
    turn.results.sort(key=lambda result: order.index(result[0]["id"]))
