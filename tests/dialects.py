"""Other makers' formats as their own SDKs know them: what a request may be, and what an answer looks like.

Requests are checked against the SDK's types with unknown keys forbidden, and answers are built from the
SDK's models, so that the tests of our translation do not only agree with ourselves. Every answer took 11
tokens in, 4 of them from a cache, and 7 out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import anthropic.types as claude
import cohere
import cohere.v2.types as cohere_v2
import openai.types.chat as openai_chat
from anthropic.types import message_create_params, raw_message_delta_event
from google.genai import types as google
from openai.types.chat import completion_create_params
from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model

from routing.config import ProviderSpec
from tests.upstream import Step
from tests.wire_upstream import Event, Exchange, WireUpstream

Call = tuple[str, str, Mapping[str, Any]]
"""Id, name and arguments."""

KEY = "sk-test-0123456789abcdef"
_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One format."""

    protocol: str
    base_path: str
    judge: Callable[[dict[str, Any]], object]
    """Raises ValueError or TypeError for a request that the SDK's types do not allow."""
    answer: Callable[[str, tuple[Call, ...], str], Exchange]
    """From text, calls and OpenAI's finish reason."""
    error: Callable[[str, str], Any]
    """The body of an error, from its kind and its message."""
    listing: tuple[str, Any]
    """Where the models are listed, and a list of one model `m`; empty if nowhere."""
    is_openai: bool = False
    """Whether it is OpenAI's own form: then nothing is translated."""

    def spec(self, upstream: WireUpstream, **fields: Any) -> ProviderSpec:
        fields = {"name": "acme", "api_key": KEY, "base_url": upstream.origin + self.base_path, **fields}
        return ProviderSpec(protocol=self.protocol, **fields)

    def says(self, text: str, *, finish: str = "stop") -> Step:
        return self.answer(text, (), finish).step()

    def calls(self, *calls: Call, text: str = "") -> Step:
        return self.answer(text, calls, "tool_calls").step()


def words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def plain(model: BaseModel) -> dict[str, Any]:
    """As the service writes it."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def halves(text: str) -> list[str]:
    """Both halves, cut anywhere: also amid an escaped character."""
    return [text[: len(text) // 2], text[len(text) // 2 :]]


# --- Anthropic ---------------------------------------------------------------------------------------------

_CLAUDE_REQUEST = create_model(
    "_CLAUDE_REQUEST",
    __config__=_STRICT,
    body=(message_create_params.MessageCreateParamsNonStreaming, ...),
)
_CLAUDE_STREAM = create_model(
    "_CLAUDE_STREAM", __config__=_STRICT, body=(message_create_params.MessageCreateParamsStreaming, ...)
)
_CLAUDE_BLOCKS = create_model(
    "_CLAUDE_BLOCKS",
    __config__=_STRICT,
    blocks=(
        list[
            claude.TextBlockParam
            | claude.ImageBlockParam
            | claude.ToolUseBlockParam
            | claude.ToolResultBlockParam
        ],
        ...,
    ),
)
_CLAUDE_STOPS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def _judge_claude(body: dict[str, Any]) -> None:
    """Its history too: results stand first in the message behind their calls, each once."""
    model = _CLAUDE_STREAM if body.get("stream") else _CLAUDE_REQUEST
    model.model_validate({"body": body}).model_dump(mode="json")  # the SDK's iterables are checked lazily
    asked: list[str] = []
    for message in body["messages"]:
        blocks = [{"type": "text", "text": message["content"]}]
        if isinstance(message["content"], list):
            blocks = message["content"]
            _CLAUDE_BLOCKS.model_validate({"blocks": blocks}).model_dump(mode="json")
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            raise ValueError("text content blocks must be non-empty")
        results = [block["tool_use_id"] for block in blocks[: len(asked)] if block["type"] == "tool_result"]
        if sorted(results) != sorted(asked):
            raise ValueError(f"calls {asked} are answered by {results}")
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if not all(re.fullmatch(r"[a-zA-Z0-9_-]+", each) for each in asked):
            raise ValueError("tool_use ids have characters that are not allowed")


def _claude_answer(text: str, calls: tuple[Call, ...], finish: str) -> Exchange:
    content: list[claude.ContentBlock] = [
        claude.ThinkingBlock(type="thinking", thinking="", signature="c2ln")
    ]
    if text:
        content.append(claude.TextBlock(type="text", text=text))
    for call_id, name, arguments in calls:
        content.append(claude.ToolUseBlock(type="tool_use", id=call_id, name=name, input=dict(arguments)))
    whole = claude.Message(
        id="msg_1",
        type="message",
        role="assistant",
        model="m",
        content=content,
        stop_reason=_CLAUDE_STOPS.get(finish, "tool_use"),
        usage=claude.Usage(
            input_tokens=5, cache_read_input_tokens=4, cache_creation_input_tokens=2, output_tokens=7
        ),
    )
    return Exchange(plain(whole), [(each["type"], each) for each in _claude_events(whole)])


def _claude_events(whole: claude.Message) -> Iterator[dict[str, Any]]:
    usage = whole.usage.model_copy(update={"output_tokens": 1})
    begun = whole.model_copy(update={"content": [], "stop_reason": None, "usage": usage})
    yield plain(claude.RawMessageStartEvent(type="message_start", message=begun))
    yield {"type": "ping"}
    for index, block in enumerate(whole.content):
        yield from _claude_block(index, block)
    yield plain(
        claude.RawMessageDeltaEvent(
            type="message_delta",
            delta=raw_message_delta_event.Delta(stop_reason=whole.stop_reason),
            usage=claude.MessageDeltaUsage(output_tokens=7),
        )
    )
    yield plain(claude.RawMessageStopEvent(type="message_stop"))


def _claude_block(index: int, block: claude.ContentBlock) -> Iterator[dict[str, Any]]:
    empty: Any
    deltas: list[Any]
    if isinstance(block, claude.TextBlock):
        empty = {"text": ""}
        deltas = [claude.TextDelta(type="text_delta", text=each) for each in words(block.text)]
    elif isinstance(block, claude.ToolUseBlock):
        empty = {"input": {}}
        written = json.dumps(block.input, ensure_ascii=False, indent=1) if block.input else ""
        pieces = ["", *halves(written)]
        deltas = [claude.InputJSONDelta(type="input_json_delta", partial_json=each) for each in pieces]
    else:
        empty = {"signature": ""}
        deltas = [claude.SignatureDelta(type="signature_delta", signature="c2ln")]
    start = block.model_copy(update=empty)
    yield plain(
        claude.RawContentBlockStartEvent(type="content_block_start", index=index, content_block=start)
    )
    for delta in deltas:
        yield plain(claude.RawContentBlockDeltaEvent(type="content_block_delta", index=index, delta=delta))
    yield plain(claude.RawContentBlockStopEvent(type="content_block_stop", index=index))


_CLAUDE_LISTED = claude.ModelInfo.model_validate(
    {
        "id": "m",
        "type": "model",
        "display_name": "M",
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 1000,
        "max_tokens": 100,
    }
)

ANTHROPIC = Dialect(
    "anthropic-messages",
    "",
    _judge_claude,
    _claude_answer,
    lambda kind, message: {"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"},
    ("/v1/models", {"data": [plain(_CLAUDE_LISTED)], "has_more": False}),
)


# --- Cohere ------------------------------------------------------------------------------------------------


class _CohereRequest(BaseModel):
    """The parameters of the SDK's `V2Client.chat`, which has no type for them."""

    model_config = _STRICT

    model: str
    messages: list[cohere.ChatMessageV2]
    stream: bool
    tools: list[cohere.ToolV2] | None = None
    tool_choice: cohere_v2.V2ChatRequestToolChoice | None = None
    response_format: cohere.ResponseFormatV2 | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    p: float | None = None
    stop_sequences: list[str] | None = None
    thinking: cohere.Thinking | None = None


def _judge_cohere(body: dict[str, Any]) -> None:
    _refuse_extras(_CohereRequest.model_validate(body))
    if not 0.01 <= body.get("p", 0.5) <= 0.99:
        raise ValueError("invalid p")
    if body.get("tool_choice") not in (None, "REQUIRED", "NONE"):
        raise ValueError("invalid tool_choice")


def _refuse_extras(value: Any) -> None:
    """The SDK's models keep unknown keys; the service refuses them."""
    if isinstance(value, BaseModel):
        if value.__pydantic_extra__:
            raise ValueError(f"unknown fields: {', '.join(value.__pydantic_extra__)}")
        value = [each for _, each in value]
    for each in value if isinstance(value, list) else ():
        _refuse_extras(each)


_COHERE_FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


def _cohere_call(call: Call, arguments: str) -> cohere.ToolCallV2:
    function = cohere.ToolCallV2Function(name=call[1], arguments=arguments)
    return cohere.ToolCallV2(id=call[0], type="function", function=function)


def _cohere_arguments(call: Call) -> str:
    return json.dumps(call[2], ensure_ascii=False, indent=1) if call[2] else ""


def _cohere_answer(text: str, calls: tuple[Call, ...], finish: str) -> Exchange:
    usage = cohere.Usage(tokens=cohere.UsageTokens(input_tokens=11, output_tokens=7), cached_tokens=4)
    message = cohere.AssistantMessageResponse(
        content=None if calls or not text else [cohere.TextAssistantMessageResponseContentItem(text=text)],
        tool_plan=text if calls else None,
        tool_calls=[_cohere_call(call, _cohere_arguments(call)) for call in calls] or None,
    )
    whole = cohere.V2ChatResponse(
        id="c-1", finish_reason=_COHERE_FINISHES.get(finish, "ERROR"), message=message, usage=usage
    )
    events = list(_cohere_events(text, calls, whole))
    return Exchange(plain(whole), [(each["type"], each) for each in events])


def _cohere_events(
    text: str, calls: tuple[Call, ...], whole: cohere.V2ChatResponse
) -> Iterator[dict[str, Any]]:
    yield _cohere_event("MessageStart", id="c-1", delta={"message": {"role": "assistant"}})
    if text and not calls:
        start = {"message": {"content": {"type": "text", "text": ""}}}
        yield _cohere_event("ContentStart", index=0, delta=start)
    for word in words(text):
        if calls:
            yield _cohere_event("ToolPlanDelta", delta={"message": {"tool_plan": word}})
        else:
            yield _cohere_event("ContentDelta", index=0, delta={"message": {"content": {"text": word}}})
    if text and not calls:
        yield _cohere_event("ContentEnd", index=0)
    for index, call in enumerate(calls):
        begun = {"message": {"tool_calls": plain(_cohere_call(call, ""))}}
        yield _cohere_event("ToolCallStart", index=index, delta=begun)
        for piece in halves(_cohere_arguments(call)):
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield _cohere_event("ToolCallDelta", index=index, delta=delta)
        yield _cohere_event("ToolCallEnd", index=index)
    ending = {"finish_reason": whole.finish_reason, "usage": plain(whole.usage or cohere.Usage())}
    yield _cohere_event("MessageEnd", id="c-1", delta=ending)


def _cohere_event(kind: str, **fields: Any) -> dict[str, Any]:
    model = getattr(cohere, f"{kind}V2ChatStreamResponse").model_validate(fields)
    _refuse_extras(model)
    return plain(model)


_COHERE_LISTED = cohere.ListModelsResponse(
    models=[
        cohere.GetModelResponse(name="m", endpoints=["chat"], context_length=1000, features=["tools"]),
        cohere.GetModelResponse(name="embedder", endpoints=["embed"]),
    ]
)

COHERE = Dialect(
    "cohere-chat",
    "/v2",
    _judge_cohere,
    _cohere_answer,
    lambda _kind, message: {"id": "e-1", "message": message},
    ("/v1/models", plain(_COHERE_LISTED)),
)


# --- Gemini ------------------------------------------------------------------------------------------------


class _GeminiRequest(BaseModel):
    """The body of `generateContent`, as the SDK puts it together from these."""

    model_config = _STRICT

    contents: list[google.Content]
    systemInstruction: google.Content | None = None
    tools: list[google.Tool] | None = None
    toolConfig: google.ToolConfig | None = None
    generationConfig: google.GenerationConfig | None = None


def _judge_gemini(body: dict[str, Any]) -> None:
    """Its history too: every call bears a signature where it must, and has its one answer right behind it."""
    request = _GeminiRequest.model_validate(body)
    asked: list[tuple[str | None, str | None]] = []
    for content in request.contents:
        parts = content.parts or []
        if not parts:
            raise ValueError("a content without parts")
        answers = [(r.id, r.name) for part in parts if (r := part.function_response)]
        if answers != asked:
            raise ValueError(f"calls {asked} are answered by {answers}")
        asked = [(c.id, c.name) for part in parts if (c := part.function_call)]
        called = [part for part in parts if part.function_call]
        if called and not called[0].thought_signature:
            raise ValueError("Function call is missing a thought_signature in functionCall parts")
    for tool in request.tools or ():
        for function in tool.function_declarations or ():
            judge_gemini_schema(function.parameters_json_schema)


def judge_gemini_schema(schema: Any) -> None:
    """Only the keywords that google-genai documents for `response_json_schema`."""
    documented = google.GenerateContentConfig.model_fields["response_json_schema"].description or ""
    known = {*re.findall(r"`(\$?\w+)`", documented)} - {"response_schema", "response_mime_type"}
    for name, value in (schema or {}).items():
        if name not in known:
            raise ValueError(f"Unknown name {name!r}")
        inner = value.values() if name in ("properties", "$defs") else value
        for each in inner if name in ("properties", "$defs", "anyOf", "oneOf", "prefixItems") else ():
            judge_gemini_schema(each)
        if name == "items":
            judge_gemini_schema(value)


_GEMINI_FINISHES = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


def _gemini_answer(text: str, calls: tuple[Call, ...], finish: str) -> Exchange:
    parts = [google.Part(text=text)] if text else []
    for call_id, name, arguments in calls:
        call = google.FunctionCall(id=call_id or None, name=name, args=dict(arguments))
        parts.append(google.Part(function_call=call, thought_signature=b"signed" if len(parts) < 2 else None))
    reason = _GEMINI_FINISHES.get(finish, "OTHER")
    pieces = [google.Part(text=each) for each in words(text)] + [p for p in parts if p.function_call]
    events: list[Event] = [("", _gemini_response([piece], None)) for piece in pieces[:-1]]
    events.append(("", _gemini_response(pieces[-1:], reason)))
    thought = google.Part(text="let me think", thought=True)
    return Exchange(
        _gemini_response([thought, *parts], reason), [("", _gemini_response([thought], None)), *events]
    )


def _gemini_response(parts: list[google.Part], reason: str | None) -> dict[str, Any]:
    usage = google.GenerateContentResponseUsageMetadata(
        prompt_token_count=11,
        cached_content_token_count=4,
        candidates_token_count=5,
        thoughts_token_count=2,
        total_token_count=18,
    )
    candidate = google.Candidate(
        index=0,
        content=google.Content(role="model", parts=parts) if parts else None,
        finish_reason=google.FinishReason(reason) if reason else None,
    )
    return plain(
        google.GenerateContentResponse(
            candidates=[candidate], usage_metadata=usage, model_version="m", response_id="r-1"
        )
    )


GEMINI = Dialect(
    "gemini",
    "/v1beta",
    _judge_gemini,
    _gemini_answer,
    lambda kind, message: {"error": {"code": 400, "message": message, "status": kind}},
    (
        "/v1beta/models",
        {
            "models": [
                {
                    "name": "models/m",
                    "inputTokenLimit": 1000,
                    "outputTokenLimit": 100,
                    "supportedGenerationMethods": ["generateContent", "countTokens"],
                },
                {"name": "models/embedder", "supportedGenerationMethods": ["embedContent"]},
            ]
        },
    ),
)


# --- Azure -------------------------------------------------------------------------------------------------

_OPENAI_REQUEST = create_model(
    "_OPENAI_REQUEST",
    __config__=_STRICT,
    body=(completion_create_params.CompletionCreateParamsNonStreaming, ...),
)
_OPENAI_STREAM = create_model(
    "_OPENAI_STREAM", __config__=_STRICT, body=(completion_create_params.CompletionCreateParamsStreaming, ...)
)


def _judge_openai(body: dict[str, Any]) -> None:
    model = _OPENAI_STREAM if body.get("stream") else _OPENAI_REQUEST
    model.model_validate({"body": body}).model_dump(mode="json")


def _openai_answer(text: str, calls: tuple[Call, ...], finish: str) -> Exchange:
    frame = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "m"}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    usage["prompt_tokens_details"] = {"cached_tokens": 4}  # type: ignore[assignment]
    wanted = [
        {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for call_id, name, arguments in calls
    ]
    message = {"role": "assistant", "content": text or None, "tool_calls": wanted or None, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    whole = openai_chat.ChatCompletion.model_validate(
        {**frame, "object": "chat.completion", "choices": [choice], "usage": usage}
    )

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> Event:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        data = {**frame, "object": "chat.completion.chunk", "choices": choices}
        return "", openai_chat.ChatCompletionChunk.model_validate(data).model_dump(exclude_unset=True)

    events = [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": each}) for each in words(text)),
    ]
    for index, each in enumerate(wanted):
        events.append(chunk({"tool_calls": [{"index": index, **each}]}))
    events.append(chunk({}, finish))
    last = {**frame, "object": "chat.completion.chunk", "choices": [], "usage": usage}
    events += [("", plain(openai_chat.ChatCompletionChunk.model_validate(last))), ("", "[DONE]")]
    return Exchange(plain(whole), events)


AZURE = Dialect(
    "azure-openai",
    "",
    _judge_openai,
    _openai_answer,
    lambda kind, message: {"error": {"message": message, "type": kind, "code": kind}},
    ("", None),
    is_openai=True,
)

OPENAI = replace(
    AZURE,
    protocol="openai-chat",
    base_path="/v1",
    listing=("/v1/models", {"object": "list", "data": [{"id": "m", "context_length": 1000}]}),
)
VERTEX = replace(
    GEMINI, protocol="vertex-ai", base_path="/v1/projects/p/locations/europe-west4", listing=("", None)
)

CHUNK = TypeAdapter(openai_chat.ChatCompletionChunk)
COMPLETION = TypeAdapter(openai_chat.ChatCompletion)
DIALECTS = {each.protocol: each for each in (ANTHROPIC, COHERE, GEMINI, VERTEX, OPENAI, AZURE)}
