"""The HTTP client that all providers share in kind: one of these for each origin, made at start.

httpx's interface over aiohttp's wire: httpx's own pool costs four to seven times the CPU a request. The
environment (proxies, netrc) is not read, redirects are not followed, cookies are not kept, and no
compression is asked for, so that the bytes counted are the bytes held.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import math
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, TypeVar, cast

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from httpx_aiohttp import AiohttpTransport

from routing.errors import ProviderTimeout, ProviderUnavailable, ProviderUnreachable

CONNECT_SECONDS = 5.0
"""Name look-up, TCP and TLS together."""
MAX_ANSWER_BYTES = 64 << 20
_KEEP_ALIVE_SECONDS = 30.0
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Translated to the IPv4 address in its last 32 bits (RFC 6052, section 2.1)."""

T = TypeVar("T")


def open_client(*, public_only: bool = False) -> httpx.AsyncClient:
    """A client for one origin; close it with `aclose()`.

    With `public_only` it connects to public addresses only, whatever a name resolves to at that moment:
    for addresses that the operator did not write down.
    """

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=_tls(),
            limit=0,  # concurrency is bounded at the service's edge; a second queue here would only hide it
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            resolver=_PublicResolver() if public_only else None,
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    transport = AiohttpTransport(verify=_tls(), trust_env=False, client=session)
    return _Client(
        transport=_PublicTransport(transport) if public_only else transport,
        headers={"Accept-Encoding": "identity", "User-Agent": "agent-service"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=False,
    )


class _Client(httpx.AsyncClient):
    """httpx's client without what is switched off here anyway: authentication, redirects, cookies and hooks.

    To look for them and find nothing takes as long as to write the request.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self._wire = transport

    async def send(self, request: httpx.Request, *, stream: bool = False, **_: Any) -> httpx.Response:
        response = await self._wire.handle_async_request(request)
        if not stream:
            await response.aread()
        return response


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all: reading the certificates takes 40 ms."""
    return httpx.create_ssl_context(trust_env=False)


class Patience:
    """How long an exchange may still keep us waiting: until its deadline, and for so long without content.

    A context manager for a wait, one at a time: it raises TimeoutError when patience ends first. Only time
    spent waiting counts, so a slow reader of ours is not held against the provider. One timer serves all
    waits until `close()`, because a timer for each would cost a stream more than all that is done with its
    pieces.
    """

    def __init__(self, deadline: float, silence: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline, self._left = deadline, silence
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._limit = self._began = 0.0
        self._waiting: asyncio.Task[Any] | None = None
        self._cancelled = 0
        self._is_over = False

    def __enter__(self) -> None:
        self._waiting = task = asyncio.current_task()
        assert task is not None
        self._cancelled = task.cancelling()
        self._began = self._loop.time()
        limit = self._began + self._left
        self._limit = limit if limit < self._deadline else self._deadline
        if self._rings_at > self._limit:
            self._set(self._limit)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._waiting = self._waiting, None
        self._left -= self._loop.time() - self._began
        if self._is_over:
            self._is_over = False
            assert task is not None
            # As in asyncio.timeout: it may be that somebody else cancelled us, too.
            is_ours = task.uncancel() <= self._cancelled
            if is_ours and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from None

    async def wait(self, work: Awaitable[T]) -> T:
        """The result of `work`. Raises TimeoutError when patience ends first."""
        with self:
            return await work

    def renew(self, silence: float) -> None:
        """Content came: from now on wait `silence` seconds for more."""
        self._left = silence

    def close(self) -> None:
        """Nothing more is waited for."""
        self._rings_at = math.inf
        if self._alarm is not None:
            self._alarm.cancel()

    def _set(self, when: float) -> None:
        self.close()
        self._alarm, self._rings_at = self._loop.call_at(when, self._ring), when

    def _ring(self) -> None:
        """Patience is over, unless it was renewed since the alarm was set."""
        self._alarm, self._rings_at = None, math.inf
        if self._waiting is None:
            return
        if self._loop.time() < self._limit:
            self._set(self._limit)
        else:
            self._is_over = True
            self._waiting.cancel()


def body_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body as it arrives; close it. Wait for it with patience, and see that it is not `too_large`.

    Raises ValueError for a compressed one: none was asked for, and a few kilobytes may unpack to gigabytes.
    """
    if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
        raise ValueError(f"its answer is packed as {encoding[:20]!r}, which was not asked for")
    # `aiter_raw` would count and cut what has the right size already.
    body = aiter(cast(httpx.AsyncByteStream, response.stream))
    assert isinstance(body, AsyncGenerator)
    return body


def too_large() -> ValueError:
    """What is the matter with a body of more than `MAX_ANSWER_BYTES`."""
    return ValueError(f"its answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")


async def pieces(response: httpx.Response, patience: Patience) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, at most `MAX_ANSWER_BYTES` of it.

    Raises ValueError for a longer or a compressed one, and TimeoutError when patience ends.
    """
    async with contextlib.aclosing(body_of(response)) as body:
        size = 0
        while (piece := await patience.wait(anext(body, None))) is not None:
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise too_large()
            yield piece


def was_hung_up(error: httpx.HTTPError) -> bool:
    """Whether a kept connection turned out to be closed before the request was written to it.

    The request was not seen by anybody then and may be sent again (RFC 9112, section 9.3.1). llama.cpp's
    server closes connections after a stream without announcing it.
    """
    cause = error.__cause__
    return isinstance(cause, aiohttp.ClientConnectionResetError) or (
        isinstance(cause, aiohttp.ClientOSError)
        and isinstance(cause.__cause__, aiohttp.ClientConnectionResetError)
    )


@contextlib.contextmanager
def faults_of(provider: str) -> Iterator[None]:
    """Turn whatever goes wrong on the wire into ProviderUnavailable or ProviderTimeout."""
    try:
        yield
    except TimeoutError:
        raise ProviderTimeout(provider, f"{provider} did not answer in time") from None
    except (httpx.TimeoutException, httpx.ConnectError) as error:
        # The transport calls a refused or dropped connection a time-out too; the cause knows better.
        if isinstance(error.__cause__, TimeoutError):
            raise ProviderTimeout(provider, f"{provider} could not be reached in time") from None
        if isinstance(error.__cause__, aiohttp.ServerDisconnectedError):
            raise ProviderUnavailable(provider, f"{provider} dropped the connection") from None
        raise ProviderUnreachable(provider, f"{provider} could not be reached") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, aiohttp.ClientError, OSError) as error:
        kind = type(error).__name__
        raise ProviderUnavailable(provider, f"the connection to {provider} failed ({kind})") from None
    except ValueError as error:
        raise ProviderUnavailable(provider, f"{provider} sent nonsense: {error}") from None


def is_public(address: str) -> bool:
    """Whether an IP address (in words or with a zone) is one that anybody on the internet may have."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = ip.ipv4_mapped or ip.sixtofour or translated or ip
    return ip.is_global and not ip.is_multicast


class _PublicResolver(AbstractResolver):
    """Resolves names to public addresses only. The connection uses what it returns: no second look-up."""

    def __init__(self) -> None:
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        if not all(is_public(each["host"]) for each in found):
            raise OSError("the name leads to an address that is not public")
        return found

    async def close(self) -> None:
        await self._system.close()


class _PublicTransport(httpx.AsyncBaseTransport):
    """Refuses addresses written as numbers, which no resolver gets to see, unless they are public."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        looks_numeric = ":" in host or host.rpartition(".")[2].isdigit()
        if looks_numeric and not is_public(host):
            raise httpx.ConnectError("the address is not public", request=request)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()
