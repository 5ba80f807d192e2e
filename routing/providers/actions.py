"""A request with tools rewritten so that every reply is one JSON action, held to a schema.

The grammar makes the *form* of a weak model's call right; the rest of the recipe (a `finish` action,
repeating the task after each result, withholding tools that lead in circles) keeps it going somewhere.
The first message only depends on the tools, so that the server's prefix cache serves every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from routing.config import ModelCard
from routing.providers.steps import LIST, READ, WRITE, Task, text_of
from routing.providers.transcript import FINISH, leave_out_results, plain_messages, shortened
from routing.types import ChatMessage

_FINISH_TOOL: dict[str, Any] = {
    "name": FINISH,
    "description": "Answer the user and end. Right for a question or a greeting as soon as the answer is "
    "known, and for work when all of it is done. `message` is the complete answer.",
    "parameters": {
        "type": "object",
        "properties": {"message": {"type": "string"}},
        "required": ["message"],
        "additionalProperties": False,
    },
}
EXAMPLE_ANSWER = "It names blue."
"""What a weak model that does not know what to do may repeat as its own answer."""
_ABOUT_ANSWERING = (
    "A question or greeting is answered with finish, without asking back and without writing. "
    'When d.txt holds "sky: blue" and the task is "Which colour does d.txt name?", the reply is '
    f'{{"tool": "finish", "arguments": {{"message": "{EXAMPLE_ANSWER}"}}}}.'
)
"""Without an example a 1.5B model asks the human, or writes a file, before it answers a plain question."""
_ABOUT_WRITING = "write_file replaces the whole file: write everything that is to stay, too."
_LONG = frozenset({"content", "old_text", "new_text", "message"})
"""Arguments that hold whole texts; all other strings get a length, or a weak model may never end them."""
_SHORT_LENGTH = 400
MAX_ANSWER_TOKENS = 2048
"""Enough for a file of some 6,000 characters; a weak model that writes on and on is stopped there."""
_DEFAULT_WINDOW = 8192
_CHARS_PER_TOKEN = 3
"""Fewer than code really has (3.5 to 4), so that what is counted as fitting fits."""
_MAX_REMINDER = 600


def constrained_body(
    card: ModelCard, body: Mapping[str, Any], task: Task, functions: list[dict[str, Any]], *, may_finish: bool
) -> dict[str, Any]:
    """The request to send instead: no tools, but a prompt that describes them and a schema for the reply.

    `functions` are those described to the model; the ones `task` withholds are left out of the schema only.
    """
    if may_finish:
        functions = [*functions, _FINISH_TOOL]
    offered = offered_functions(task, functions)
    window = card.context_window or _DEFAULT_WINDOW
    budget = min(card.max_output or MAX_ANSWER_TOKENS, MAX_ANSWER_TOKENS, window // 2)
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    room = (window - budget) * _CHARS_PER_TOKEN
    return {
        "messages": _messages(body["messages"], task, functions, room),
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "action", "strict": True, "schema": _schema(offered)},
        },
        "temperature": 0,
        "seed": 1,
        "max_tokens": min(asked, budget) if asked else budget,
    }


def offered_functions(task: Task, functions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The functions the next reply may choose from; never none."""
    out = task.withheld()
    unread = task.unread()
    left = []
    for each in functions:
        if each["name"] == READ and unread is not None:
            if unread and READ not in out:
                left.append(_choosing(each, "filepath", unread))
        elif each["name"] not in out:
            left.append(each)
    if task.is_too_long:
        left = [each for each in functions if each["name"] == FINISH] or left
    return left or functions


def _choosing(function: dict[str, Any], parameter: str, values: list[str]) -> dict[str, Any]:
    """The function with one parameter, to be chosen from `values`."""
    schema = {"type": "object", "properties": {parameter: {"enum": values}}, "required": [parameter]}
    return {**function, "parameters": schema}


def _messages(
    messages: list[ChatMessage], task: Task, functions: list[dict[str, Any]], room: int
) -> list[dict[str, Any]]:
    """The rewritten conversation in at most about `room` characters, the oldest results left out first."""
    start = 0
    while start < len(messages) and messages[start]["role"] in ("system", "developer"):
        start += 1
    system = "\n\n".join([text_of(each) for each in messages[:start]] + [_describe(functions)])
    reminder = _reminder(task) if task.done else ""
    for share in (3, 6, 12, 24):
        rest = plain_messages(messages[start:], room // share)
        surplus = len(system) + len(reminder) + sum(len(each["content"]) for each in rest) - room
        if leave_out_results(rest[:-1], surplus) <= 0:
            break
    if reminder:
        rest[-1]["content"] += reminder
    return [{"role": "system", "content": system}, *rest]


def _describe(functions: Iterable[dict[str, Any]]) -> str:
    functions = list(functions)
    lines = ['Reply with exactly one JSON object: {"tool": NAME, "arguments": {...}}. The tools are:']
    for each in functions:
        parameters = ", ".join(each.get("parameters", {}).get("required") or ())
        lines.append(f"- {each['name']}({parameters}): {each.get('description', '')}")
    lines.append(
        "Do one step at a time; after each call you get its result. Do not repeat a call that already "
        "succeeded, and change no file unless the task asks for it."
    )
    names = {each["name"] for each in functions}
    if WRITE in names:
        lines.append(_ABOUT_WRITING)
    if FINISH in names:
        lines.append(_ABOUT_ANSWERING)
    return "\n".join(lines)


def _reminder(task: Task) -> str:
    last = task.done[-1]
    note = "\n\n(You have done this already, with the same result.)" if last.repeated else ""
    words = shortened(task.text, _MAX_REMINDER)
    only_looked = all(step.name in (LIST, READ) for step in task.done)
    advice = (
        "If this is only a question, use finish with the answer. Otherwise do the first step now."
        if only_looked
        else "Do the next step that is still missing; if nothing is missing, use finish."
    )
    return f"{note}\n\n(The task: {words}\n{advice})"


def _schema(functions: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "tool": {"const": each["name"]},
                    "arguments": _guarded(each.get("parameters") or {"type": "object", "properties": {}}),
                },
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            }
            for each in functions
        ]
    }


def _guarded(parameters: dict[str, Any]) -> dict[str, Any]:
    """The argument schema without optional parameters, and with a length for each short string.

    What a weak model may fill in, it fills in: line numbers that cut a file, answers to its own question.
    """
    required = parameters.get("required") or []
    properties = {}
    for name, field in parameters.get("properties", {}).items():
        if name in required:
            kept = {
                key: value for key, value in field.items() if key not in ("description", "default", "title")
            }
            if kept.get("type") == "string" and name not in _LONG and "enum" not in kept:
                kept.setdefault("maxLength", _SHORT_LENGTH)
            properties[name] = kept
    return {**parameters, "properties": properties, "required": required, "additionalProperties": False}
