"""The graph's messages (langchain-core) to and from the router's (OpenAI's shape). The only such place.

Also the guard of the history: before every model call each tool call has exactly one answer, right behind
it and in its order, whatever happened before. Strict providers refuse the whole thread otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from agent_service.agent.contract import MessageCall, ThreadMessage
from agent_service.agent.short_text import in_short
from agent_service.agent.signing import Thoughts, give_back, kept, signature_of
from agent_service.agent.storable import is_storable
from routing.types import ChatChunk, ChatMessage, RouteDecision
from routing.types import ToolCall as WireCall
from routing.usage import Tokens

INVALID_ARGUMENTS = "__invalid_json__"
"""Holds, in a stored call, the text of arguments that are no JSON object or no valid Unicode."""

NOT_EXECUTED = "Error: not executed: the run was stopped before this call was carried out."
LONGEST_TEXT = 400_000
"""Characters of an answer that are kept; past that it is no answer, and would fill every window for ever."""
MOST_CALLS = 256
"""Tool calls of one answer that are kept at all; the limit that a run has for them is lower."""
LONGEST_FAILED_ARGUMENT = 16_000
"""Characters of an argument that are shown again after the call failed."""
SUMMARY_LENGTH = 80
"""Characters of a message in a few words."""
_TOOL_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(slots=True)
class _PartialCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    signature: dict[str, Any] = field(default_factory=dict)


class AnswerBuilder:
    """Puts a streamed answer together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: dict[int, _PartialCall] = {}
        self.finish_reason: str | None = None
        self.tokens = Tokens()
        """As the provider told them last."""
        self._thoughts = Thoughts()
        self._signature: dict[str, Any] = {}

    def add(self, chunk: ChatChunk) -> str:
        """Take one chunk in; gives the text that it brought. What is not of OpenAI's form is passed over."""
        if isinstance(usage := chunk.data.get("usage"), dict):
            self.tokens = Tokens.of(usage)
        choices = chunk.data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict) or choice.get("index", 0) not in (0, None):
            return ""
        if isinstance(finish := choice.get("finish_reason"), str):
            self.finish_reason = finish
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return ""
        self._signature |= signature_of(delta)
        self._thoughts.add(delta)
        pieces = delta.get("tool_calls")
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict):
                self._add_call(piece)
        text = delta.get("content") or delta.get("refusal")
        if not isinstance(text, str) or not text:
            return ""
        self.text.append(text)
        return text

    def _add_call(self, piece: dict[str, Any]) -> None:
        """A piece of a call; another id, or no index, begins another call."""
        function, call_id = piece.get("function"), piece.get("id")
        index = piece["index"] if type(piece.get("index")) is int else len(self.calls)
        call = self.calls.get(index)
        if call is None or (isinstance(call_id, str) and call_id and call.id and call_id != call.id):
            free = index if index not in self.calls else max(self.calls) + 1
            call = self.calls[free] = _PartialCall()
        call.signature |= signature_of(piece)
        if isinstance(call_id, str):
            call.id = call_id or call.id
        if isinstance(function, dict):
            call.name += function["name"] if isinstance(function.get("name"), str) else ""
            arguments = function.get("arguments")
            call.arguments.append(arguments if isinstance(arguments, str) else _as_json(arguments))

    def message(self, known_ids: Iterable[str], decision: RouteDecision) -> AIMessage:
        """The whole answer, its tool calls under ids that are valid and new in the thread."""
        taken = set(known_ids)
        calls: list[dict[str, Any]] = []
        signatures: dict[str, dict[str, Any]] = {}
        for _, call in sorted(self.calls.items())[:MOST_CALLS]:
            valid = _TOOL_CALL_ID.fullmatch(call.id) and call.id not in taken
            call_id = call.id if valid else f"call_{uuid4().hex}"
            taken.add(call_id)
            if call.signature:
                signatures[call_id] = call.signature
            args = _arguments("".join(call.arguments))
            calls.append({"id": call_id, "name": clean_text(call.name), "args": args, "type": "tool_call"})
        text = clean_text("".join(self.text))
        finish = "length" if len(text) > LONGEST_TEXT else self.finish_reason or "stop"
        return AIMessage(
            content=text[:LONGEST_TEXT],
            tool_calls=calls,
            additional_kwargs=kept(
                decision.name,
                message=self._signature,
                calls=signatures,
                # Thoughts that led to no call need not be told again.
                thoughts=self._thoughts.as_fields() if calls else {},
            ),
            response_metadata={"model": decision.name, "finish_reason": finish},
        )


def known_call_ids(messages: Sequence[AnyMessage]) -> set[str]:
    """The ids of all tool calls so far."""
    return {call["id"] or "" for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}


def unanswered_calls(messages: Sequence[AnyMessage]) -> list[dict[str, Any]]:
    """Calls of the last answer that have no result yet, in their order."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, HumanMessage):
            return []
        if isinstance(message, AIMessage):
            answered = {m.tool_call_id for m in messages[index + 1 :] if isinstance(m, ToolMessage)}
            return [dict(call) for call in message.tool_calls if call["id"] not in answered]
    return []


def dangling_calls(messages: Sequence[AnyMessage]) -> list[str]:
    """The ids of all calls, in the whole history, that were never answered."""
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    calls = [call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    return [call["id"] or "" for call in calls if call["id"] not in answered]


def raw_arguments(args: Mapping[str, Any]) -> dict[str, Any] | str:
    """A stored call's arguments as a tool takes them: the object, or the text that was none."""
    return args[INVALID_ARGUMENTS] if INVALID_ARGUMENTS in args else dict(args)


def to_chat_messages(system: str, messages: Sequence[AnyMessage]) -> list[ChatMessage]:
    """The history as a provider takes it: every call answered once and at its place."""
    results = {m.tool_call_id: _text(m) for m in messages if isinstance(m, ToolMessage)}
    asked = max(
        (at for at, m in enumerate(messages) if isinstance(m, HumanMessage | SystemMessage)), default=0
    )
    chat: list[ChatMessage] = [{"role": "system", "content": system}]
    for at, message in enumerate(messages):
        if isinstance(message, HumanMessage | SystemMessage):
            if chat[-1]["role"] == "user":  # some providers want the roles to alternate
                chat[-1] = {"role": "user", "content": f"{chat[-1].get('content')}\n\n{_text(message)}"}
            else:
                chat.append({"role": "user", "content": _text(message)})
        elif isinstance(message, AIMessage) and (message.content or message.tool_calls):
            chat.append(_assistant(message, results, thoughts=at > asked))
            chat += [
                {
                    "role": "tool",
                    "tool_call_id": call["id"] or "",
                    "content": results.get(call["id"] or "", NOT_EXECUTED),
                }
                for call in message.tool_calls
            ]
    return chat


def thread_message(message: AnyMessage) -> ThreadMessage:
    """The message as clients see it."""
    if isinstance(message, AIMessage):
        calls = [
            MessageCall(id=call["id"] or "", name=call["name"], arguments=raw_arguments(call["args"]))
            for call in message.tool_calls
        ]
        model = message.response_metadata.get("model")
        return ThreadMessage(role="assistant", content=_text(message), model=model, tool_calls=calls)
    if isinstance(message, ToolMessage):
        return ThreadMessage(role="tool", content=_text(message), tool_call_id=message.tool_call_id)
    return ThreadMessage(role="user", content=_text(message))


def in_a_few_words(message: AnyMessage) -> str:
    """The message for a person who looks through many: what was said, wanted or answered."""
    if isinstance(message, AIMessage) and message.tool_calls:
        return in_short(", ".join(_call_in_words(call) for call in message.tool_calls), SUMMARY_LENGTH)
    text = _text(message)
    named = isinstance(message, ToolMessage) and message.name
    return in_short(f"{message.name}: {text}" if named else text, SUMMARY_LENGTH)


def _call_in_words(call: Mapping[str, Any]) -> str:
    arguments = raw_arguments(call["args"])
    first = "?" if isinstance(arguments, str) else next(map(str, arguments.values()), "")
    return f"{call['name']}({first})"


def _assistant(message: AIMessage, results: Mapping[str, str], *, thoughts: bool) -> ChatMessage:
    """With its signatures; with its thoughts only as long as the task that they were about goes on."""
    chat: ChatMessage = {"role": "assistant", "content": _text(message)}
    if message.tool_calls:
        chat["tool_calls"] = [
            _wire_call(
                call["id"] or "",
                call["name"],
                _shortened(call["args"])
                if results.get(call["id"] or "", NOT_EXECUTED).startswith("Error:")
                else call["args"],
            )
            for call in message.tool_calls
        ]
    give_back(message, chat, thoughts=thoughts)
    return chat


def _wire_call(call_id: str, name: str, args: Mapping[str, Any]) -> WireCall:
    shown = {} if INVALID_ARGUMENTS in args else args  # strict providers want valid JSON here too
    name = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "unknown"
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(shown, ensure_ascii=False)},
    }


def _shortened(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that failed: what did not help need not fill the window of every later call."""
    return {
        name: f"{value[:200]} [... {len(value):,} characters in all]"
        if isinstance(value, str) and len(value) > LONGEST_FAILED_ARGUMENT
        else value
        for name, value in args.items()
    }


def _arguments(text: str) -> dict[str, Any]:
    """The arguments as an object; as INVALID_ARGUMENTS if they are none or could not be stored."""
    try:
        parsed = json.loads(text or "{}", parse_constant=_refuse)
        json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()  # surrogates and 1e999 fail here
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict) and INVALID_ARGUMENTS not in parsed and is_storable(parsed):
        return parsed
    return {INVALID_ARGUMENTS: clean_text(text)}


def _as_json(arguments: Any) -> str:
    """Some servers send the arguments as the object itself, not as its text."""
    return "" if arguments is None else json.dumps(arguments)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _text(message: AnyMessage) -> str:
    return message.content if isinstance(message.content, str) else json.dumps(message.content)


def clean_text(text: str) -> str:
    """Lone surrogates replaced: they cannot be stored or sent."""
    return text.encode("utf-8", "replace").decode()
