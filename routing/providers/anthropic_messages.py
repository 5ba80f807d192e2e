"""Anthropic's Messages API, in its version of 2026-10-21.

That version takes no sampling parameters. Whether to think is left to the model, which is only told how much
effort to make. What it thought is neither passed on nor given back: as long as no budget is set for it, a
history need not hold any, as one from another model does not.
An answer that is JSON of no particular schema must be asked for in the prompt, as OpenAI demands too.
Source: the types of Anthropic's SDK 2.11 and the documentation of 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from routing.config import Effort, ModelCard, ProviderSpec
from routing.providers.completion import ChunkWriter, completion, count, function_call, model_name, usage_of
from routing.providers.conversation import (
    Image,
    ModelTurn,
    answer_schema,
    arguments_of,
    chosen_function,
    functions_of,
    read_conversation,
    stops_of,
    token_limit,
)
from routing.providers.credentials import Credentials
from routing.providers.thinking import EFFORTS, claude_effort
from routing.types import ChatChunk

API_VERSION = "2026-10-21"
DEFAULT_MAX_TOKENS = 16_384
"""The API demands a limit, which thinking counts towards. This is more than a model writes within the
router's usual 120 s (at some 100 tokens/s), and small enough to leave room in every window."""
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CREDIT_WORDS = re.compile(r"(?i)credit balance|spend limit|purchase credits")
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")


class AnthropicMessages:
    """Implements `WireFormat`."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        return f"{_base(spec)}/v1/messages"

    def models_url(self, spec: ProviderSpec) -> str:
        return f"{_base(spec)}/v1/models?limit=1000"

    def headers(self, spec: ProviderSpec) -> dict[str, str]:
        return {"anthropic-version": spec.api_version or API_VERSION}

    def credentials(self, spec: ProviderSpec, key: str) -> dict[str, str] | Credentials:
        return {"x-api-key": key}

    def request(
        self, spec: ProviderSpec, card: ModelCard, body: Mapping[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        conversation = read_conversation(body["messages"], spec.name)
        limit = token_limit(body) or DEFAULT_MAX_TOKENS
        content: dict[str, Any] = {
            "model": card.id,
            "max_tokens": min(limit, card.max_output or limit),
            "messages": list(_messages(conversation.turns)),
        }
        if conversation.system:
            content["system"] = conversation.system
        if tools := [_tool(function) for function in functions_of(body)]:
            content["tools"] = tools
            content["tool_choice"] = _tool_choice(body)
            # The next step of a task repeats this prompt: reading it from the cache costs a tenth.
            content["cache_control"] = {"type": "ephemeral"}
        if stops := stops_of(body):
            content["stop_sequences"] = stops
        if config := _output_config(card, body):
            content["output_config"] = config
        return {**content, "stream": True} if stream else content

    def error(self, data: dict[str, Any]) -> Any:
        error = data.get("error")
        return {**error, "code": error.get("type")} if isinstance(error, dict) else error

    def status(self, status: int, body: Any) -> int:
        """An empty account is told as a wrong request."""
        return 402 if status == 400 and _CREDIT_WORDS.search(str(body)) else status

    def answer(self, provider: str, card: ModelCard, data: dict[str, Any]) -> dict[str, Any]:
        blocks = data["content"]
        return completion(
            answer_id=data.get("id"),
            model=model_name(data.get("model"), card.id),
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            calls=[
                function_call(block["id"], block["name"], block["input"])
                for block in blocks
                if block["type"] == "tool_use"
            ],
            finish=_finish(data.get("stop_reason")),
            usage=_usage(data.get("usage") or {}),
        )

    def reader(self, provider: str, card: ModelCard) -> AnthropicReader:
        return AnthropicReader(card)

    def cards(self, listing: Any) -> list[ModelCard] | None:
        entries = listing.get("data") if isinstance(listing, dict) else None
        if not isinstance(entries, list):
            return None
        return [_card(entry) for entry in entries if isinstance(entry, dict) and _is_usable(entry)]


class AnthropicReader:
    """Implements `EventReader`."""

    def __init__(self, card: ModelCard) -> None:
        self.thinking = self.ended = False
        self._writer = ChunkWriter(card.id)
        self._usage: dict[str, Any] = {}
        self._told = False
        self._inputs: dict[int, str] = {}

    def read(self, event: ChatChunk) -> list[ChatChunk] | None:
        data = event.data
        match data.get("type"):
            case "message_start":
                message = data["message"]
                self._note_usage(message.get("usage"))
                return [self._writer.begin(message.get("id"), message.get("model"))]
            case "content_block_start":
                return [*self._usage_so_far(), *self._begin(data["index"], data["content_block"])]
            case "content_block_delta":
                return list(self._go_on(data["index"], data["delta"]))
            case "content_block_stop":
                self.thinking = False
                return list(self._writer.end_call(data["index"], self._inputs.get(data["index"], "{}")))
            case "message_delta":
                self._note_usage(data.get("usage"))
                return list(self._end(data["delta"].get("stop_reason")))
            case "message_stop":
                self.ended = True
                return []
        return None

    def _usage_so_far(self) -> Iterable[ChatChunk]:
        """What the prompt took, once the answer begins: if that breaks off, nothing more is told."""
        if self._usage and not self._told:
            self._told = True
            yield self._writer.usage(_usage(self._usage))

    def _begin(self, index: int, block: Mapping[str, Any]) -> Iterator[ChatChunk]:
        self.thinking = block["type"] in ("thinking", "redacted_thinking")
        if block["type"] == "text":
            yield from self._writer.text(block["text"])
        elif block["type"] == "tool_use":
            call = function_call(block["id"], block["name"], block.get("input") or {})
            self._inputs[index], call["function"]["arguments"] = call["function"]["arguments"], ""
            yield self._writer.begin_call(index, call)

    def _go_on(self, index: int, delta: Mapping[str, Any]) -> Iterable[ChatChunk]:
        if delta["type"] == "text_delta":
            return self._writer.text(delta["text"])
        if delta["type"] == "input_json_delta" and index in self._inputs:
            return self._writer.arguments(index, delta["partial_json"])
        return ()

    def _end(self, stop_reason: Any) -> Iterable[ChatChunk]:
        return self._writer.end(_finish(stop_reason), _usage(self._usage)) if stop_reason else ()

    def _note_usage(self, usage: Any) -> None:
        """The counts told last hold: they are sums, and what a later event leaves out stays."""
        self._usage |= {name: value for name, value in (usage or {}).items() if value is not None}


def _base(spec: ProviderSpec) -> str:
    return spec.base_url.rstrip("/").removesuffix("/v1")


def _messages(turns: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """User and model by turns; the results of calls stand before what the user says next."""
    said: list[dict[str, Any]] = []
    for turn in turns:
        if not isinstance(turn, ModelTurn):
            said += map(_block, turn.parts)
            continue
        if said:
            yield {"role": "user", "content": said}
        content = [_block(turn.text)] if turn.text else []
        content += [_tool_use(call) for call in turn.calls]
        if content:
            yield {"role": "assistant", "content": content}
        said = [_tool_result(call, parts) for call, parts in turn.results]
    if said:
        yield {"role": "user", "content": said}


def _block(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if part.media_type is None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    return {"type": "image", "source": source}


def _tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    name = call["function"]["name"]
    return {"type": "tool_use", "id": _id(call), "name": name, "input": arguments_of(call)}


def _tool_result(call: Mapping[str, Any], parts: Iterable[str | Image]) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(call)}
    content = [_block(part) for part in parts]
    return {**result, "content": content} if content else result


def _id(call: Mapping[str, Any]) -> str:
    """Ids of other providers may hold characters that are refused here."""
    return _NOT_IN_AN_ID.sub("_", call["id"])


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    tool = {
        "name": function["name"],
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    return {**tool, "description": function["description"]} if function.get("description") else tool


def _tool_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    name = chosen_function(body)
    choice = body.get("tool_choice")
    if name is not None:
        chosen: dict[str, Any] = {"type": "tool", "name": name}
    elif choice == "none":
        return {"type": "none"}
    else:
        chosen = {"type": "any" if choice == "required" else "auto"}
    if body.get("parallel_tool_calls") is False:
        chosen["disable_parallel_tool_use"] = True
    return chosen


def _output_config(card: ModelCard, body: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if schema := answer_schema(body):
        config["format"] = {"type": "json_schema", "schema": schema}
    if effort := claude_effort(card, body.get("reasoning_effort")):
        config["effort"] = effort
    return config


def _finish(stop_reason: Any) -> str:
    return _FINISH.get(stop_reason, "stop")


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """`input_tokens` leaves out what was read from and written to the cache; OpenAI's count has all in it."""
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    details = usage.get("output_tokens_details") or {}
    return usage_of(
        count(usage.get("input_tokens")) + count(read) + count(written),
        usage.get("output_tokens"),
        cached=count(read),
        cache_written=written,
        reasoning=details.get("thinking_tokens"),
    )


def _is_usable(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("id"), str) and bool(entry["id"]) and entry.get("lifecycle") != "retired"


def _card(entry: Mapping[str, Any]) -> ModelCard:
    capabilities = entry.get("capabilities") or {}
    return ModelCard(
        id=entry["id"],
        context_window=count(entry.get("max_input_tokens")) or None,
        max_output=count(entry.get("max_tokens")) or None,
        tools=True,
        vision=_supports(capabilities, "image_input"),
        json_schema=_supports(capabilities, "structured_outputs"),
        efforts=_efforts(capabilities.get("effort")),
    )


def _efforts(told: Any) -> tuple[Effort, ...] | None:
    if not isinstance(told, dict) or not isinstance(told.get("supported"), bool):
        return None
    return tuple(each for each in EFFORTS if told["supported"] and _supports(told, each))


def _supports(capabilities: Mapping[str, Any], name: str) -> bool | None:
    told = (capabilities.get(name) or {}).get("supported")
    return told if isinstance(told, bool) else None
