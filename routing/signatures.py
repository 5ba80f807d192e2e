"""What a model signs its words and calls with, to know them again: opaque to us, of use to itself alone.

It travels in `extra_content` of a message or a tool call, the place that Google's OpenAI-compatible surface
uses (https://ai.google.dev/gemini-api/docs/thought-signatures, read 2026-11), with a note of whose it is.
A model that meets the signature of another refuses the whole request, so each is shown only its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GIVEN_BY = "given_by"
"""Beside the signature: `provider/model` of who gave it."""
_THOUGHTS = ("reasoning_content", "reasoning_details")
"""Where a message holds what its model thought (DeepSeek and many after it; OpenRouter). It goes with the
signature: some models demand it back while they call tools, others refuse a message that has any."""


def signed(extra: Mapping[str, Any], by: str) -> dict[str, Any]:
    """The extra content with the note that this model gave it, unless it says whose it is."""
    return {GIVEN_BY: by, **extra}


def own(holder: Mapping[str, Any], name: str, *, unless_told: bool = True) -> dict[str, Any] | None:
    """The extra content of a message or call if the model `name` gave it, without the note; else None.

    Content may not say whose it is, as clients that know Google's surface send it: `unless_told` decides.
    """
    extra = holder.get("extra_content")
    if not isinstance(extra, Mapping):
        return None
    by = extra.get(GIVEN_BY)
    if by != name if by is not None else not unless_told:
        return None
    return {key: value for key, value in extra.items() if key != GIVEN_BY} or None


def for_reader(messages: Sequence[Any], name: str, *, unless_told: bool) -> Sequence[Any]:
    """The messages as the model `name` may see them; the same objects where there is no signature."""
    if not any(map(_is_signed, messages)):
        return messages
    return [_shown(each, name, unless_told=unless_told) if _is_signed(each) else each for each in messages]


def _is_signed(message: Any) -> bool:
    if not isinstance(message, Mapping) or message.get("role") != "assistant":
        return False
    calls = message.get("tool_calls")
    return "extra_content" in message or (
        isinstance(calls, list)
        and any(isinstance(call, Mapping) and "extra_content" in call for call in calls)
    )


def _shown(message: Mapping[str, Any], name: str, *, unless_told: bool) -> dict[str, Any]:
    hidden = {"extra_content"} if _giver(message) in (None, name) else {"extra_content", *_THOUGHTS}
    shown = {key: value for key, value in message.items() if key not in hidden}
    if (extra := own(message, name, unless_told=unless_told)) is not None:
        shown["extra_content"] = extra
    if isinstance(calls := message.get("tool_calls"), list):
        shown["tool_calls"] = [_shown_call(call, name, unless_told=unless_told) for call in calls]
    return shown


def _shown_call(call: Any, name: str, *, unless_told: bool) -> Any:
    if not isinstance(call, Mapping) or "extra_content" not in call:
        return call
    shown = {key: value for key, value in call.items() if key != "extra_content"}
    extra = own(call, name, unless_told=unless_told)
    return shown if extra is None else {**shown, "extra_content": extra}


def _giver(message: Mapping[str, Any]) -> Any:
    extra = message.get("extra_content")
    return extra.get(GIVEN_BY) if isinstance(extra, Mapping) else None
