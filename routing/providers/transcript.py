"""A conversation with tool calls retold in two voices: JSON actions, and what the user says to them."""

from __future__ import annotations

import json
from typing import Any

from routing.providers.steps import LIST, READ, path_of, text_of
from routing.types import ChatMessage

FINISH = "finish"
"""The action that stands for a plain answer."""

_RESULT = "Result of "
_LEFT_OUT = "(left out: too long ago)"


def plain_messages(messages: list[ChatMessage], longest_result: int) -> list[dict[str, Any]]:
    """The conversation without tool messages; user and assistant mostly alternate.

    Parallel calls become one after the other. Files that were looked at before anything else was done
    stand in the user's own message: a weak model does better with them there than as results.
    """
    results = {m["tool_call_id"]: text_of(m) for m in messages if m["role"] == "tool" and "tool_call_id" in m}
    out: list[dict[str, Any]] = []
    looking = False
    for message in messages:
        calls = message.get("tool_calls") or ()
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            result = shortened(results.get(call["id"], ""), longest_result)
            looking = looking and name in (LIST, READ)
            if looking:
                _say(out, "user", f"{_heading(name, arguments)}:\n{result}")
            else:
                _say(out, "assistant", _action(name, arguments))
                _say(out, "user", f"{_RESULT}{name}:\n{result}")
        if message["role"] == "assistant" and not calls:
            looking = False
            _say(out, "assistant", _action(FINISH, json.dumps({"message": text_of(message)})))
        elif message["role"] in ("user", "system", "developer"):
            looking = True
            _say(out, "user", text_of(message))
    return out


def leave_out_results(messages: list[dict[str, Any]], surplus: int) -> int:
    """Leave out results, the oldest first, until `surplus` characters are saved; what is still too much."""
    for message in messages:
        if surplus > 0 and message["role"] == "user" and message["content"].startswith(_RESULT):
            head = message["content"].partition("\n")[0]
            surplus -= len(message["content"]) - len(head) - len(_LEFT_OUT)
            message["content"] = f"{head}\n{_LEFT_OUT}"
    return surplus


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning and end with a note between them."""
    if len(text) <= limit:
        return text
    half = limit // 2
    note = f"... ({len(text) - 2 * half} characters left out here, so do not write this as a whole) ..."
    return f"{text[:half]}\n{note}\n{text[-half:]}"


def _say(out: list[dict[str, Any]], role: str, text: str) -> None:
    """Add to the conversation; two turns of the user in a row become one, as some templates demand."""
    if role == "user" and out and out[-1]["role"] == "user":
        out[-1]["content"] += f"\n\n{text}"
    else:
        out.append({"role": role, "content": text})


def _heading(name: str, arguments: str) -> str:
    return "The files" if name == LIST else f"Content of {path_of(arguments)}"


def _action(name: str, arguments: str) -> str:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = {}
    return json.dumps({"tool": name, "arguments": value}, ensure_ascii=False)
