"""What every provider promises, checked on each way there is to make one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import orjson
import pytest

from routing.config import ModelCard, ProviderSpec
from routing.errors import ProviderError, ProviderTimeout, ProviderUnavailable, RateLimited
from routing.providers.base import Provider
from routing.providers.constrained import ConstrainedProvider
from routing.providers.formats import http_provider
from routing.transport import open_client
from routing.types import ChatChunk
from tests.upstream import ScriptedUpstream, Step, calls, hang, html, raw, says, status


def action(tool: str, **arguments: Any) -> Step:
    return says(json.dumps({"tool": tool, "arguments": arguments}, ensure_ascii=False))


class Make(NamedTuple):
    """A way to make a provider, and how a model behind it says something or calls a tool."""

    card: ModelCard
    wraps: bool
    text: Callable[[str], Step]
    call: Callable[[str, Mapping[str, Any]], Step]

    def provider(self, base_url: str) -> Provider:
        inner = http_provider(ProviderSpec(name="acme", base_url=base_url), open_client())
        return ConstrainedProvider(inner) if self.wraps else inner


MAKES = {
    "openai_compatible": Make(ModelCard(id="m"), False, says, lambda name, args: calls((name, args))),
    "constrained, native model": Make(ModelCard(id="m"), True, says, lambda name, args: calls((name, args))),
    "constrained, weak model": Make(
        ModelCard(id="m", tool_calling="constrained"),
        True,
        lambda text: action("finish", message=text),
        lambda name, args: action(name, **args),
    ),
}
TOOL = {
    "type": "function",
    "function": {
        "name": "greet",
        "description": "Greet somebody.",
        "parameters": {
            "type": "object",
            "properties": {"whom": {"type": "string"}},
            "required": ["whom"],
            "additionalProperties": False,
        },
    },
}
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "say hello"}], "tools": [TOOL]}

make_each = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())


def run(make: Make, upstream: ScriptedUpstream, work: Callable[[Provider], Awaitable[Any]]) -> Any:
    async def scenario() -> Any:
        provider = make.provider(upstream.base_url)
        try:
            return await work(provider)
        finally:
            await provider.aclose()

    return asyncio.run(scenario())


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def streamed(provider: Provider, make: Make, seconds: float = 5.0) -> list[ChatChunk]:
    return [chunk async for chunk in provider.stream(make.card, BODY, soon(seconds))]


async def until(condition: Callable[[], bool]) -> None:
    """Wait, two seconds at most, for something the server's own thread does."""
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.005)


@make_each
def test_a_whole_answer(make: Make) -> None:
    with ScriptedUpstream([make.text("grüß dich")]) as upstream:
        answer = run(make, upstream, lambda provider: provider.complete(make.card, BODY, soon()))
    choice = answer["choices"][0]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "grüß dich"
    assert choice["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    assert not upstream.refusals


@make_each
def test_a_streamed_answer(make: Make) -> None:
    with ScriptedUpstream([make.text("one two three")]) as upstream:
        chunks = run(make, upstream, lambda provider: streamed(provider, make))
    assert "".join(chunk.delta.get("content") or "" for chunk in chunks) == "one two three"
    reasons = [c["finish_reason"] for chunk in chunks for c in chunk.data["choices"] if c["finish_reason"]]
    assert reasons == ["stop"]
    assert next(chunk.data["usage"] for chunk in chunks if chunk.data.get("usage"))["total_tokens"] == 18
    assert all(orjson.loads(chunk.raw) == chunk.data for chunk in chunks)
    assert all(chunk.data["object"] == "chat.completion.chunk" for chunk in chunks)


@make_each
def test_a_tool_call_whole_and_streamed(make: Make) -> None:
    wanted = {"whom": 'the "world"\n😀'}
    with ScriptedUpstream([make.call("greet", wanted), make.call("greet", wanted)]) as upstream:

        async def both(provider: Provider) -> tuple[dict[str, Any], list[ChatChunk]]:
            whole = await provider.complete(make.card, BODY, soon())
            return whole, await streamed(provider, make)

        whole, chunks = run(make, upstream, both)
    (call,) = whole["choices"][0]["message"]["tool_calls"]
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert call["type"] == "function" and call["id"]
    assert json.loads(call["function"]["arguments"]) == wanted
    pieces = [piece for chunk in chunks for piece in chunk.delta.get("tool_calls") or ()]
    assert {piece["index"] for piece in pieces} == {0}
    assert pieces[0]["id"] and pieces[0]["id"] != call["id"]
    assert pieces[0]["function"]["name"] == "greet"
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == wanted


@make_each
@pytest.mark.parametrize(
    ("step", "error"), [(status(429, retry_after=3), RateLimited), (html(), ProviderUnavailable)]
)
def test_faults_are_provider_errors_and_are_not_repeated(
    make: Make, step: Step, error: type[ProviderError]
) -> None:
    with ScriptedUpstream([step, step]) as upstream:
        with pytest.raises(error):
            run(make, upstream, lambda provider: provider.complete(make.card, BODY, soon()))
        with pytest.raises(error):
            run(make, upstream, lambda provider: streamed(provider, make))
        assert len(upstream.requests) == 2


@make_each
def test_the_deadline_holds(make: Make) -> None:
    began = time.monotonic()
    with ScriptedUpstream([hang(), hang()]) as upstream:
        with pytest.raises(ProviderTimeout):
            run(make, upstream, lambda provider: provider.complete(make.card, BODY, soon(0.2)))
        with pytest.raises(ProviderTimeout):
            run(make, upstream, lambda provider: streamed(provider, make, 0.2))
    assert time.monotonic() - began < 3


@make_each
def test_many_at_once_do_not_mix(make: Make) -> None:
    def repeat(body: dict[str, Any]) -> Step:
        return make.text(body["messages"][-1]["content"])

    with ScriptedUpstream(otherwise=repeat) as upstream:

        async def work(provider: Provider) -> list[str]:
            async def one(number: int) -> str:
                body = {**BODY, "messages": [{"role": "user", "content": f"number {number}"}]}
                answer = await provider.complete(make.card, body, soon())
                text: str = answer["choices"][0]["message"]["content"]
                return text

            return await asyncio.gather(*(one(number) for number in range(20)))

        assert run(make, upstream, work) == [f"number {number}" for number in range(20)]


@make_each
def test_cancelling_ends_the_request_upstream(make: Make) -> None:
    with ScriptedUpstream([hang()]) as upstream:

        async def work(provider: Provider) -> None:
            asking = asyncio.ensure_future(provider.complete(make.card, BODY, soon(30)))
            await until(lambda: bool(upstream.requests))
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await until(lambda: upstream.abandoned > 0)

        run(make, upstream, work)
        assert upstream.abandoned == 1


@make_each
def test_leaving_a_stream_ends_the_request_upstream(make: Make) -> None:
    first = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    endless = raw(first, *[b": waiting\n"] * 2000, content_type="text/event-stream", pause=0.01)
    with ScriptedUpstream([hang() if make.card.tool_calling else endless]) as upstream:

        async def work(provider: Provider) -> None:
            chunks = provider.stream(make.card, BODY, soon(20))
            reading = asyncio.ensure_future(anext(chunks))
            await until(lambda: bool(upstream.requests))
            if make.card.tool_calling:  # nothing comes before the action is whole
                reading.cancel()
            else:
                await reading
            await asyncio.wait([reading])
            await chunks.aclose()  # type: ignore[attr-defined]
            await until(lambda: upstream.abandoned > 0)

        run(make, upstream, work)
        assert upstream.abandoned == 1


@make_each
def test_models_and_spec(make: Make) -> None:
    with ScriptedUpstream(models=("a", "b")) as upstream:

        async def work(provider: Provider) -> list[str]:
            assert provider.spec.name == "acme"
            return [card.id for card in await provider.list_models()]

        assert run(make, upstream, work) == ["a", "b"]


@make_each
def test_the_request_is_not_changed(make: Make) -> None:
    before = json.dumps(BODY)
    with ScriptedUpstream([make.text("x")]) as upstream:
        run(make, upstream, lambda provider: provider.complete(make.card, BODY, soon()))
    assert json.dumps(BODY) == before
