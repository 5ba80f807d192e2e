"""Google's Gemini API, `generateContent`.

Its OpenAI-compatible surface falls short in tool calls: it knows a smaller part of JSON schema, and newer
models refuse a call in the history that comes back without the signature of the thought behind it. It travels
in the call as `extra_content.google.thought_signature` (`routing.signatures`), as does that of a text.
Source: the types of google-genai 3.4 and Google's documentation of 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from routing.config import ModelCard, ProviderSpec
from routing.errors import ContentRefused
from routing.providers.completion import ChunkWriter, completion, count, function_call, model_name, usage_of
from routing.providers.conversation import (
    Image,
    ModelTurn,
    UserTurn,
    answer_schema,
    arguments_of,
    chosen_function,
    functions_of,
    read_conversation,
    stops_of,
    text_of,
    token_limit,
)
from routing.providers.credentials import Credentials
from routing.providers.gemini_schema import cleaned
from routing.providers.thinking import thinking_config
from routing.signatures import own, signed
from routing.types import ChatChunk

NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for calls whose signature is not known: made by another model, or not kept."""
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
_REFUSALS = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    }
)
_IMAGE_TYPES = frozenset({"gif", "heic", "heif", "png", "webp"})
_WRONG_PLACE = "User location is not supported"


class Gemini:
    """Implements `WireFormat`."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        model = quote(card.id.removeprefix("models/"), safe="")
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"{spec.base_url.rstrip('/')}/models/{model}:{method}"

    def models_url(self, spec: ProviderSpec) -> str:
        return f"{spec.base_url.rstrip('/')}/models?pageSize=1000"

    def headers(self, spec: ProviderSpec) -> dict[str, str]:
        return {}

    def credentials(self, spec: ProviderSpec, key: str) -> dict[str, str] | Credentials:
        return {"x-goog-api-key": key}

    def request(
        self, spec: ProviderSpec, card: ModelCard, body: Mapping[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        conversation = read_conversation(body["messages"], spec.name)
        reader = f"{spec.name}/{card.id}"
        content: dict[str, Any] = {"contents": list(_contents(conversation.turns, reader))}
        if conversation.system:
            content["systemInstruction"] = {"parts": [{"text": conversation.system}]}
        if functions := functions_of(body):
            content["tools"] = [{"functionDeclarations": [_declaration(each) for each in functions]}]
            content["toolConfig"] = {"functionCallingConfig": _calling(body)}
        if config := _generation_config(card, body):
            content["generationConfig"] = config
        return content

    def error(self, data: dict[str, Any]) -> Any:
        return data.get("error")

    def status(self, status: int, body: Any) -> int:
        """A key that may not be used from where we are is told as a wrong request."""
        return 403 if status == 400 and _WRONG_PLACE in str(body) else status

    def answer(self, provider: str, card: ModelCard, data: dict[str, Any]) -> dict[str, Any]:
        parts, reason = _candidate(provider, data)
        by = f"{provider}/{card.id}"
        calls = [_call(part, by) for part in parts if part.get("functionCall")]
        signatures = [extra for part in parts if (extra := _text_signature(part, by))]
        return completion(
            answer_id=data.get("responseId"),
            model=model_name(data.get("modelVersion"), card.id),
            text="".join(map(_text, parts)),
            calls=calls,
            finish=_finish(reason or "STOP", called=bool(calls)),
            usage=_usage(data.get("usageMetadata")),
            extra=signatures[-1] if signatures else None,
        )

    def reader(self, provider: str, card: ModelCard) -> GeminiReader:
        return GeminiReader(provider, card)

    def cards(self, listing: Any) -> list[ModelCard] | None:
        entries = listing.get("models") if isinstance(listing, dict) else None
        if not isinstance(entries, list):
            return None
        usable = (each for each in entries if "generateContent" in each["supportedGenerationMethods"])
        return [_card(entry) for entry in usable]


class GeminiReader:
    """Implements `EventReader`. Each event is an answer in small; calls come whole."""

    def __init__(self, provider: str, card: ModelCard) -> None:
        self.thinking = self.ended = False
        self._provider, self._name = provider, f"{provider}/{card.id}"
        self._writer = ChunkWriter(card.id)
        self._begun = False
        self._usage: dict[str, Any] | None = None
        self._calls = 0

    def read(self, event: ChatChunk) -> list[ChatChunk] | None:
        data = event.data
        self._usage = _usage(data.get("usageMetadata")) or self._usage
        parts, reason = _candidate(self._provider, data)
        if not parts and not reason:
            return None
        chunks = []
        if not self._begun:
            self._begun = True
            chunks.append(self._writer.begin(data.get("responseId"), data.get("modelVersion")))
            chunks += [self._writer.usage(self._usage)] if self._usage else []  # it may break off
        self.thinking = any(part.get("thought") for part in parts)
        for part in parts:
            chunks += self._part(part)
        if reason:
            chunks += self._writer.end(_finish(reason, called=self._writer.called), self._usage)
        return chunks

    def _part(self, part: Mapping[str, Any]) -> Iterable[ChatChunk]:
        if not part.get("functionCall"):
            extra = _text_signature(part, self._name)
            signature = [self._writer.signature(extra)] if extra else []
            return [*self._writer.text(_text(part)), *signature]
        self._calls += 1
        return [self._writer.begin_call(self._calls, _call(part, self._name))]


def _contents(turns: Iterable[UserTurn | ModelTurn], reader: str) -> Iterator[dict[str, Any]]:
    """User and model by turns; the results of calls are a turn of the user."""
    for turn in turns:
        if isinstance(turn, UserTurn):
            yield {"role": "user", "parts": [_part(part) for part in turn.parts]}
            continue
        parts: list[dict[str, Any]] = []
        if turn.text:
            signature = _signature(turn.message, reader)
            parts.append({"text": turn.text, **({"thoughtSignature": signature} if signature else {})})
        parts += [_function_call(call, number, reader) for number, call in enumerate(turn.calls)]
        if parts:
            yield {"role": "model", "parts": parts}
        if turn.results:
            yield {"role": "user", "parts": [_function_response(*result) for result in turn.results]}


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    if part.media_type is not None:
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    ending = urlsplit(part.url).path.rpartition(".")[2].lower()
    kind = ending if ending in _IMAGE_TYPES else "jpeg"
    return {"fileData": {"mimeType": f"image/{kind}", "fileUri": part.url}}


def _function_call(call: Mapping[str, Any], number: int, reader: str) -> dict[str, Any]:
    """An earlier call; of several at once only the first bears a signature."""
    asked = {"id": call["id"], "name": call["function"]["name"], "args": arguments_of(call)}
    signature = _signature(call, reader) or (NO_SIGNATURE if number == 0 else None)
    part: dict[str, Any] = {"functionCall": asked}
    return {**part, "thoughtSignature": signature} if signature else part


def _signature(holder: Mapping[str, Any], reader: str) -> str | None:
    """The signature of a message or call that the model `reader` gave itself."""
    extra = (own(holder, reader) or {}).get("google") or {}
    signature = extra.get("thought_signature")
    return signature if isinstance(signature, str) and signature else None


def _function_response(call: Mapping[str, Any], parts: Iterable[str | Image]) -> dict[str, Any]:
    response = {"output": text_of(parts)}
    return {"functionResponse": {"id": call["id"], "name": call["function"]["name"], "response": response}}


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    declaration = {"name": function["name"], "description": function.get("description") or function["name"]}
    parameters = function.get("parameters") or {}
    if not parameters.get("properties"):
        return declaration  # an object without properties may be refused
    return {**declaration, "parametersJsonSchema": cleaned(parameters)}


def _calling(body: Mapping[str, Any]) -> dict[str, Any]:
    if name := chosen_function(body):
        return {"mode": "ANY", "allowedFunctionNames": [name]}
    return {"mode": {"required": "ANY", "none": "NONE"}.get(body.get("tool_choice") or "", "AUTO")}


def _generation_config(card: ModelCard, body: Mapping[str, Any]) -> dict[str, Any]:
    config = {
        "maxOutputTokens": token_limit(body),
        "temperature": body.get("temperature"),
        "topP": body.get("top_p"),
        "seed": body.get("seed"),
        "presencePenalty": body.get("presence_penalty"),
        "frequencyPenalty": body.get("frequency_penalty"),
        "stopSequences": stops_of(body) or None,
        "thinkingConfig": thinking_config(card, body.get("reasoning_effort")),
        **_response_format(body),
    }
    return {name: value for name, value in config.items() if value is not None}


def _response_format(body: Mapping[str, Any]) -> dict[str, Any]:
    if schema := answer_schema(body):
        return {"responseMimeType": "application/json", "responseJsonSchema": cleaned(schema)}
    form = body.get("response_format") or {}
    return {"responseMimeType": "application/json"} if form.get("type") == "json_object" else {}


def _candidate(provider: str, data: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str | None]:
    """The parts of the first candidate, and why it ended. Raises ContentRefused for a blocked prompt."""
    feedback = data.get("promptFeedback") or {}
    if reason := feedback.get("blockReason"):
        raise ContentRefused(provider, f"{provider}'s content filter refuses this ({str(reason)[:40]})")
    candidates = data.get("candidates") or [{}]
    content = candidates[0].get("content") or {}
    return list(content.get("parts") or ()), candidates[0].get("finishReason")


def _text(part: Mapping[str, Any]) -> str:
    """What the part says; thoughts are not said."""
    return "" if part.get("thought") else part.get("text") or ""


def _text_signature(part: Mapping[str, Any], by: str) -> dict[str, Any] | None:
    signature = None if part.get("functionCall") else part.get("thoughtSignature")
    return signed({"google": {"thought_signature": signature}}, by) if signature else None


def _call(part: Mapping[str, Any], by: str) -> dict[str, Any]:
    """The call with its thought's signature; older models give no id, so it gets one."""
    asked = part["functionCall"]
    call = function_call(asked.get("id"), asked.get("name"), asked.get("args") or {})
    if signature := part.get("thoughtSignature"):
        call["extra_content"] = signed({"google": {"thought_signature": signature}}, by)
    return call


def _finish(reason: str, *, called: bool) -> str:
    """Malformed calls and whatever else is not known are no good ending."""
    if reason in _REFUSALS:
        return "content_filter"
    return "tool_calls" if called and reason == "STOP" else _FINISH.get(reason, "error")


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Thinking is charged as part of the answer, and is counted apart from it."""
    if not usage:
        return None
    thoughts = usage.get("thoughtsTokenCount")
    return usage_of(
        count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount")),
        count(usage.get("candidatesTokenCount")) + count(thoughts),
        cached=usage.get("cachedContentTokenCount"),
        reasoning=thoughts,
    )


def _card(entry: Mapping[str, Any]) -> ModelCard:
    return ModelCard(
        id=entry["name"].removeprefix("models/"),
        context_window=count(entry.get("inputTokenLimit")) or None,
        max_output=count(entry.get("outputTokenLimit")) or None,
    )
