"""Cohere's chat API, version 2.

The plan that a model makes before it calls tools is passed on as the text beside the calls; citations and
thinking are left out. Source: the types of Cohere's SDK 7.3 and its documentation of 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from routing.config import ModelCard, ProviderSpec
from routing.providers.completion import ChunkWriter, completion, count, function_call, usage_of
from routing.providers.conversation import (
    Image,
    ModelTurn,
    answer_schema,
    chosen_function,
    functions_of,
    read_conversation,
    stops_of,
    text_of,
    token_limit,
)
from routing.providers.credentials import Credentials
from routing.providers.thinking import cohere_thinking
from routing.types import ChatChunk

_FINISH = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}
_LEAST_P, _MOST_P = 0.01, 0.99
"""The range of `p`; OpenAI's `top_p` reaches from 0 to 1."""
_INVALID_TOKEN = 498
"""Elsewhere this status means a lack of capacity."""


class CohereChat:
    """Implements `WireFormat`."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        return f"{_base(spec)}/v2/chat"

    def models_url(self, spec: ProviderSpec) -> str:
        return f"{_base(spec)}/v1/models?endpoint=chat&page_size=1000"

    def headers(self, spec: ProviderSpec) -> dict[str, str]:
        return {}

    def credentials(self, spec: ProviderSpec, key: str) -> dict[str, str] | Credentials:
        return {"Authorization": f"Bearer {key}"}

    def request(
        self, spec: ProviderSpec, card: ModelCard, body: Mapping[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        content = {
            "model": card.id,
            "messages": list(_messages(body["messages"], spec.name)),
            "stream": stream,
            "max_tokens": token_limit(body),
            "temperature": body.get("temperature"),
            "seed": body.get("seed"),
            "p": _p(body.get("top_p")),
            "stop_sequences": stops_of(body) or None,
            "response_format": _response_format(body),
            "thinking": cohere_thinking(card, body.get("reasoning_effort")),
            **_tools(body),
        }
        return {name: value for name, value in content.items() if value is not None}

    def error(self, data: dict[str, Any]) -> Any:
        """An answer that is nothing but words about the fault, or the end of a stream that tells of one."""
        delta = data.get("delta")
        said = data.get("message") if "type" not in data else None
        told = delta.get("error") if isinstance(delta, dict) else said
        return {"message": told} if told and isinstance(told, str) else data.get("error")

    def status(self, status: int, body: Any) -> int:
        return 401 if status == _INVALID_TOKEN else status

    def answer(self, provider: str, card: ModelCard, data: dict[str, Any]) -> dict[str, Any]:
        message = data["message"]
        text = "".join(each["text"] for each in message.get("content") or () if each["type"] == "text")
        calls = [_call(call) for call in message.get("tool_calls") or ()]
        return completion(
            answer_id=data.get("id"),
            model=card.id,
            text="\n\n".join(filter(None, (message.get("tool_plan"), text))),
            calls=calls,
            finish=_finish(data["finish_reason"]),
            usage=_usage(data.get("usage")),
        )

    def reader(self, provider: str, card: ModelCard) -> CohereReader:
        return CohereReader(card)

    def cards(self, listing: Any) -> list[ModelCard] | None:
        entries = listing.get("models") if isinstance(listing, dict) else None
        if not isinstance(entries, list):
            return None
        return [_card(entry) for entry in entries if entry.get("name") and "chat" in entry["endpoints"]]


class CohereReader:
    """Implements `EventReader`."""

    def __init__(self, card: ModelCard) -> None:
        self.thinking = self.ended = False
        self._writer = ChunkWriter(card.id)

    def read(self, event: ChatChunk) -> list[ChatChunk] | None:
        data = event.data
        delta = data.get("delta") or {}
        message = delta.get("message") or {}
        match data.get("type"):
            case "message-start":
                return [self._writer.begin(data.get("id"), None)]
            case "content-start" | "content-delta":
                return list(self._writer.text((message.get("content") or {}).get("text") or ""))
            case "tool-plan-delta":
                return list(self._writer.text(message.get("tool_plan") or ""))
            case "tool-call-start":
                return [self._writer.begin_call(data.get("index"), _call(message["tool_calls"], ""))]
            case "tool-call-delta":
                arguments = message["tool_calls"]["function"].get("arguments") or ""
                return list(self._writer.arguments(data.get("index"), arguments))
            case "tool-call-end":
                return list(self._writer.end_call(data.get("index")))
            case "message-end":
                return list(self._end(delta))
            case "content-end" | "citation-start" | "citation-end":
                return []
        return None

    def _end(self, delta: Mapping[str, Any]) -> Iterable[ChatChunk]:
        self.ended = True
        return self._writer.end(_finish(delta.get("finish_reason")), _usage(delta.get("usage")))


def _base(spec: ProviderSpec) -> str:
    return spec.base_url.rstrip("/").removesuffix("/v2")


def _messages(messages: Iterable[Mapping[str, Any]], provider: str) -> Iterator[dict[str, Any]]:
    conversation = read_conversation(messages, provider)
    if conversation.system:
        yield {"role": "system", "content": conversation.system}
    for turn in conversation.turns:
        if not isinstance(turn, ModelTurn):
            yield {"role": "user", "content": [_content(part) for part in turn.parts]}
            continue
        if turn.calls:
            said = {"tool_plan": turn.text} if turn.text else {}
            yield {"role": "assistant", "tool_calls": [_call(call) for call in turn.calls], **said}
        elif turn.text:
            yield {"role": "assistant", "content": turn.text}
        for call, parts in turn.results:
            yield {"role": "tool", "tool_call_id": call["id"], "content": text_of(parts)}


def _content(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": part.url}}


def _call(call: Mapping[str, Any], without: str = "{}") -> dict[str, Any]:
    """The call, in both directions the same; `without` stands for no arguments."""
    return function_call(call["id"], call["function"]["name"], call["function"].get("arguments") or without)


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    """The tools, and whether one must be called: which one can only be said by offering no other."""
    name, choice = chosen_function(body), body.get("tool_choice")
    offered = [each for each in functions_of(body) if name in (None, each["name"])]
    if not offered:
        return {}
    kept = ("name", "description", "parameters")
    tools = [{"type": "function", "function": {k: each[k] for k in kept if k in each}} for each in offered]
    if name is not None or choice == "required":
        return {"tools": tools, "tool_choice": "REQUIRED"}
    return {"tools": tools, "tool_choice": "NONE"} if choice == "none" else {"tools": tools}


def _p(top_p: float | None) -> float | None:
    return None if top_p is None else min(max(top_p, _LEAST_P), _MOST_P)


def _response_format(body: Mapping[str, Any]) -> dict[str, Any] | None:
    if schema := answer_schema(body):
        return {"type": "json_object", "json_schema": schema}
    form = body.get("response_format") or {}
    return {"type": "json_object"} if form.get("type") == "json_object" else None


def _finish(reason: Any) -> str:
    """`ERROR`, `TIMEOUT` and what may be added to them are no good ending."""
    return _FINISH.get(reason, "error")


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not usage:
        return None
    tokens = usage.get("tokens") or usage.get("billed_units") or {}
    return usage_of(
        tokens.get("input_tokens"), tokens.get("output_tokens"), cached=usage.get("cached_tokens")
    )


def _card(entry: Mapping[str, Any]) -> ModelCard:
    features = entry.get("features") or ()
    return ModelCard(
        id=entry["name"],
        context_window=count(entry.get("context_length")) or None,
        tools="tools" in features or None,
        vision="vision" in features or None,
    )
