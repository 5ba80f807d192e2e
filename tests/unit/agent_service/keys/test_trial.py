"""What proves a key, what refutes it, and what does neither."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from agent_service.keys.trial import Trial, try_out
from routing.config import ModelCard, ProviderSpec
from tests.upstream import ScriptedUpstream, ScriptItem, status


def tried(upstream: ScriptedUpstream, *models: str) -> Trial:
    spec = ProviderSpec(
        name="mine",
        base_url=upstream.base_url,
        api_key=SecretStr("sk-0123456789"),
        models=tuple(ModelCard(id=each) for each in models),
    )
    return asyncio.run(try_out(spec, public_only=False))


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("ok", "accepted"),
        (status(402, "no money"), "accepted"),
        (status(429, "slow down"), "accepted"),
        (status(401, "Incorrect API key"), "refused"),
        (status(400, "API key not valid"), "refused"),
        (status(403, "Authorization failed"), "unknown"),
        (status(404, "no such model"), "unknown"),
        (status(400, "max_tokens is too small"), "unknown"),
        (status(500, "oops"), "unknown"),
    ],
    ids=["answer", "402", "429", "401", "400 key", "403", "404", "400", "500"],
)
def test_only_what_comes_of_a_request_tells_where_anybody_may_list(answer: ScriptItem, state: str) -> None:
    with ScriptedUpstream(otherwise=answer, models=("m1",)) as upstream:
        trial = tried(upstream)
        assert (trial.state, trial.models) == (state, 1)
        assert trial.detail.startswith("1 model listed; ") is (state != "refused")
        assert len(upstream.requests) == 1


def test_a_list_that_breaks_off_does_not_hide_a_wrong_key() -> None:
    async def scenario(port: int) -> Trial:
        address = f"http://127.0.0.1:{port}/v1"
        card = ModelCard(id="m1")
        spec = ProviderSpec(name="mine", base_url=address, api_key=SecretStr("sk-0123456789"), models=(card,))
        return await try_out(spec, public_only=False)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if asked.startswith(b"POST"):
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    async def both() -> Trial:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await scenario(server.sockets[0].getsockname()[1])

    assert asyncio.run(both()).state == "refused"


def test_nothing_to_ask_proves_nothing() -> None:
    with ScriptedUpstream(otherwise="ok", models=()) as upstream:
        assert tried(upstream) == Trial("unknown", "0 models listed", 0)
        assert tried(upstream, "m1").state == "accepted"
