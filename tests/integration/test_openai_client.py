"""OpenAI's own Python library as the client: what it is made for works, and errors are the ones it knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.service import RunningService
from tests.upstream import ScriptedUpstream, calls, cut_after, status

KEY = "sk-client-0123456789abcdef"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
ARGUMENTS = '{"city":  "Zürich", "days": 3}'
"""With two blanks, which nobody may tidy up."""
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture
def client(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[openai.OpenAI]:
    server = {"api_keys": [{"name": "client", "key": KEY}]}
    with RunningService(tmp_path, upstream, key=KEY, server=server) as service, _client(service) as made:
        yield made


def _client(service: RunningService, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0, timeout=20)


def test_chat(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.then("Hello to you.")
    answer = client.chat.completions.create(model="auto", messages=HELLO, temperature=0.5, seed=7)
    assert answer.choices[0].message.content == "Hello to you."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.total_tokens == 18
    assert (upstream.bodies[0]["temperature"], upstream.bodies[0]["seed"]) == (0.5, 7)


def test_stream_with_usage(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.then("one two three")
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="auto", messages=HELLO, stream=True, stream_options=options)
    )
    text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert text == "one two three"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 7
    assert [each.usage for each in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_tools_there_and_back(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.then(calls(("weather", ARGUMENTS, "call_1")), "Sunny.")
    first = client.chat.completions.create(model="auto", messages=HELLO, tools=[WEATHER]).choices[0]
    assert first.finish_reason == "tool_calls" and first.message.tool_calls
    call = first.message.tool_calls[0]
    assert call.type == "function" and call.function.arguments == ARGUMENTS
    history: Any = [
        *HELLO,
        first.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sun"},
    ]
    last = client.chat.completions.create(model="auto", messages=history, tools=[WEATHER])
    assert last.choices[0].message.content == "Sunny."
    assert upstream.bodies[1]["messages"][1]["tool_calls"][0]["function"]["arguments"] == ARGUMENTS
    assert not upstream.refusals


def test_streamed_tool_calls_byte_for_byte(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.then(calls(("weather", ARGUMENTS, "call_1"), ("weather", "{}", "call_2")))
    with client.chat.completions.stream(model="auto", messages=HELLO, tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    made = final.choices[0].message.tool_calls or []
    assert [(each.id, each.function.arguments) for each in made] == [("call_1", ARGUMENTS), ("call_2", "{}")]


def test_models(client: openai.OpenAI) -> None:
    ids = [each.id for each in client.models.list()]
    assert "up1/m1" in ids


def test_headers_say_who_answered(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.then("Hello.")
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=HELLO)
    assert raw.headers["x-router-provider"] == "up1"
    assert raw.headers["x-router-model"] == "m1"
    assert raw.headers["x-router-attempts"] == "1"
    assert raw.parse().choices[0].message.content == "Hello."


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (status(400, "bad"), openai.BadRequestError, "rejected_by_provider"),
        (
            status(400, "too long", error_code="context_length_exceeded"),
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (status(401, "Incorrect API key"), openai.InternalServerError, "provider_refused_key"),
        (status(429, retry_after=7), openai.RateLimitError, "rate_limited"),
        (status(500), openai.InternalServerError, "provider_error"),
    ],
    ids=["400", "context", "401", "429", "500"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_faults_are_errors_of_the_library(
    client: openai.OpenAI,
    upstream: ScriptedUpstream,
    fault: Any,
    error: type[openai.APIStatusError],
    code: str,
    stream: bool,
) -> None:
    upstream.then(fault)
    with pytest.raises(error) as caught:
        client.chat.completions.create(model="auto", messages=HELLO, stream=stream)
    assert caught.value.code == code
    if error is openai.RateLimitError:
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 7


def test_a_cut_stream_is_an_error(client: openai.OpenAI, upstream: ScriptedUpstream) -> None:
    upstream.then(cut_after(4))
    heard = ""
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model="auto", messages=HELLO, stream=True):
            heard += chunk.choices[0].delta.content or ""
    assert heard and "broke off" in caught.value.message


def test_an_unknown_model_and_a_wrong_key(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    server = {"api_keys": [{"name": "client", "key": KEY}]}
    with RunningService(tmp_path, upstream, key=KEY, server=server) as service:
        with _client(service) as client, pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="m2-typo", messages=HELLO)
        assert unknown.value.code == "model_not_found"
        with _client(service, "sk-wrong") as stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()
    assert not upstream.requests


def test_a_wrong_field_is_named(client: openai.OpenAI) -> None:
    wrong: Any = json.loads('{"temperature": "warm"}')
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model="auto", messages=HELLO, extra_body=wrong)
    assert caught.value.param == "temperature"
