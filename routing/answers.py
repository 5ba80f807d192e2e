"""Chat answers looked at closely: decoded, checked, and turned from whole into streamed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from routing.errors import ContentRefused, ProviderUnavailable
from routing.redaction import shows
from routing.types import ChatChunk

_FURTHER_CONTENT = ("tool_calls", "refusal", "function_call", "audio")
"""Fields of a message or delta that make it an answer, too."""
_WORDS = (str, list, type(None))
_OPENAI_FIELDS = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier"}
)
"""Of completions and chunks."""


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


def wanted_choices(body: Mapping[str, Any]) -> int:
    """How many answers a request asks for."""
    wanted = body.get("n")
    return wanted if type(wanted) is int and wanted > 1 else 1


def has_content(message: dict[str, Any]) -> bool:
    """Whether a message or delta says or calls anything."""
    return bool(message.get("content")) or any(message.get(name) for name in _FURTHER_CONTENT)


def says_words_alone(data: dict[str, Any]) -> bool:
    """Whether this is what most chunks are: a single choice that says words, and nothing else.

    Raises LookupError, TypeError or AttributeError for what has no form at all.
    """
    choices = data.get("choices")
    if not choices or len(choices) > 1 or data.get("usage") is not None:
        return False
    choice = choices[0]
    delta = choice.get("delta")
    if not delta or len(delta) > 1 or choice.get("finish_reason") is not None:
        return False
    words = delta.get("content")
    return type(words) is str and words != ""


def check_words(message: Any) -> None:
    """Raises ValueError unless it has the form of a message or delta, as far as others rely on it."""
    if not isinstance(message, dict):
        raise ValueError("a message is not an object")
    if not isinstance(message.get("content"), _WORDS):
        raise ValueError("the content is neither text nor a list")
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise ValueError("the tool calls are not a list of objects")
    if not all(isinstance(call.get("function") or {}, dict) for call in calls):
        raise ValueError("the function of a tool call is not an object")


def mended(data: dict[str, Any], part: str) -> dict[str, Any]:
    """A completion or chunk with what clients rely on in its usual form; itself if it has that already.

    A usage that is no object is left out, no `part` (`message` or `delta`) becomes an empty one, a finish
    reason and the arguments of a call become text. Raises AttributeError or TypeError for what has no form
    at all.
    """
    for choice in data["choices"]:
        said, reason = choice.get(part), choice.get("finish_reason")
        if type(said) is not dict or not (reason is None or type(reason) is str):
            break
        if (calls := said.get("tool_calls")) and not all(map(_has_usual_arguments, calls)):
            break
    else:
        usage = data.get("usage")
        if usage is None or type(usage) is dict:
            return data
    rest = {name: value for name, value in data.items() if name != "usage" or isinstance(value, dict)}
    return {**rest, "choices": [_mended_choice(choice, part) for choice in data["choices"]]}


def _has_usual_arguments(call: dict[str, Any]) -> bool:
    return isinstance((call.get("function") or {}).get("arguments"), str | None)


def _mended_choice(choice: dict[str, Any], part: str) -> dict[str, Any]:
    said, reason = choice.get(part) or {}, choice.get("finish_reason")
    if calls := said.get("tool_calls"):
        said = {**said, "tool_calls": [_mended_call(call) for call in calls]}
    if not isinstance(reason, str | None):
        reason = ("tool_calls" if calls else "stop") if reason else None
    return {**choice, part: said, "finish_reason": reason}


def _mended_call(call: dict[str, Any]) -> dict[str, Any]:
    if _has_usual_arguments(call):
        return call
    arguments = orjson.dumps(call["function"]["arguments"]).decode()
    return {**call, "function": {**call["function"], "arguments": arguments}}


def without_secrets(data: dict[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """A completion or chunk without those further fields of its provider that show one of these.

    Itself if there are none. What OpenAI's clients know is left as it is: there stand the model's own words.
    """
    telling = [
        name for name in data.keys() - _OPENAI_FIELDS if shows(orjson.dumps(data[name]).decode(), secrets)
    ]
    return {name: value for name, value in data.items() if name not in telling} if telling else data


def checked(provider: str, data: dict[str, Any]) -> dict[str, Any]:
    """The completion in its usual form, if it is an answer.

    Of several choices none may be broken off, and one must say something. Raises ValueError when it is not
    what it should be, ProviderUnavailable when there is no answer in it, ContentRefused when a content
    filter kept it back.
    """
    choices = data.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("the choices are not a list of objects")
    for choice in choices:
        check_words(choice.get("message") or {})
    if not choices or not all(isinstance(choice.get("message"), dict) for choice in choices):
        raise ProviderUnavailable(provider, f"{provider} sent an answer without a message")
    data = mended(data, "message")
    reasons = [choice.get("finish_reason") or "stop" for choice in data["choices"]]
    said = any(has_content(choice["message"]) for choice in choices)
    refuse_bad_ending(provider, "error" if "error" in reasons else reasons[0], said=said)
    return {name: value for name, value in data.items() if name != "error"}  # of which it has none


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
