from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from routing.config import ModelCard, ProviderSpec
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
from routing.providers import http_provider, telling
from routing.providers.http_provider import HttpProvider
from routing.providers.openai_compatible import OpenAIChat
from routing.transport import open_client
from routing.types import ChatChunk
from tests.upstream import (
    ScriptedUpstream,
    Step,
    bad_line,
    calls,
    cut_after,
    drip,
    empty,
    endless_refusal,
    error_in_200,
    flood,
    gzip_bomb,
    hang,
    html,
    raw,
    redirect,
    says,
    status,
    unfinished,
    wait,
)

CARD = ModelCard(id="m")
BODY = {"messages": [{"role": "user", "content": "hello"}]}
KEY = "sk-test-0123456789"
EMPTY_DELTA = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'

Ask = Callable[[HttpProvider], Awaitable[Any]]


@asynccontextmanager
async def provider_at(base_url: str, **fields: Any) -> AsyncIterator[HttpProvider]:
    spec = ProviderSpec(name="acme", base_url=base_url, api_key=SecretStr(KEY), **fields)
    provider = HttpProvider(spec, open_client(), OpenAIChat())
    try:
        yield provider
    finally:
        await provider.aclose()


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def whole(provider: HttpProvider, seconds: float = 5.0) -> dict[str, Any]:
    return await provider.complete(CARD, BODY, soon(seconds))


async def streamed(provider: HttpProvider, seconds: float = 5.0) -> list[ChatChunk]:
    return [chunk async for chunk in provider.stream(CARD, BODY, soon(seconds))]


def ask(upstream: ScriptedUpstream, question: Ask, **fields: Any) -> Any:
    async def scenario() -> Any:
        async with provider_at(upstream.base_url, **fields) as provider:
            return await question(provider)

    return asyncio.run(scenario())


def answers(step: Step | str, question: Ask, **fields: Any) -> Any:
    with ScriptedUpstream([step]) as upstream:
        return ask(upstream, question, **fields)


def text_of(chunks: list[ChatChunk]) -> str:
    return "".join(chunk.delta.get("content") or "" for chunk in chunks)


def test_a_whole_answer_comes_with_its_usage_and_the_key_goes_out() -> None:
    with ScriptedUpstream(["hi there"], api_key=KEY) as upstream:
        answer = ask(upstream, whole, headers={"X-Title": "tests"})
    assert answer["choices"][0]["message"]["content"] == "hi there"
    assert answer["usage"]["total_tokens"] == 18
    sent = upstream.requests[0]
    assert sent.body == {**BODY, "model": "m"}
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.headers["x-title"] == "tests"
    assert "cookie" not in sent.headers


def test_a_stream_brings_text_finish_and_usage_without_the_end_marker() -> None:
    with ScriptedUpstream(["one two"]) as upstream:
        chunks = ask(upstream, streamed)
    assert text_of(chunks) == "one two"
    assert chunks[-1].data["usage"]["prompt_tokens"] == 11
    assert all(chunk.raw.startswith(b"{") for chunk in chunks)
    assert upstream.bodies[0]["stream_options"] == {"include_usage": True}


def test_usage_is_not_asked_of_providers_that_do_not_know_how() -> None:
    with ScriptedUpstream(["one"]) as upstream:
        ask(upstream, streamed, stream_usage=False)
    assert "stream_options" not in upstream.bodies[0]


def test_fields_a_provider_does_not_take_stay_out() -> None:
    async def question(provider: HttpProvider) -> dict[str, Any]:
        return await provider.complete(CARD, {**BODY, "seed": 1, "top_p": 0.5}, soon())

    with ScriptedUpstream(["x"]) as upstream:
        ask(upstream, question, unsupported=frozenset({"seed"}))
    assert "seed" not in upstream.bodies[0]
    assert upstream.bodies[0]["top_p"] == 0.5


@pytest.mark.parametrize("question", [whole, streamed])
def test_arguments_of_tool_calls_pass_byte_exact(question: Ask) -> None:
    written = '{ "filepath" :"ü\\u00e9.txt",\t"content":"a\\ud83d\\ude00\\ud800b"}'
    answer = answers(calls(("write_file", written, "call_x")), question)
    if isinstance(answer, dict):
        got = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    else:
        pieces = [call for chunk in answer for call in chunk.delta.get("tool_calls") or ()]
        got = "".join(call["function"]["arguments"] for call in pieces)
    assert got == written


ODD_MESSAGES: list[dict[str, Any]] = [
    {"tool_calls": 5},
    {"tool_calls": [5]},
    {"tool_calls": {"a": 1}},
    {"tool_calls": [{"function": "f"}]},
    {"content": 5},
    {"content": {"text": "hi"}},
]


def misshapen(message: dict[str, Any], **fields: Any) -> Step:
    """An answer of which this is the message, whole or after a first word."""

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            told = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **fields}
            return web.json_response(told)
        ending = {"choices": [{"index": 0, "delta": message, "finish_reason": "stop"}], **fields}
        text = choice(0, "") + f"data: {json.dumps(ending)}\n\ndata: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    return Step(serve)


@pytest.mark.parametrize("question", [whole, streamed])
@pytest.mark.parametrize(
    ("step", "error"),
    [
        (status(500), ProviderUnavailable),
        (status(503), ProviderUnavailable),
        (status(529), ProviderUnavailable),
        (status(408), ProviderTimeout),
        (status(504), ProviderTimeout),
        (status(401), KeyRefused),
        (status(402), KeyRefused),
        (status(403), KeyRefused),
        (status(404), KeyRefused),
        (status(400), RequestRejected),
        (status(422), RequestRejected),
        (status(400, "too big", error_code="context_length_exceeded"), ContextTooLong),
        (status(429), RateLimited),
        (redirect("http://127.0.0.1:1/"), ProviderUnavailable),
        (html(), ProviderUnavailable),
        (empty(), ProviderUnavailable),
        (says(""), ProviderUnavailable),
        (says("", finish="content_filter"), ContentRefused),
        (error_in_200(), ProviderUnavailable),
        (error_in_200(code=429), RateLimited),
        (gzip_bomb(1), ProviderUnavailable),
        (cut_after(3), ProviderUnavailable),
        (says("x", finish="error"), ProviderUnavailable),
        (raw(b"[1, 2]"), ProviderUnavailable),
        (raw(b'{"choices": []}'), ProviderUnavailable),
        (raw(b'{"choices": 5}'), ProviderUnavailable),
        (raw(b'{"choices": [5]}'), ProviderUnavailable),
        (raw(b'{"choices": [{"message": "x"}]}'), ProviderUnavailable),
        (raw(b"[" * 100_000), ProviderUnavailable),
        *((misshapen(message), ProviderUnavailable) for message in ODD_MESSAGES),
    ],
)
def test_faults_become_errors_that_say_what_to_do(
    step: Step, error: type[ProviderError], question: Ask
) -> None:
    with pytest.raises(error) as raised:
        answers(step, question)
    assert type(raised.value) is error
    assert raised.value.provider == "acme"


def test_a_usage_that_is_none_is_left_out() -> None:
    for odd in (["n/a"], "none", 5):
        assert "usage" not in answers(misshapen({"content": "hi"}, usage=odd), whole)
        chunks = answers(misshapen({"content": "hi"}, usage=odd), streamed)
        assert text_of(chunks) == "hi"
        assert all("usage" not in chunk.data and b"usage" not in chunk.raw for chunk in chunks)


def of_choices(*choices: tuple[Any, Any], **fields: Any) -> Step:
    """A whole answer of these messages, each with its finish reason, however it is asked for."""
    told = [{"index": n, "message": m, "finish_reason": reason} for n, (m, reason) in enumerate(choices)]
    return raw(json.dumps({"choices": told, **fields}).encode())


@pytest.mark.parametrize("question", [whole, streamed])
@pytest.mark.parametrize(
    "further",
    [({"content": None}, "error"), ({"content": "half"}, "error"), (None, "stop"), ({"content": 5}, "stop")],
)
def test_of_several_whole_choices_none_may_be_broken_off(question: Ask, further: tuple[Any, Any]) -> None:
    with pytest.raises(ProviderUnavailable):
        answers(of_choices(({"content": "whole"}, "stop"), further), question)


def test_one_of_several_whole_choices_must_say_something() -> None:
    answer = answers(of_choices(({"content": None}, "stop"), ({"content": "hi"}, "stop")), whole)
    assert len(answer["choices"]) == 2
    with pytest.raises(ProviderUnavailable, match="empty"):
        answers(of_choices(({"content": None}, "stop"), ({"content": ""}, "stop")), whole)


def test_a_whole_answer_has_what_clients_rely_on() -> None:
    called = {"content": None, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"a": 1}}}]}
    answer = answers(of_choices((called, 5), ({"content": "hi"}, 5), error={}, extra=1), whole)
    assert [each["finish_reason"] for each in answer["choices"]] == ["tool_calls", "stop"]
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'
    assert "error" not in answer
    assert answer["extra"] == 1


@pytest.mark.parametrize("question", [whole, streamed])
def test_a_key_that_a_provider_adds_to_its_answer_does_not_come_through(question: Ask) -> None:
    fields = {"debug": {"sent": f"Bearer {KEY}"}, "timings": {"ms": 1}}
    for step in (misshapen({"content": f"it is {KEY}"}, **fields), raw_events({"detail": KEY}, **fields)):
        shown = str(answers(step, question))
        assert "Bearer" not in shown and "detail" not in shown
        assert "timings" in shown and f"it is {KEY}" in shown  # the model's own words


def raw_events(foreign: dict[str, Any], **fields: Any) -> Step:
    """A stream with an object in it that is no chunk; the same answer otherwise."""
    answer = misshapen({"content": f"it is {KEY}"}, **fields)

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        told = await answer.serve(request, body)
        if body.get("stream"):
            assert isinstance(told, web.Response) and told.text
            told.text = f"data: {json.dumps(foreign)}\n\n" + told.text
        return told

    return Step(serve)


def test_a_length_limit_without_text_is_an_answer() -> None:
    assert answers(says("", finish="length"), whole)["choices"][0]["finish_reason"] == "length"
    chunks = answers(says("", finish="length"), streamed)
    assert chunks[-2].data["choices"][0]["finish_reason"] == "length"


def test_a_redirect_is_not_followed() -> None:
    with ScriptedUpstream(["stolen"]) as elsewhere, ScriptedUpstream([]) as upstream:
        upstream.then(redirect(f"{elsewhere.base_url}/chat/completions"))
        with pytest.raises(ProviderUnavailable):
            ask(upstream, whole)
        assert not elsewhere.requests


def test_a_stream_that_ends_in_good_order_without_a_finish_reason_is_broken() -> None:
    with pytest.raises(ProviderUnavailable, match="broke off"):
        answers(unfinished(), streamed)


@pytest.mark.parametrize("finished", [1, 2])
@pytest.mark.parametrize("ending", ["", "data: [DONE]\n\n", "cut"])
def test_of_several_choices_each_must_be_whole(finished: int, ending: str) -> None:
    said = [choice(0, "whole"), choice(1, "half an ans"), *(choice(each, finish="stop") for each in (0, 1))]
    text = "".join(said[: 2 + finished]).encode()
    step = severed(text) if ending == "cut" else raw(text + ending.encode(), content_type="text/event-stream")
    if finished == 2:
        assert len(answers(step, several)) == 4
    else:
        with pytest.raises(ProviderUnavailable):
            answers(step, several)


def test_a_choice_that_was_not_heard_of_yet_is_waited_for() -> None:
    text = choice(0, "whole") + choice(0, finish="stop")
    with pytest.raises(ProviderUnavailable):
        answers(severed(text.encode()), several)
    # Who gives one answer only, and says so, has not broken it off.
    assert len(answers(raw(text.encode(), content_type="text/event-stream"), several)) == 2


def choice(index: int, text: str | None = None, finish: str | None = None) -> str:
    """An event of one choice."""
    told = {"index": index, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [told]})}\n\n"


async def several(provider: HttpProvider) -> list[ChatChunk]:
    return [chunk async for chunk in provider.stream(CARD, {**BODY, "n": 2}, soon())]


def severed(text: bytes) -> Step:
    """A stream whose connection dies after these bytes."""

    async def serve(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Content-Length": "9999"})
        await response.prepare(request)
        await response.write(text)
        assert request.transport is not None
        request.transport.close()  # what was written leaves before
        return response

    return Step(serve)


def test_chunks_before_a_cut_are_handed_out() -> None:
    got: list[str] = []

    async def question(provider: HttpProvider) -> None:
        async for chunk in provider.stream(CARD, BODY, soon()):
            got.append(chunk.delta.get("content") or "")

    with pytest.raises(ProviderUnavailable):
        answers(cut_after(4), question)
    assert "".join(got) == "one two three "


def test_one_undecodable_line_does_not_end_a_stream() -> None:
    assert text_of(answers(bad_line("whole despite it"), streamed)) == "whole despite it"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n"])
def test_events_may_be_split_anywhere(size: int, end: bytes) -> None:
    events = [
        b": a comment",
        'data: {"choices":[{"index":0,"delta":{"content":"käse 😀"}}]}'.encode(),
        b'data:{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}',
        b"data: [DONE]",
    ]
    text = end.join(events)
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    chunks = answers(raw(*parts, content_type="text/event-stream"), streamed)
    assert text_of(chunks) == "käse 😀"
    assert chunks[-1].data["usage"]["total_tokens"] == 3


def test_a_whole_answer_to_a_streamed_question_is_taken() -> None:
    message = '{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{}}]}'
    answer = f'{{"id":"x","choices":[{{"message":{message},"finish_reason":"tool_calls"}}]}}'.encode()
    chunks = answers(raw(answer), streamed)
    assert chunks[0].delta["tool_calls"][0]["index"] == 0
    assert chunks[-1].data["choices"][0]["finish_reason"] == "tool_calls"


def test_a_lone_surrogate_in_an_answer_is_replaced() -> None:
    answer = answers(raw(b'{"choices":[{"message":{"content":"a\\ud800b"}}]}'), whole)
    assert answer["choices"][0]["message"]["content"] == "a?b"


def test_a_request_with_a_lone_surrogate_is_rejected_before_it_is_sent() -> None:
    async def question(provider: HttpProvider) -> dict[str, Any]:
        body = {"messages": [{"role": "user", "content": "a\ud800b"}]}
        return await provider.complete(CARD, body, soon())

    with ScriptedUpstream([]) as upstream, pytest.raises(RequestRejected):
        ask(upstream, question)
    assert not upstream.requests


@pytest.mark.parametrize("question", [whole, streamed])
@pytest.mark.parametrize("step", [hang(), drip(), raw(*[b" "] * 500, pause=0.01)])
def test_the_deadline_ends_every_wait(step: Step, question: Callable[..., Awaitable[Any]]) -> None:
    began = time.monotonic()
    with pytest.raises(ProviderTimeout):
        answers(step, lambda provider: question(provider, 0.3))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("step", [hang(), drip(), drip(saying=EMPTY_DELTA)])
def test_comments_and_blanks_are_no_sign_of_life(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SILENCE_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(ProviderTimeout):
        answers(step, lambda provider: streamed(provider, 30))
    assert time.monotonic() - began < 3


def test_a_whole_answer_may_take_all_the_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SILENCE_SECONDS", 0.1)
    written = threading.Event()

    async def question(provider: HttpProvider) -> dict[str, Any]:
        asyncio.get_running_loop().call_later(0.9, written.set)
        return await whole(provider, 1.7)

    assert answers(wait(written, "late"), question)["choices"][0]["message"]["content"] == "late"


def test_a_refusal_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_provider, "_ERROR_SECONDS", 0.1)
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="acme answered 503"):
        answers(endless_refusal(), lambda provider: whole(provider, 30))
    assert time.monotonic() - began < 3


def test_a_slow_reader_is_not_held_against_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SILENCE_SECONDS", 0.3)

    async def question(provider: HttpProvider) -> str:
        text = ""
        async for chunk in provider.stream(CARD, BODY, soon()):
            await asyncio.sleep(0.15)
            text += chunk.delta.get("content") or ""
        return text

    assert answers("one two three", question) == "one two three"


def test_a_server_that_finished_but_does_not_hang_up_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "TAIL_SECONDS", 0.1)
    done = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    step = raw(done, *[b": \n"] * 300, content_type="text/event-stream", pause=0.01)
    began = time.monotonic()
    assert text_of(answers(step, streamed)) == "x"
    assert time.monotonic() - began < 2


def test_answers_are_capped_while_they_arrive() -> None:
    with pytest.raises(ProviderUnavailable, match="larger than 64 MiB"):
        answers(flood(66), whole)


def test_nobody_there_is_an_error_and_no_hang() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    async def scenario() -> None:
        async with provider_at(f"http://127.0.0.1:{port}/v1") as provider:
            await whole(provider)

    with pytest.raises(ProviderUnavailable, match="could not be reached"):
        asyncio.run(scenario())


def test_a_key_that_the_provider_echoes_does_not_come_through() -> None:
    with ScriptedUpstream([], api_key="another") as upstream, pytest.raises(KeyRefused) as raised:
        ask(upstream, whole)
    assert KEY not in str(raised.value)
    assert "Incorrect API key" in str(raised.value)


def test_retry_after_is_told() -> None:
    with pytest.raises(RateLimited) as raised:
        answers(status(429, retry_after=7.5), whole)
    assert raised.value.retry_after == 7.5


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_leaving_a_stream_closes_the_connection(how: str) -> None:
    endless = raw(
        b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n',
        *[b": waiting\n"] * 2000,
        content_type="text/event-stream",
        pause=0.01,
    )
    with ScriptedUpstream([endless]) as upstream:

        async def question(provider: HttpProvider) -> None:
            chunks = provider.stream(CARD, BODY, soon(20))
            assert (await anext(chunks)).delta == {"content": "x"}
            if how == "close":
                await chunks.aclose()  # type: ignore[attr-defined]
            else:
                reading = asyncio.ensure_future(anext(chunks))
                await asyncio.sleep(0.02)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            for _ in range(200):
                if upstream.abandoned:
                    return
                await asyncio.sleep(0.01)

        ask(upstream, question)
        assert upstream.abandoned == 1


def test_models_are_listed_with_what_servers_add() -> None:
    entries: tuple[str | dict[str, Any], ...] = (
        "plain",
        {"id": "a", "max_model_len": 32768},
        {"id": "b", "context_length": 8192, "supported_parameters": ["tools"]},
        {"id": "c", "meta": {"n_ctx": 4096}},
        {"id": "nomic-embed-text"},
        {"id": "d", "type": "embeddings"},
        {"id": 5},
        {"name": "no id"},
        {"id": "e", "context_length": "many", "meta": None},
    )
    with ScriptedUpstream(models=entries) as upstream:
        cards: list[ModelCard] = ask(upstream, lambda provider: provider.list_models())
    assert [(card.id, card.context_window) for card in cards] == [
        ("plain", None),
        ("a", 32768),
        ("b", 8192),
        ("c", 4096),
        ("e", None),
    ]
    assert [card.tools for card in cards] == [None, None, True, None, None]


async def _hang_up_after_a_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one request with a stream and closes the connection, which it had promised to keep."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
    chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
    body = chunk + b"data: [DONE]\n\n"
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    await writer.drain()
    writer.close()


def test_a_kept_connection_that_was_closed_costs_no_request() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(_hang_up_after_a_stream, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, provider_at(f"http://127.0.0.1:{port}/v1") as provider:
            for _ in range(20):
                deadline = asyncio.get_running_loop().time() + 5
                chunks = [c async for c in provider.stream(CARD, BODY, deadline)]
                assert chunks[0].delta["content"] == "hi"

    asyncio.run(scenario())
