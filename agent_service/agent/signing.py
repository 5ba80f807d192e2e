"""What a model signed its answer with: kept beside the stored message, and given back with it.

Some models refuse a history in which their calls come back without it. To us it is opaque.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage

from agent_service.agent.storable import is_storable
from routing.signatures import signed
from routing.types import ChatMessage

LONGEST_SIGNATURE = 64_000
"""Characters of one signature that are kept: those seen have some thousands. A longer one is none."""
LONGEST_THOUGHTS = 400_000
"""Characters of what a model thought that are kept."""
_SIGNED = "signed"
"""Where a stored message holds it, among langchain's `additional_kwargs`."""


def signature_of(piece: Mapping[str, Any]) -> dict[str, Any]:
    """What a piece of an answer is signed with, as far as it can be kept; empty if it is not."""
    extra = piece.get("extra_content")
    if not isinstance(extra, dict) or not is_storable(extra):
        return {}
    return extra if len(json.dumps(extra)) <= LONGEST_SIGNATURE else {}


class Thoughts:
    """What a model thinks while it answers, in the forms in which it may want to be told again."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._details: list[dict[str, Any]] = []

    def add(self, delta: Mapping[str, Any]) -> None:
        """Take a piece of the answer in."""
        if isinstance(text := delta.get("reasoning_content"), str):
            self._text.append(text)
        details = delta.get("reasoning_details")
        for piece in details if isinstance(details, list) else ():
            if isinstance(piece, dict):
                self._add_detail(piece)

    def _add_detail(self, piece: dict[str, Any]) -> None:
        """A text comes in many pieces of one index, each with all that stands beside the text."""
        last = self._details[-1] if self._details else {}
        same = all(last.get(name) == piece.get(name) for name in ("type", "index", "id"))
        for name in ("text", "summary"):
            if same and isinstance(last.get(name), str) and isinstance(piece.get(name), str):
                rest = {key: value for key, value in piece.items() if value is not None}
                self._details[-1] = {**last, **rest, name: last[name] + piece[name]}
                return
        self._details.append(piece)

    def as_fields(self) -> dict[str, Any]:
        """The fields of a message that tell it again, as far as it can be kept."""
        text = "".join(self._text).encode("utf-8", "replace").decode()[:LONGEST_THOUGHTS]
        fits = is_storable(self._details) and len(json.dumps(self._details)) <= LONGEST_THOUGHTS
        found = {"reasoning_content": text, "reasoning_details": self._details if fits else []}
        return {name: value for name, value in found.items() if value}


def kept(
    by: str,
    *,
    message: Mapping[str, Any],
    calls: Mapping[str, Mapping[str, Any]],
    thoughts: Mapping[str, Any],
) -> dict[str, Any]:
    """The signatures of an answer by `by` (`provider/model`), in the form in which a message stores them.

    `calls` are those of its calls by their ids; `thoughts` the fields that tell what it thought.
    """
    found = {"message": message, "calls": calls, "thoughts": thoughts}
    return {_SIGNED: {"by": by, **found}} if any(found.values()) else {}


def give_back(message: AIMessage, chat: ChatMessage, *, thoughts: bool) -> None:
    """Put what the stored message was signed with into what a provider is shown of it."""
    mark = message.additional_kwargs.get(_SIGNED)
    if not isinstance(mark, dict):
        return
    told = mark["thoughts"] if thoughts else {}
    if mark["message"] or told:
        chat["extra_content"] = signed(mark["message"], mark["by"])
    if "reasoning_content" in told:
        chat["reasoning_content"] = told["reasoning_content"]
    if "reasoning_details" in told:
        chat["reasoning_details"] = told["reasoning_details"]
    for call in chat.get("tool_calls", ()):
        if extra := mark["calls"].get(call["id"]):
            call["extra_content"] = signed(extra, mark["by"])
