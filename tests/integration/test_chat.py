"""Plain prompts: OpenAI's chat completions, streamed or not, and the model list."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.service import RunningService
from tests.upstream import (
    ScriptedUpstream,
    calls,
    cut_after,
    drip,
    error_in_200,
    hang,
    html,
    redirect,
    status,
)

HI = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


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


def test_a_stream_that_breaks_off_ends_in_an_error_event(tmp_path: Path) -> None:
    with ScriptedUpstream([cut_after(4)]) as upstream, RunningService(tmp_path, upstream) as service:
        *chunks, last = _data(service.client.post(CHAT, json={**HI, "stream": True}).text)
        assert "[DONE]" not in (*chunks, last)
        assert json.loads(last)["error"]["code"] == "provider_error"
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
    ],
)
def test_bad_bodies_name_the_field(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        response = service.client.post(CHAT, json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (422, param)
        assert upstream.requests == []


def test_unknown_names_get_the_nearest(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        model = service.client.post(CHAT, json={**HI, "model": "up1/m2"})
        assert (model.status_code, model.json()["error"]["code"]) == (404, "model_not_found")
        assert "up1/m1" in model.json()["error"]["message"]
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
