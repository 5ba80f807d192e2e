from __future__ import annotations

import asyncio
from contextlib import closing

import httpx
import pytest

from routing.errors import ProviderTimeout, ProviderUnavailable
from routing.transport import Patience, faults_of, is_public, open_client
from tests.upstream import ScriptedUpstream


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::808:808", True),
        ("2130706433", False),
        ("not an address", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127.1", "[::ffff:127.0.0.1]"])
def test_a_public_only_client_does_not_reach_this_machine(host: str) -> None:
    async def scenario(port: int) -> None:
        async with open_client(public_only=True) as client:
            with pytest.raises(ProviderUnavailable), faults_of("acme"):
                await client.get(f"http://{host}:{port}/v1/models")

    with ScriptedUpstream() as upstream:
        asyncio.run(scenario(upstream.port))
    assert not upstream.lookups


def test_cookies_are_not_kept_and_proxies_of_the_environment_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def scenario(base_url: str) -> httpx.Response:
        async with open_client() as client:
            await client.get(f"{base_url}/models")
            return await client.get(f"{base_url}/models")

    with ScriptedUpstream(headers={"Set-Cookie": "track=me; Path=/"}) as upstream:
        response = asyncio.run(scenario(upstream.base_url))
    assert response.status_code == 200
    assert "cookie" not in response.request.headers


def test_patience_counts_only_time_spent_waiting() -> None:
    async def scenario() -> None:
        patience = Patience(asyncio.get_running_loop().time() + 10, 0.2)
        await patience.wait(asyncio.sleep(0.05))
        await asyncio.sleep(0.3)
        await patience.wait(asyncio.sleep(0.05))
        with pytest.raises(TimeoutError):
            await patience.wait(asyncio.sleep(5))
        patience.renew(0.2)
        await patience.wait(asyncio.sleep(0.01))

    asyncio.run(scenario())


def test_a_deadline_that_has_passed_ends_the_wait_at_once() -> None:
    async def scenario() -> None:
        with faults_of("acme"):
            await Patience(asyncio.get_running_loop().time() - 1, 60).wait(asyncio.sleep(5))

    with pytest.raises(ProviderTimeout):
        asyncio.run(scenario())


def test_one_patience_bears_many_waits_and_tires_in_the_last() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with closing(Patience(loop.time() + 10, 0.15)) as patience:
            for _ in range(4):
                await patience.wait(asyncio.sleep(0.06))
                patience.renew(0.15)
            began = loop.time()
            with pytest.raises(TimeoutError):
                await patience.wait(asyncio.sleep(5))
            assert 0.1 < loop.time() - began < 2

    asyncio.run(scenario())


def test_who_cancels_a_wait_is_not_taken_for_the_end_of_patience() -> None:
    async def waiting(patience: Patience) -> None:
        await patience.wait(asyncio.sleep(5))

    async def scenario() -> None:
        with closing(Patience(asyncio.get_running_loop().time() + 10, 5)) as patience:
            task = asyncio.create_task(waiting(patience))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(1):
                await patience.wait(asyncio.sleep(0.01))

    asyncio.run(scenario())


def test_a_timeout_around_a_wait_is_its_own() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with closing(Patience(loop.time() + 10, 5)) as patience:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await patience.wait(asyncio.sleep(5))
            await patience.wait(asyncio.sleep(0.01))
        current = asyncio.current_task()
        assert current is not None and not current.cancelling()

    asyncio.run(scenario())
