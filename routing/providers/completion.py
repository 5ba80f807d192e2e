"""OpenAI's answers, written from what other formats say."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from routing.types import ChatChunk


def completion(
    *,
    answer_id: Any,
    model: str,
    text: str,
    calls: list[dict[str, Any]],
    finish: str,
    usage: dict[str, Any] | None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A whole answer; `extra` is what its text is signed with."""
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = calls
    if extra:
        message["extra_content"] = extra
    whole = _frame("chat.completion", answer_id, model)
    whole["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    return {**whole, "usage": usage} if usage else whole


def function_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call; `arguments` as JSON text, or as the value to be written so."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    if not isinstance(name, str) or not name:
        raise ValueError("a call names no function")
    function = {"name": name, "arguments": text}
    valid = call_id if isinstance(call_id, str) and call_id else f"call_{uuid.uuid4().hex}"
    return {"id": valid, "type": "function", "function": function}


def said(text: Any) -> bool:
    """Whether a text says anything. Raises TypeError for what is no text."""
    if not isinstance(text, str):
        raise TypeError(f"a text is of type {type(text).__name__}")
    return bool(text)


def model_name(told: Any, asked: str) -> str:
    """What the model calls itself, else what it was asked for as."""
    return told if isinstance(told, str) and told else asked


def usage_of(
    prompt: Any, answer: Any, *, cached: Any = None, cache_written: Any = None, reasoning: Any = None
) -> dict[str, Any]:
    """Token counts; what is no count is 0, or left out where it is a detail."""
    counts: dict[str, Any] = {"prompt_tokens": count(prompt), "completion_tokens": count(answer)}
    counts["total_tokens"] = count(prompt) + count(answer)
    read = {"cached_tokens": cached, "cache_write_tokens": cache_written}
    if details := {name: count(tokens) for name, tokens in read.items() if tokens is not None}:
        counts["prompt_tokens_details"] = details
    if reasoning is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": count(reasoning)}
    return counts


def count(tokens: Any) -> int:
    """A number of tokens, which some providers write as 12.0; 0 if it is none."""
    return int(tokens) if isinstance(tokens, int | float) and 0 <= tokens < 1 << 53 else 0


class ChunkWriter:
    """Writes one streamed answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._frame = _frame("chat.completion.chunk", None, model)
        self._calls: dict[Any, int] = {}
        self._without_arguments: set[Any] = set()

    def begin(self, answer_id: Any, model: Any) -> ChatChunk:
        """The role; from here on the chunks bear this id, and the model's own name for itself if told."""
        self._frame = _frame("chat.completion.chunk", answer_id, model_name(model, self._model))
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> Iterable[ChatChunk]:
        """A piece of text; nothing for an empty one."""
        if said(text):
            yield self._chunk({"content": text})

    def signature(self, extra: dict[str, Any]) -> ChatChunk:
        """What the text is signed with."""
        return self._chunk({"extra_content": extra})

    def begin_call(self, key: Any, call: Mapping[str, Any]) -> ChatChunk:
        """The beginning of a call, `key` being what its further pieces are known by."""
        if key in self._calls:
            raise ValueError(f"two calls are numbered {key!r}")
        self._calls[key] = len(self._calls)
        if not call["function"]["arguments"]:
            self._without_arguments.add(key)
        return self._chunk({"tool_calls": [{"index": self._calls[key], **call}]})

    def arguments(self, key: Any, text: str) -> Iterable[ChatChunk]:
        """A piece of a call's arguments, exactly as it came; nothing for an empty one."""
        if said(text):
            self._without_arguments.discard(key)
            piece = {"index": self._calls[key], "function": {"arguments": text}}
            yield self._chunk({"tool_calls": [piece]})

    def end_call(self, key: Any, arguments: str = "{}") -> Iterable[ChatChunk]:
        """The end of a call, which gets these arguments if none came; nothing if `key` is no call."""
        if key in self._without_arguments:
            yield from self.arguments(key, arguments)

    @property
    def called(self) -> bool:
        """Whether there was any call."""
        return bool(self._calls)

    def end(self, finish: str, usage: dict[str, Any] | None) -> Iterable[ChatChunk]:
        """Why the answer ends, and what it took."""
        yield self._chunk({}, finish)
        if usage:
            yield self.usage(usage)

    def usage(self, usage: dict[str, Any]) -> ChatChunk:
        """What it took, or takes so far."""
        data = {**self._frame, "choices": [], "usage": usage}
        return ChatChunk(orjson.dumps(data), data)

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> ChatChunk:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        data = {**self._frame, "choices": [choice]}
        return ChatChunk(orjson.dumps(data), data)


def _frame(kind: str, answer_id: Any, model: str) -> dict[str, Any]:
    own = answer_id if isinstance(answer_id, str) and answer_id else f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": own, "object": kind, "created": int(time.time()), "model": model}
