"""What every wire format promises, over real HTTP, judged by the SDKs of those who made the formats."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import cohere
import httpx
import openai
import orjson
import pytest
from google import genai
from google.genai.types import HttpOptions
from google.oauth2.credentials import Credentials
from pydantic import SecretStr

from routing.config import ModelCard, ProviderSpec, RoutingConfig
from routing.errors import (
    ContentRefused,
    ContextTooLong,
    KeyRefused,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from routing.fields import OPENAI_CHAT_FIELDS, forwarded
from routing.pool import ProviderPool
from routing.providers import telling
from routing.providers.base import Provider
from routing.providers.formats import FORMATS
from routing.providers.formats import http_provider as make_provider
from routing.router import ModelRouter
from routing.transport import open_client
from routing.types import ChatChunk, ChatRequest
from tests.dialects import CHUNK, COMPLETION, DIALECTS, KEY, Call, Dialect
from tests.upstream import Step, empty, flood, gzip_bomb, hang, html, raw, redirect
from tests.wire_upstream import WireUpstream, refusal, written_event

CARD = ModelCard(id="m")
USER = {"role": "user", "content": "say hello"}
BODY: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Be brief."}, USER],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "greet",
                "description": "Greet somebody.",
                "strict": True,
                "parameters": {
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "type": "object",
                    "properties": {
                        "whom": {
                            "type": "string",
                            "minLength": 1,
                            "default": "you",
                            "description": "A name.",
                        },
                        "mood": {"anyOf": [{"const": "merry"}, {"type": "null"}], "title": "Mood"},
                    },
                    "required": ["whom"],
                    "additionalProperties": False,
                },
            },
        }
    ],
}
GREET: Call = ("call_1", "greet", {"whom": 'the "world"\n😀', "n": 12.5})
AGAIN: Call = ("call_2", "greet", {})
PIXEL = "iVBORw0KGgo="

each_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())


def run(spec: ProviderSpec, work: Callable[[Provider], Awaitable[Any]]) -> Any:
    async def scenario() -> Any:
        provider = make_provider(spec, open_client())
        try:
            return await work(provider)
        finally:
            await provider.aclose()

    return asyncio.run(scenario())


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def whole(
    dialect: Dialect, upstream: WireUpstream, body: dict[str, Any] = BODY, *, seconds: float = 5.0
) -> dict[str, Any]:
    async def work(provider: Provider) -> dict[str, Any]:
        answer = await provider.complete(CARD, body, soon(seconds))
        COMPLETION.validate_python(answer)
        return answer

    answer: dict[str, Any] = run(dialect.spec(upstream), work)
    return answer


def streamed(
    dialect: Dialect, upstream: WireUpstream, body: dict[str, Any] = BODY, *, seconds: float = 5.0
) -> list[ChatChunk]:
    async def work(provider: Provider) -> list[ChatChunk]:
        chunks = [chunk async for chunk in provider.stream(CARD, body, soon(seconds))]
        for chunk in chunks:
            CHUNK.validate_python(chunk.data)
            assert orjson.loads(chunk.raw) == chunk.data
        return chunks

    chunks: list[ChatChunk] = run(dialect.spec(upstream), work)
    return chunks


each_translation = pytest.mark.parametrize(
    "dialect",
    [each for each in DIALECTS.values() if not each.is_openai],
    ids=lambda d: d.protocol,
)
"""OpenAI's requests pass as they are, and the service judges them."""
ASK = pytest.mark.parametrize("ask", [whole, streamed])
Ask = Callable[..., Any]


def text_of(chunks: list[ChatChunk]) -> str:
    return "".join(chunk.delta.get("content") or "" for chunk in chunks)


def calls_of(chunks: list[ChatChunk]) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the streamed calls."""
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for piece in chunk.delta.get("tool_calls") or ():
            call = calls.setdefault(piece["index"], ["", "", ""])
            call[0] += piece.get("id") or ""
            call[1] += piece["function"].get("name") or ""
            call[2] += piece["function"].get("arguments") or ""
    return [(call[0], call[1], call[2]) for _, call in sorted(calls.items())]


def finish_of(chunks: list[ChatChunk]) -> list[str]:
    return [c["finish_reason"] for chunk in chunks for c in chunk.data["choices"] if c["finish_reason"]]


def upstream_for(dialect: Dialect, *steps: Step, **fields: Any) -> WireUpstream:
    return WireUpstream(steps, judge=dialect.judge, **fields)


def test_each_protocol_has_its_format_and_is_tried_here() -> None:
    assert set(FORMATS) == {"replicate", *DIALECTS}  # that one has nothing of what is tried here


@each_dialect
def test_a_whole_and_a_streamed_answer_with_its_usage(dialect: Dialect) -> None:
    text = "grüß dich,  du\nWelt 😀"
    with upstream_for(dialect, dialect.says(text), dialect.says(text)) as upstream:
        answer, chunks = whole(dialect, upstream), streamed(dialect, upstream)
    assert not upstream.refusals
    assert answer["choices"][0]["message"]["content"] == text_of(chunks) == text
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert finish_of(chunks) == ["stop"]
    *early, usage = [chunk.data["usage"] for chunk in chunks if chunk.data.get("usage")]
    assert answer["usage"] == usage
    assert all(each["prompt_tokens"] == 11 for each in early)  # what the prompt took may be known before
    assert usage["prompt_tokens"] == 11 and usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert usage["completion_tokens"] == 7 and usage["total_tokens"] == 18


@each_dialect
def test_tool_calls_whole_and_streamed(dialect: Dialect) -> None:
    step = dialect.calls(GREET, AGAIN, text="I greet.")
    with upstream_for(dialect, step, step) as upstream:
        answer, chunks = whole(dialect, upstream), streamed(dialect, upstream)
    message = answer["choices"][0]["message"]
    assert message["content"] == text_of(chunks) == "I greet."
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert finish_of(chunks) == ["tool_calls"]
    in_whole = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in message["tool_calls"]]
    for calls in (in_whole, calls_of(chunks)):
        assert [call[:2] for call in calls] == [GREET[:2], AGAIN[:2]]
        assert [json.loads(call[2]) for call in calls] == [GREET[2], AGAIN[2]]


@each_dialect
@pytest.mark.parametrize(("finish", "expected"), [("length", "length"), ("stop", "stop")])
def test_why_an_answer_ends(dialect: Dialect, finish: str, expected: str) -> None:
    with upstream_for(dialect, *[dialect.says("half", finish=finish)] * 2) as upstream:
        assert whole(dialect, upstream)["choices"][0]["finish_reason"] == expected
        assert finish_of(streamed(dialect, upstream)) == [expected]


@each_dialect
def test_a_long_history_is_one_that_the_maker_takes(dialect: Dialect) -> None:
    """Parallel calls answered out of order, empty texts, images, a second system message."""
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for call_id, name, arguments in (GREET, AGAIN)
    ]
    url = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    inline = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    body = {
        **BODY,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "look"}, url, inline]},
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "call_2", "content": "second"},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "first"}]},
            {"role": "assistant", "content": None, "tool_calls": [{**calls[0], "id": "call_3"}]},
            {"role": "tool", "tool_call_id": "call_3", "content": ""},
            {"role": "developer", "content": "Be merry."},
            {"role": "user", "content": "and now?"},
            {"role": "assistant", "content": "done"},
            {"role": "user", "content": "thanks"},
        ],
        "max_tokens": 50,
        "stop": "END",
        "tool_choice": {"type": "function", "function": {"name": "greet"}},
        "temperature": 0.2,
        "top_p": 1,
        "seed": 7,
    }
    before = json.dumps(body)
    sendable, _ = forwarded(body, dialect.spec(WireUpstream()).unsupported)
    with upstream_for(dialect, *[dialect.says("ok")] * 2) as upstream:
        whole(dialect, upstream, sendable)
        streamed(dialect, upstream, body)
    assert not upstream.refusals
    assert json.dumps(body) == before
    sent = json.dumps(upstream.bodies[0])
    assert all(part in sent for part in ("Be brief.", "Be merry.", "first", "second", PIXEL, "a.png", "END"))
    assert {**upstream.bodies[1], "stream": None, "stream_options": None} == {
        **upstream.bodies[0],
        "stream": None,
        "stream_options": None,
    }


@each_dialect
@pytest.mark.parametrize("choice", ["auto", "required", "none"])
def test_tool_choice_and_answer_schema_are_what_the_maker_takes(dialect: Dialect, choice: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with upstream_for(dialect, *[dialect.says("{}")] * 3) as upstream:
        whole(dialect, upstream, {**BODY, "tool_choice": choice, "parallel_tool_calls": False})
        whole(dialect, upstream, {"messages": [USER], "response_format": form})
        whole(dialect, upstream, {"messages": [USER], "response_format": {"type": "json_object"}})
    assert not upstream.refusals
    assert '"a": {"type": "integer"}' in json.dumps(upstream.bodies[1])


@each_dialect
def test_what_the_format_has_no_words_for_is_named(dialect: Dialect) -> None:
    body = {**BODY, "logit_bias": {"1": 2}, "store": True, "n": 1, "api_base": "http://evil"}
    with upstream_for(dialect, dialect.says("ok")) as upstream:
        dropped = dropped_of(dialect.spec(upstream, models=(CARD,)), body)
    assert dropped == (("api_base",) if dialect.is_openai else ("api_base", "logit_bias", "n", "store"))
    assert not upstream.refusals


@each_dialect
def test_what_the_model_does_not_do_is_left_to_it_and_named(dialect: Dialect) -> None:
    card = CARD.model_copy(update={"forced_tools": False, "efforts": ()})
    body = {**BODY, "tool_choice": "required", "reasoning_effort": "high"}
    with upstream_for(dialect, *[dialect.says("ok")] * 2) as upstream:
        dropped = dropped_of(dialect.spec(upstream, models=(card,)), body)
        assert dropped_of(dialect.spec(upstream, models=(card,)), BODY) == ()
    assert dropped == ("reasoning_effort", "tool_choice")
    assert upstream.bodies[0] == upstream.bodies[1] and not upstream.refusals


def dropped_of(spec: ProviderSpec, body: dict[str, Any]) -> tuple[str, ...]:
    """What the router says that it left out."""

    async def scenario() -> tuple[str, ...]:
        pool = ProviderPool([make_provider(spec, open_client())])
        router = ModelRouter(pool, config=RoutingConfig(providers=(spec,)))
        answer = await router.complete(ChatRequest(body))
        await pool.aclose()
        return answer.decision.dropped

    return asyncio.run(scenario())


@each_dialect
def test_fields_that_are_taken_reach_the_maker(dialect: Dialect) -> None:
    """Each field that is not named as dropped changes what is sent."""
    values: dict[str, Any] = {
        "max_tokens": 9,
        "max_completion_tokens": 9,
        "stop": ["x"],
        "temperature": 0.5,
        "top_p": 0.5,
        "seed": 5,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "parallel_tool_calls": False,
        "tool_choice": "required",
        "reasoning_effort": "high",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
    }
    spec = dialect.spec(WireUpstream())
    wire = FORMATS[spec.protocol]()
    plain = wire.request(spec, CARD, BODY, stream=False)
    for name in OPENAI_CHAT_FIELDS - spec.unsupported - {"messages", "tools", "stream_options"}:
        if name in values:
            assert wire.request(spec, CARD, {**BODY, name: values[name]}, stream=False) != plain, name
        else:
            assert dialect.is_openai, name


@each_dialect
def test_the_key_travels_in_a_header_only(dialect: Dialect) -> None:
    with upstream_for(dialect, dialect.says("a"), dialect.says("a")) as upstream:
        whole(dialect, upstream)
        streamed(dialect, upstream)
    for request, path in zip(upstream.requests, upstream.paths, strict=True):
        assert [name for name, value in request.headers.items() if KEY in value] != []
        assert KEY not in path and KEY not in json.dumps(request.body)


@ASK
@each_dialect
@pytest.mark.parametrize(
    ("status", "kind", "message", "error"),
    [
        (401, "authentication_error", f"invalid x-api-key {KEY}", KeyRefused),
        (402, "billing_error", "no credit", KeyRefused),
        (403, "permission_error", "not for you", KeyRefused),
        (404, "not_found_error", "no such model", KeyRefused),
        (408, "timeout", "too slow", ProviderTimeout),
        (400, "invalid_request_error", "the roles are wrong", RequestRejected),
        (422, "unprocessable", "seed must be a number", RequestRejected),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", ContextTooLong),
        (400, "x", "too many tokens: the prompt cannot exceed 128000 tokens", ContextTooLong),
        (400, "x", "The input token count (9) exceeds the maximum number of tokens", ContextTooLong),
        (413, "request_too_large", "Request exceeds the maximum size", ContextTooLong),
        (500, "api_error", "internal", ProviderUnavailable),
        (503, "UNAVAILABLE", "The model is overloaded.", ProviderUnavailable),
        (504, "DEADLINE_EXCEEDED", "late", ProviderTimeout),
        (529, "overloaded_error", "Overloaded", ProviderUnavailable),
    ],
)
def test_refusals_become_errors_of_ours(
    dialect: Dialect, ask: Ask, status: int, kind: str, message: str, error: type[ProviderError]
) -> None:
    with (
        upstream_for(dialect, refusal(status, dialect.error(kind, message))) as upstream,
        pytest.raises(error) as raised,
    ):
        ask(dialect, upstream)
    assert type(raised.value) is error
    assert raised.value.status == status
    assert KEY not in str(raised.value)
    assert message.split(" sk-")[0] in str(raised.value)


@ASK
@each_dialect
def test_rate_limits_say_how_long(dialect: Dialect, ask: Ask) -> None:
    step = refusal(429, dialect.error("rate_limit_error", "slow down"), **{"Retry-After": "7"})
    with upstream_for(dialect, step) as upstream, pytest.raises(RateLimited) as raised:
        ask(dialect, upstream)
    assert raised.value.retry_after == 7


@ASK
@each_dialect
@pytest.mark.parametrize(
    "step",
    [
        empty(),
        html(),
        raw(b"[]"),
        raw(b"{}"),
        raw(b'{"candidates": 5, "content": 5, "message": {"content": 5}, "choices": 5, "delta": 5}'),
        raw(b'{"content": [5], "candidates": [5], "message": 5, "choices": [5]}'),
        raw(b'{"content": [{"type": "tool_use"}], "candidates": [{"content": {"parts": [5]}}]}'),
        raw(b'{"content": [], "stop_reason": "end_turn", "candidates": [{"finishReason": "STOP"}]}'),
        raw(b'data: {"type": "content_block_start"}\n\n', content_type="text/event-stream"),
        raw(b'data: {"type": "message-end", "candidates": [5]}\n\n', content_type="text/event-stream"),
        raw(b"data: {}\n\ndata: 5\n\ndata: [DONE]\n\n", content_type="text/event-stream"),
        raw(b": nothing\n\n", content_type="text/event-stream"),
        redirect("http://127.0.0.1:9/elsewhere"),
        gzip_bomb(),
    ],
)
def test_nonsense_is_no_answer(dialect: Dialect, ask: Ask, step: Step) -> None:
    with upstream_for(dialect, step) as upstream:
        with pytest.raises(ProviderUnavailable):
            ask(dialect, upstream)
        assert len(upstream.requests) == 1


@each_dialect
def test_an_answer_without_end_is_cut_off(dialect: Dialect) -> None:
    with upstream_for(dialect, flood()) as upstream, pytest.raises(ProviderUnavailable, match="larger than"):
        whole(dialect, upstream, seconds=20)


@each_dialect
def test_one_bad_line_does_not_end_a_stream(dialect: Dialect) -> None:
    async def read(provider: Provider) -> list[ChatChunk]:
        return [chunk async for chunk in provider.stream(CARD, BODY, soon())]

    novel = b'event: novel\ndata: {"type": "novel", "choices": []}\n\n'
    exchange = dialect.answer("whole despite it all", (), "stop")
    step = exchange.step(insert=b'data: {"type": "x\xff\n\n: comment\n\n' + novel)
    with upstream_for(dialect, step) as upstream:
        assert text_of(run(dialect.spec(upstream), read)) == "whole despite it all"


@each_dialect
def test_a_call_that_may_lack_a_part_is_no_whole_one(dialect: Dialect) -> None:
    exchange = dialect.answer("I greet.", (GREET, AGAIN), "tool_calls")
    for bad in (b'data: {"type": "x\xff\n\n', b'data: {"type": "content_block_delta", "choices": 5}\n\n'):
        if b"choices" in bad and not dialect.is_openai and dialect.protocol != "anthropic-messages":
            continue  # others see nothing in it that is theirs
        with (
            upstream_for(dialect, exchange.step(insert=bad)) as upstream,
            pytest.raises(ProviderUnavailable, match="cannot be read"),
        ):
            streamed(dialect, upstream)


@each_dialect
@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_that_breaks_off_is_no_answer(dialect: Dialect, cut: bool) -> None:
    exchange = dialect.answer("one two three four five six", (), "stop")
    step = exchange.step(upto=len(exchange.events) - 4, cut=cut)
    with upstream_for(dialect, step) as upstream, pytest.raises(ProviderUnavailable):
        streamed(dialect, upstream)


@each_dialect
def test_an_error_amid_a_stream_ends_it(dialect: Dialect) -> None:
    error = json.dumps(dialect.error("overloaded_error", f"Overloaded {KEY}"))
    insert = f"event: error\ndata: {error}\n\n".encode()
    step = dialect.answer("one two three four", (), "stop").step(insert=insert)
    with upstream_for(dialect, step) as upstream, pytest.raises(ProviderUnavailable) as raised:
        streamed(dialect, upstream)
    assert "Overloaded" in str(raised.value) and KEY not in str(raised.value)


@ASK
@each_dialect
def test_the_deadline_holds(dialect: Dialect, ask: Ask) -> None:
    began = time.monotonic()
    with upstream_for(dialect, hang()) as upstream, pytest.raises(ProviderTimeout):
        ask(dialect, upstream, seconds=0.2)
    assert time.monotonic() - began < 3


@each_dialect
def test_comments_and_pings_are_no_sign_of_life(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SILENCE_SECONDS", 0.2)
    ping = b': x\n\nevent: ping\ndata: {"type": "ping"}\n\n'
    if dialect.is_openai:
        ping = b": x\n\n"
    step = raw(*[ping] * 400, content_type="text/event-stream", pause=0.01)
    with upstream_for(dialect, step) as upstream, pytest.raises(ProviderTimeout):
        streamed(dialect, upstream, seconds=3)


@each_dialect
def test_leaving_a_stream_ends_the_request(dialect: Dialect) -> None:
    first, *rest = [written_event(each) for each in dialect.answer("one two three", (), "stop").events[:3]]
    step = raw(first, *rest, *[b": waiting\n"] * 2000, content_type="text/event-stream", pause=0.01)

    async def work(provider: Provider) -> None:
        chunks = provider.stream(CARD, BODY, soon(20))
        await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]
        for _ in range(400):
            if upstream.abandoned:
                return
            await asyncio.sleep(0.005)

    with upstream_for(dialect, step) as upstream:
        run(dialect.spec(upstream), work)
        assert upstream.abandoned == 1


def test_a_model_that_said_it_thinks_may_be_silent_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SILENCE_SECONDS", 0.2)
    dialect = DIALECTS["anthropic-messages"]
    begun, ping, thinks, *rest = [written_event(each) for each in dialect.answer("yes", (), "stop").events]
    step = raw(begun + thinks, *[ping] * 6, *rest, content_type="text/event-stream", pause=0.06)
    with upstream_for(dialect, step) as upstream:
        assert text_of(streamed(dialect, upstream)) == "yes"


def test_headers_of_the_operator_come_before_those_of_the_format() -> None:
    dialect = DIALECTS["anthropic-messages"]
    with upstream_for(dialect, dialect.says("x")) as upstream:
        headers = {"Anthropic-Version": "2023-06-01", "x-extra": "1"}

        async def work(provider: Provider) -> None:
            await provider.complete(CARD, BODY, soon())

        run(dialect.spec(upstream, headers=headers), work)
    (request,) = upstream.requests
    assert request.headers["anthropic-version"] == "2023-06-01" and request.headers["x-extra"] == "1"


@pytest.mark.parametrize(
    ("protocol", "error"),
    [
        ("anthropic-messages", {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}),
        ("gemini", {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}),
    ],
)
def test_a_rate_limit_inside_a_stream_is_one(protocol: str, error: dict[str, Any]) -> None:
    dialect = DIALECTS[protocol]
    step = raw(written_event(("error", error)), content_type="text/event-stream")
    with upstream_for(dialect, step) as upstream, pytest.raises(RateLimited):
        streamed(dialect, upstream)


@ASK
@each_dialect
def test_a_refusal_without_words_is_told_as_one(dialect: Dialect, ask: Ask) -> None:
    if dialect.protocol == "cohere-chat":
        return  # it has no such ending
    silent = dialect.answer("", (), "content_filter")
    with upstream_for(dialect, silent.step()) as upstream, pytest.raises(ContentRefused, match="filter"):
        ask(dialect, upstream)


@each_dialect
def test_a_refusal_in_mid_answer_is_how_it_ends(dialect: Dialect) -> None:
    if dialect.protocol == "cohere-chat":
        return
    with upstream_for(dialect, *[dialect.says("once upon", finish="content_filter")] * 2) as upstream:
        assert whole(dialect, upstream)["choices"][0]["finish_reason"] == "content_filter"
        assert finish_of(streamed(dialect, upstream)) == ["content_filter"]


REFUSED: dict[str, tuple[int, Any]] = {
    "openai-chat": (400, {"error": {"message": "no", "code": "content_policy_violation"}}),
    "azure-openai": (
        400,
        {"error": {"message": "no", "code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
    ),
    "anthropic-messages": (
        400,
        {"error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}},
    ),
    "gemini": (200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
    "vertex-ai": (200, {"promptFeedback": {"blockReason": "MODEL_ARMOR"}}),
}
"""What each says when it does not even begin; Cohere documents no word for it."""


@ASK
@each_dialect
def test_a_refused_prompt_is_told_as_one(dialect: Dialect, ask: Ask) -> None:
    if dialect.protocol not in REFUSED:
        return
    status, body = REFUSED[dialect.protocol]
    step = refusal(status, body)
    if status == 200 and ask is streamed:
        step = raw(written_event(("", body)), content_type="text/event-stream")
    with upstream_for(dialect, step) as upstream, pytest.raises(ContentRefused):
        ask(dialect, upstream)


SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}


@each_dialect
@pytest.mark.parametrize("by", ["acme/m", "other/m", None])
def test_a_signature_is_shown_to_its_own_model_only(dialect: Dialect, by: str | None) -> None:
    """One that does not say whose it is, as Google's own surface gives it, is believed to be a Gemini's."""
    extra = {**SIGNED, "given_by": by} if by else SIGNED
    call = {"id": "a", "type": "function", "function": {"name": "greet", "arguments": "{}"}}
    history = [
        USER,
        {"role": "assistant", "content": "Hm.", "extra_content": extra, "reasoning_content": "so"},
        USER,
        {"role": "assistant", "content": None, "tool_calls": [{**call, "extra_content": extra}]},
        {"role": "tool", "tool_call_id": "a", "content": "done"},
    ]
    spec = dialect.spec(WireUpstream())
    sent = json.dumps(FORMATS[spec.protocol]().request(spec, CARD, {"messages": history}, stream=False))
    is_gemini = dialect.protocol in ("gemini", "vertex-ai")
    shown = (by == "acme/m" and (is_gemini or dialect.is_openai)) or (by is None and is_gemini)
    assert sent.count("c2lnbmVk") == 2 * shown
    assert "given_by" not in sent and ("reasoning_content" in sent) is (dialect.is_openai and by != "other/m")


@each_dialect
def test_a_whole_answer_is_taken_where_a_stream_was_asked_for(dialect: Dialect) -> None:
    answer = json.dumps(dialect.answer("hello", (GREET,), "tool_calls").whole).encode()
    with upstream_for(dialect, raw(answer)) as upstream:
        chunks = streamed(dialect, upstream)
    assert text_of(chunks) == "hello"
    assert [call[:2] for call in calls_of(chunks)] == [GREET[:2]]


@each_translation
@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "nobody", "content": "x"}],
        [{"role": "tool", "tool_call_id": "call_9", "content": "x"}],
        [{"content": "x"}],
        [5],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
        [{"role": "assistant", "tool_calls": [{"id": "a"}]}, USER],
    ],
)
def test_malformed_requests_are_the_callers_fault(dialect: Dialect, messages: list[Any]) -> None:
    with upstream_for(dialect) as upstream:
        with pytest.raises(RequestRejected):
            whole(dialect, upstream, {"messages": messages})
        assert not upstream.requests


@each_dialect
def test_many_at_once_do_not_mix(dialect: Dialect) -> None:
    def echo(body: dict[str, Any]) -> Step:
        number = json.dumps(body).split("number ")[1].split('"')[0]
        return dialect.says(f"number {number}")

    async def work(provider: Provider) -> list[str]:
        async def one(number: int) -> str:
            body = {"messages": [{"role": "user", "content": f"number {number}"}]}
            return text_of([chunk async for chunk in provider.stream(CARD, body, soon())])

        return await asyncio.gather(*(one(number) for number in range(20)))

    with upstream_for(dialect, otherwise=echo) as upstream:
        assert run(dialect.spec(upstream), work) == [f"number {number}" for number in range(20)]


@each_dialect
def test_models_are_listed(dialect: Dialect) -> None:
    path, listing = dialect.listing

    async def work(provider: Provider) -> list[ModelCard]:
        return await provider.list_models()

    with upstream_for(dialect, pages={path: listing}) as upstream:
        if not path:
            with pytest.raises(RequestRejected, match="does not list"):
                run(dialect.spec(upstream), work)
            return
        (card,) = run(dialect.spec(upstream), work)
    assert card.id == "m" and card.context_window == 1000
    wrong: Any
    for wrong in ([], {"data": 5, "models": 5}, {"data": [5], "models": [5]}, {"models": [{"name": 5}]}):
        with (
            upstream_for(dialect, pages={path: wrong}) as upstream,
            contextlib.suppress(ProviderUnavailable),
        ):
            assert run(dialect.spec(upstream), work) == []


def google_access(dialect: Dialect, upstream: WireUpstream) -> dict[str, Any]:
    """How the maker's client is told to go to either of the two."""
    if dialect.protocol == "gemini":
        return {"api_key": KEY, "http_options": HttpOptions(base_url=upstream.origin, api_version="v1beta")}
    options = HttpOptions(base_url=upstream.origin, api_version="v1")
    place = {"vertexai": True, "project": "p", "location": "europe-west4"}
    token = Credentials("ya29.theirs")  # type: ignore[no-untyped-call]
    return {**place, "credentials": token, "http_options": options}


def ask_with_the_sdk(dialect: Dialect, upstream: WireUpstream) -> str:
    """The text of an answer, asked for and read as a stream by the maker's own client."""
    messages: Any = [USER]
    if dialect.protocol == "anthropic-messages":
        with (
            anthropic.Anthropic(api_key=KEY, base_url=upstream.origin, max_retries=0) as claude,
            claude.messages.stream(model="m", max_tokens=9, messages=messages) as stream,
        ):
            return "".join(stream.text_stream)
    if dialect.protocol == "cohere-chat":
        with httpx.Client(trust_env=False) as http:
            client = cohere.ClientV2(api_key=KEY, base_url=upstream.origin, httpx_client=http)
            events = client.chat_stream(model="m", messages=messages)
            found = [event.delta for event in events if event.type == "content-delta"]
            return "".join(d.message.content.text or "" for d in found)  # type: ignore[union-attr]
    if dialect.protocol in ("gemini", "vertex-ai"):
        with genai.Client(**google_access(dialect, upstream)) as google:
            pieces = google.models.generate_content_stream(model="m", contents="say hello")
            return "".join(piece.text or "" for piece in pieces)
    if dialect.protocol == "openai-chat":
        with openai.OpenAI(api_key=KEY, base_url=upstream.origin + "/v1", max_retries=0) as plain:
            chunks = plain.chat.completions.create(model="m", messages=messages, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    with openai.AzureOpenAI(
        api_key=KEY, azure_endpoint=upstream.origin, api_version="2024-10-21", max_retries=0
    ) as azure:
        chunks = azure.chat.completions.create(model="m", messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@each_dialect
def test_the_makers_own_client_goes_to_the_same_address_and_reads_the_same(dialect: Dialect) -> None:
    """So the script of this upstream is a real one, and so is the address."""
    with upstream_for(dialect, *[dialect.says("one two three")] * 2) as upstream:
        theirs = ask_with_the_sdk(dialect, upstream)
        ours = text_of(streamed(dialect, upstream, {"messages": [USER]}))
        (their_path, our_path), (their_request, our_request) = upstream.paths, upstream.requests
    assert theirs == ours == "one two three"
    assert our_path == their_path
    if dialect.protocol == "vertex-ai":
        return  # they come with a token, which is tried elsewhere
    for name in ("x-goog-api-key", "api-key", "anthropic-version"):
        assert our_request.headers.get(name) == their_request.headers.get(name)


def test_a_key_is_not_in_what_a_provider_shows_of_itself() -> None:
    for dialect in DIALECTS.values():
        provider = make_provider(dialect.spec(WireUpstream()), open_client())
        assert isinstance(provider.spec.api_key, SecretStr)
        assert KEY not in repr(provider.spec)
        asyncio.run(provider.aclose())
