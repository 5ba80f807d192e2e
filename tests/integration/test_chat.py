"""Plain prompts: OpenAI's chat completions, streamed or not, and the model list."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.service import MODEL, RunningService, provider_row, wait_until
from tests.upstream import (
    ScriptedUpstream,
    calls,
    cut_after,
    drip,
    error_in_200,
    hang,
    html,
    raw,
    redirect,
    status,
)
from tests.wire_upstream import WireUpstream

HI = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
SSE = "text/event-stream"
FIRST_CHUNK = (
    b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'
)


def _data(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def test_a_completion_says_who_answered(tmp_path: Path) -> None:
    with ScriptedUpstream(["hello"]) as upstream, RunningService(tmp_path, upstream) as service:
        body = {
            **HI,
            "temperature": 0.3,
            "seed": 7,
            "api_base": "http://evil.example",
            "model_quality": "fastest",
        }
        response = service.client.post(CHAT, json=body)
        answer = response.json()
        assert answer["choices"][0]["message"]["content"] == "hello"
        assert (answer["provider"], answer["model"]) == ("up1", "m1")
        assert answer["usage"]["total_tokens"] == 18
        assert response.headers["x-router-provider"] == "up1"
        assert response.headers["x-router-model"] == "m1"
        assert response.headers["x-router-attempts"] == "1"
        assert response.headers["x-router-dropped"] == "api_base"
        sent = upstream.bodies[0]
        assert (sent["temperature"], sent["seed"], sent["model"]) == (0.3, 7, "m1")
        assert upstream.refusals == []


def test_a_stream_passes_on_what_the_provider_sends(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(["one two", calls(("f", '{"a":  1}'))]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        text = service.client.post(CHAT, json={**HI, "stream": True}).text
        *chunks, done = _data(text)
        assert done == "[DONE]"
        deltas = [json.loads(c)["choices"][0]["delta"] for c in chunks]
        assert "".join(d.get("content") or "" for d in deltas) == "one two"
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        body = {**HI, "stream": True, "tools": tools, "stream_options": {"include_usage": True}}
        *chunks, _ = _data(service.client.post("/chat/completions", json=body).text)
        pieces = [json.loads(c) for c in chunks]
        arguments = [
            call["function"].get("arguments", "")
            for piece in pieces
            if piece["choices"]
            for call in piece["choices"][0]["delta"].get("tool_calls", [])
        ]
        assert "".join(arguments) == '{"a":  1}'
        assert pieces[-1]["usage"]["total_tokens"] == 18


def test_usage_comes_once_at_the_end_however_often_it_is_told(tmp_path: Path) -> None:
    def event(**fields: Any) -> bytes:
        return b"data: " + json.dumps(fields).encode() + b"\n\n"

    early, late = ({"prompt_tokens": 9, "completion_tokens": n, "total_tokens": 9 + n} for n in (0, 5))
    told = event(choices=[], usage=early) + event(detail="news")
    ending = event(choices=[], usage=late) + event(choices=[], novel=1) + b"data: [DONE]\n\n"
    finish = event(choices=[{"index": 0, "delta": {"content": "!"}, "finish_reason": "stop"}])
    whole = raw(told, FIRST_CHUNK, finish, ending, content_type=SSE)
    with ScriptedUpstream([whole, whole]) as upstream, RunningService(tmp_path, upstream) as service:
        for options in ({}, {"stream_options": {"include_usage": True}}):
            *chunks, done = _data(service.client.post(CHAT, json={**HI, "stream": True, **options}).text)
            pieces = [json.loads(each) for each in chunks]
            assert done == "[DONE]"
            assert [len(each["choices"]) for each in pieces] == [1, 1, 0][: len(pieces)]
            assert [each["usage"] for each in pieces if "usage" in each] == ([late] if options else [])


def test_a_cut_answer_says_what_the_provider_told_of_its_prompt(tmp_path: Path) -> None:
    counts = {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "a", "usage": {**counts, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "half of it"}},
    ]
    half = raw(*(f"data: {json.dumps(each)}\n\n".encode() for each in events), content_type=SSE)
    with WireUpstream([half]) as upstream:
        row = {**provider_row(upstream, protocol="anthropic-messages"), "base_url": upstream.origin}
        with RunningService(tmp_path, providers={"up1": row}) as service:
            *chunks, last = _data(service.client.post(CHAT, json={**HI, "stream": True}).text)
            assert all("usage" not in json.loads(each) for each in chunks)
            usage = json.loads(last)["usage"]
            assert (usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]) == (160, 100)
            assert usage["completion_tokens"] > 1  # estimated: what was told is older than the words
            wait_until(lambda: service.client.get("/v1/usage").json()["total"]["prompt_tokens"] == 160)


def test_a_stream_that_breaks_off_ends_in_an_error_event(tmp_path: Path) -> None:
    with ScriptedUpstream([cut_after(4)]) as upstream, RunningService(tmp_path, upstream) as service:
        *chunks, last = _data(service.client.post(CHAT, json={**HI, "stream": True}).text)
        assert "[DONE]" not in (*chunks, last)
        told = json.loads(last)
        assert told["error"]["code"] == "provider_error"
        assert told["usage"]["completion_tokens"] > 0  # estimated: providers tell it last
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("fault", "expected", "code"),
    [
        (status(500), 502, "provider_error"),
        (status(401, "Incorrect API key sk-abcdefghijklmnop1234"), 502, "provider_refused_key"),
        (status(429, retry_after=7), 429, "rate_limited"),
        (status(400, "bad temperature"), 400, "rejected_by_provider"),
        (status(400, "too long", error_code="context_length_exceeded"), 400, "context_length_exceeded"),
        (html(), 502, "provider_error"),
        (error_in_200(), 502, "provider_error"),
        (redirect("http://127.0.0.1:9/"), 502, "provider_error"),
    ],
    ids=["500", "401", "429", "400", "context", "html", "error-in-200", "redirect"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_faults_become_openai_errors(
    tmp_path: Path, fault: Any, expected: int, code: str, stream: bool
) -> None:
    with ScriptedUpstream([fault]) as upstream, RunningService(tmp_path, upstream) as service:
        response = service.client.post(CHAT, json={**HI, "stream": stream})
        if stream and response.status_code == 200:
            assert json.loads(_data(response.text)[-1])["error"]["code"] == code
            return
        assert response.status_code == expected
        error = response.json()["error"]
        assert error["code"] == code
        assert set(error) == {"message", "type", "param", "code"}
        assert "sk-abcdefghijklmnop1234" not in response.text
        if expected == 429:
            assert 1 <= int(response.headers["retry-after"]) <= 7


@pytest.mark.parametrize("fault", [hang(), drip()], ids=["silent", "blanks"])
def test_the_total_deadline_holds(tmp_path: Path, fault: Any) -> None:
    with (
        ScriptedUpstream([fault]) as upstream,
        RunningService(tmp_path, upstream, router={"timeout": 0.8}) as service,
    ):
        began = time.monotonic()
        response = service.client.post(CHAT, json=HI)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "provider_timeout")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({**HI, "model": 5}, "model"),
        ({**HI, "stream": "yes"}, "stream"),
        ({**HI, "model_quality": "cheap"}, "model_quality"),
        ({**HI, "tools": "x"}, "tools"),
        ({**HI, "model": "m" * 257}, "model"),
        ({**HI, "model": "up1/" + "m" * (1 << 20)}, "model"),
        ({**HI, "provider": "up1", "model": "m1\n"}, "model"),
        ({**HI, "provider": "up1", "model": "m1\r\nx-evil: 1", "stream": True}, "model"),
        ({**HI, "provider": "up1\0"}, "provider"),
        ({**HI, "provider": "p" * 65}, "provider"),
    ],
)
def test_bad_bodies_name_the_field(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        response = service.client.post(CHAT, json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (422, param)
        assert upstream.requests == []


def test_an_empty_name_is_none(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="hello") as upstream, RunningService(tmp_path, upstream) as service:
        for empty in ("", None):
            assert service.client.post(CHAT, json={**HI, "model": empty, "provider": empty}).is_success
        assert service.client.get("/v1/route", params={"provider": ""}).is_success


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_whose_name_no_header_can_hold_answers_all_the_same(tmp_path: Path, stream: bool) -> None:
    with (
        ScriptedUpstream(otherwise="hello") as upstream,
        RunningService(
            tmp_path, upstream, providers={"up1": one_at_a_time(upstream, id="modèle\n1")}
        ) as service,
    ):
        for _ in range(2):
            response = service.client.post(CHAT, json={**HI, "stream": stream})
            assert (response.status_code, response.headers["x-router-model"]) == (200, "mod?le?1")


def one_at_a_time(upstream: ScriptedUpstream, **model: Any) -> dict[str, Any]:
    """The upstream as a provider that is asked again only once it was let go."""
    return provider_row(upstream, limits={"concurrent": 1}, models=[{**MODEL, **model}])


def test_a_stream_that_cannot_even_begin_to_be_sent_is_closed(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="hello") as upstream:
        service = RunningService(tmp_path, providers={"up1": one_at_a_time(upstream)})
        service.service.asgi = refusing_streams(service.service.asgi)
        with service:
            assert service.client.post(CHAT, json={**HI, "stream": True}).status_code == 500
            assert service.client.post(CHAT, json=HI).is_success


def refusing_streams(app: ASGIApp) -> ASGIApp:
    """The application behind a server that takes no header of a stream."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        async def picky(message: Message) -> None:
            headers = dict(message.get("headers", ()))
            if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
                raise RuntimeError("Invalid HTTP header value.")
            await send(message)

        await app(scope, receive, picky)

    return served


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, HI), ("/v1/contextual_chat/completions", {"prompt": "hi"})],
    ids=["plain", "context"],
)
def test_who_leaves_before_the_answer_ends_its_call(
    tmp_path: Path, path: str, body: dict[str, Any], stream: bool
) -> None:
    with (
        ScriptedUpstream([hang()], otherwise="hello") as upstream,
        RunningService(tmp_path, providers={"up1": one_at_a_time(upstream)}) as service,
    ):
        leaving = begun(service, path, {**body, "stream": stream})
        wait_until(lambda: upstream.requests)
        leaving.close()
        wait_until(lambda: upstream.abandoned)
        assert service.client.post(CHAT, json=HI).is_success
        total = service.client.get("/v1/usage").json()["total"]
        assert (total["calls"], total["failed"]) == (2, 1)


def begun(service: RunningService, path: str, body: dict[str, Any]) -> socket.socket:
    """A request that was sent, and whose answer is not read."""
    url, content = httpx.URL(service.url), json.dumps(body).encode()
    connection = socket.create_connection((url.host, url.port or 80))
    head = f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def test_who_leaves_in_the_middle_of_a_stream_ends_its_call(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(
            [raw(FIRST_CHUNK, *[b": more\n\n"] * 1000, content_type=SSE, pause=0.02)]
        ) as upstream,
        RunningService(tmp_path, providers={"up1": one_at_a_time(upstream)}) as service,
    ):
        upstream.otherwise = "hello"
        with service.client.stream("POST", CHAT, json={**HI, "stream": True}) as response:
            assert next(response.iter_lines()) == FIRST_CHUNK.decode().strip()
        wait_until(lambda: upstream.abandoned)
        assert service.client.post(CHAT, json=HI).is_success


def test_unknown_names_get_the_nearest(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        model = service.client.post(CHAT, json={**HI, "model": "up1/m2"})
        assert (model.status_code, model.json()["error"]["code"]) == (404, "model_not_found")
        assert "up1/m1" in model.json()["error"]["message"]
        far = service.client.post(CHAT, json={**HI, "model": "gpt-5"})
        assert far.status_code == 404 and "There are auto, up1/m1" in far.json()["error"]["message"]
        gone = service.client.post(CHAT, json={**HI, "model": "github/gpt-4o"})
        assert gone.status_code == 404 and "GitHub Models was retired" in gone.json()["error"]["message"]
        provider = service.client.post(CHAT, json={**HI, "provider": "up2"})
        assert (provider.status_code, provider.json()["error"]["code"]) == (404, "provider_not_found")


def test_a_contextual_prompt_carries_selection_and_file(tmp_path: Path) -> None:
    with ScriptedUpstream(["hello"]) as upstream, RunningService(tmp_path, upstream) as service:
        body = {"prompt": "explain", "selected_text": "x = 1", "active_file_content": "y" * 10_000 + "z"}
        response = service.client.post("/v1/contextual_chat/completions", json=body)
        assert response.json()["choices"][0]["message"]["content"] == "hello"
        sent = upstream.bodies[0]["messages"][-1]["content"]
        assert "explain" in sent
        assert "x = 1" in sent
        assert "y" * 10_000 in sent
        assert "z" not in sent.partition("Active file:")[2]


def test_models_and_health(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(["hello"]) as upstream,
        RunningService(tmp_path, upstream, models={"mine": [{"provider": "up1", "model": "m1"}]}) as service,
    ):
        for path in ("/v1/models", "/models"):
            ids = [m["id"] for m in service.client.get(path).json()["data"]]
            assert ids == ["up1/m1", "mine", "default", "fast", "code", "reasoning"]
        health = service.client.get("/health").json()
        assert (health["status"], health["providers"]) == ("ok", {"up1": True})
        assert service.client.get("/").json()["name"] == "agent-service"
        answer = service.client.post(CHAT, json={**HI, "model": "mine"})
        assert answer.headers["x-router-model"] == "m1"


def test_a_changed_configuration_is_applied_and_a_broken_one_is_not(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(["one"]) as first,
        ScriptedUpstream(["two"]) as second,
        RunningService(tmp_path, first) as service,
    ):
        text = service.config_file.read_text()
        service.config_file.write_text("providers: [")
        _until_health(service, lambda health: health["problems"])
        assert service.client.post(CHAT, json=HI).json()["choices"][0]["message"]["content"] == "one"
        service.config_file.write_text(text.replace(first.base_url, second.base_url))
        _until_health(service, lambda health: not health["problems"])
        assert service.client.post(CHAT, json=HI).json()["choices"][0]["message"]["content"] == "two"


def _until_health(service: RunningService, fits: Any) -> None:
    end = time.monotonic() + 10
    while not fits(service.client.get("/health").json()):
        assert time.monotonic() < end, "the configuration was not looked at"
        time.sleep(0.05)
