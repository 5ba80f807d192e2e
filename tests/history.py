"""What the strictest OpenAI-compatible providers find wrong with a chat request."""

from __future__ import annotations

import json
import re
from typing import Any

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OURS_ONLY = frozenset(
    {"provider", "model_quality", "api_base", "base_url", "api_key", "extra_headers", "user_config"}
)
"""Fields of our own surface, or of other gateways', that never belong in a request to a provider."""


def objection(body: dict[str, Any]) -> str | None:
    """Why the request is wrong, in a sentence; None if it is sound."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "model is missing"
    if foreign := sorted(_OURS_ONLY & body.keys()):
        return f"unrecognised request fields: {', '.join(foreign)}"
    if body.get("tool_choice") is not None and not body.get("tools"):
        return "tool_choice is only allowed when tools are given"
    for tool in body.get("tools") or ():
        parameters = tool.get("function", {}).get("parameters", {"type": "object"})
        if tool.get("type") != "function" or parameters.get("type") != "object":
            return "each tool must be a function whose parameters are an object"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages must be a list that is not empty"
    return _history_objection(messages)


def _history_objection(messages: list[dict[str, Any]]) -> str | None:
    open_calls: set[str] = set()
    known: set[str] = set()
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role")
        if role not in _ROLES:
            return f"{where}: unknown role {role!r}"
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                return f"{where}: answers no open tool call: {message.get('tool_call_id')!r}"
            open_calls.discard(message["tool_call_id"])
        elif open_calls:
            return f"{where}: tool calls without an answer: {', '.join(sorted(open_calls))}"
        wanted = message.get("tool_calls")
        if wanted is not None and (role != "assistant" or not wanted):
            return f"{where}: tool_calls must be a list with calls, of an assistant"
        if problem := _content_objection(message) or _calls_objection(wanted or (), known):
            return f"{where}: {problem}"
        open_calls |= {call["id"] for call in wanted or ()}
    if open_calls:
        return f"tool calls without an answer: {', '.join(sorted(open_calls))}"
    if messages[-1]["role"] == "assistant":
        return "the last message must not be the assistant's"
    return None


def _content_objection(message: dict[str, Any]) -> str | None:
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return None
    if isinstance(content, list):
        sound = content and all(isinstance(part, dict) and "type" in part for part in content)
        return None if sound else "content parts must be objects with a type"
    if not isinstance(content, str):
        return "content must be a string or a list of parts"
    if message["role"] in ("user", "assistant") and not content and not message.get("tool_calls"):
        return "content must not be empty"
    return None


def _calls_objection(wanted: Any, known: set[str]) -> str | None:
    for call in wanted:
        call_id = call.get("id")
        if not isinstance(call_id, str) or not _ID.fullmatch(call_id):
            return f"tool call id {call_id!r} is not allowed"
        if call_id in known:
            return f"tool call id {call_id!r} is used twice"
        known.add(call_id)
        if call.get("type") != "function" or not call["function"].get("name"):
            return "a tool call must be of type function and have a name"
        try:
            arguments = json.loads(call["function"].get("arguments") or "")
        except ValueError:
            return f"the arguments of {call_id} are not JSON"
        if not isinstance(arguments, dict):
            return f"the arguments of {call_id} are not a JSON object"
    return None
