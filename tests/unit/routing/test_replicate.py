"""Replicate over a real socket. It has no types of its own: its answers are built from its API reference."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from routing.config import ModelCard, ProviderSpec
from routing.errors import ContentRefused, ProviderUnavailable, RequestRejected
from routing.providers import replicate
from routing.providers.formats import http_provider
from routing.providers.replicate import Replicate
from routing.transport import open_client
from tests.dialects import CHUNK, COMPLETION

CARD = ModelCard(id="meta/llama")
ASK = {"messages": [{"role": "user", "content": "hello"}]}
DONE = {
    "id": "p1",
    "status": "succeeded",
    "output": ["Hel", "lo"],
    "error": None,
    "metrics": {"input_token_count": 3, "output_token_count": 2, "predict_time": 0.1},
}


class Service:
    """Answers a creation with the first prediction, and each look at it with the next."""

    def __init__(self, *predictions: dict[str, Any]) -> None:
        self._predictions = list(predictions)
        self.asked: list[tuple[str, str, str | None]] = []
        self.bodies: list[Any] = []

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path, request.headers.get("Authorization")))
        if request.method == "POST":
            self.bodies.append(await request.json())
            assert request.headers["Prefer"] == "wait"
        return web.json_response(self._predictions.pop(0), status=201)


def ask(service: Service, card: ModelCard = CARD, body: dict[str, Any] = ASK, *, stream: bool = False) -> Any:
    async def scenario() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", service.serve)
        async with TestServer(app) as server:
            base = str(server.make_url("/v1"))
            spec = ProviderSpec(name="replicate", protocol="replicate", base_url=base, api_key="r8_key")
            provider = http_provider(spec, open_client())
            deadline = asyncio.get_running_loop().time() + 5
            try:
                if stream:
                    return [chunk.data async for chunk in provider.stream(card, body, deadline)]
                return await provider.complete(card, body, deadline)
            finally:
                await provider.aclose()

    return asyncio.run(scenario())


def test_a_prediction_that_is_done_is_the_answer() -> None:
    service = Service(DONE)
    answer = ask(service, body={**ASK, "max_tokens": 9})
    COMPLETION.validate_python(answer)
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert service.asked == [("POST", "/v1/models/meta/llama/predictions", "Bearer r8_key")]
    assert service.bodies == [{"input": {"prompt": "hello", "max_tokens": 9}}]


def test_one_that_is_not_is_looked_at_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "_POLL_SECONDS", 0.01)
    urls = {"get": "http://evil.example/take-the-key"}
    begun = {"id": "p/1", "status": "processing", "output": None, "urls": urls}
    service = Service({**begun, "status": "starting"}, begun, DONE)
    chunks = ask(service, stream=True)
    for chunk in chunks:
        CHUNK.validate_python(chunk)
    assert chunks[0]["choices"][0]["delta"]["content"] == "Hello"
    assert [each[:2] for each in service.asked[1:]] == [("GET", "/v1/predictions/p/1")] * 2


def test_turns_are_told_in_the_prompt() -> None:
    service = Service({**DONE, "output": "whole"})
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    assert ask(service, body={"messages": messages})["choices"][0]["message"]["content"] == "whole"
    assert service.bodies[0]["input"] == {
        "prompt": "User: one\n\nAssistant: two\n\nUser: three\n\nAssistant:",
        "system_prompt": "Be brief.",
    }


def test_a_version_is_named_in_the_body() -> None:
    service = Service(DONE)
    ask(service, ModelCard(id="me/mine:0123abc"))
    assert service.asked[0][1] == "/v1/predictions" and service.bodies[0]["version"] == "0123abc"


@pytest.mark.parametrize(
    ("prediction", "error"),
    [
        ({"id": "p", "status": "failed", "error": "CUDA out of memory"}, ProviderUnavailable),
        ({"id": "p", "status": "failed", "error": "The input was flagged as sensitive."}, ContentRefused),
        ({"id": "p", "status": "canceled"}, ProviderUnavailable),
        ({"id": "p", "status": "succeeded", "output": None}, ProviderUnavailable),
        ({"id": "p", "status": "succeeded", "output": {"a": 5}}, ProviderUnavailable),
        ({"detail": "what?"}, ProviderUnavailable),
    ],
)
def test_what_is_no_answer(prediction: dict[str, Any], error: type[Exception]) -> None:
    for stream in (True, False):
        with pytest.raises(error):
            ask(Service(prediction), stream=stream)


@pytest.mark.parametrize("model", ["llama", "../files", "meta/..", "/x"])
def test_names_that_are_none(model: str) -> None:
    spec = ProviderSpec(name="replicate", protocol="replicate", base_url="https://api.replicate.com/v1")
    with pytest.raises(RequestRejected, match="owner/name"):
        Replicate().url(spec, ModelCard(id=model), stream=False)
