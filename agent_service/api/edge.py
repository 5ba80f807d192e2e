"""The HTTP edge: what is checked before any route runs. Pure ASGI, one layer, checks in a fixed order.

Host, Origin, content type, key, admin rights, rate, load, body size: the first that objects answers, in
OpenAI's error shape. Routes find whom the request acts for in `request.state.principal`: a `Principal`,
or None on the open paths (`/` and `/health`) when no valid key came along; those show no details then.
`/health` answers to any Host, but to one that is not ours only whoever brings a key is known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.api.error_codes import ErrorCode
from agent_service.api.gates import (
    Refusal,
    content_type_gate,
    header,
    names_us,
    origin_gate,
    plain_host,
)
from agent_service.api.key_ring import KeyRing
from agent_service.api.peer import same_user
from agent_service.api.rate_limit import RateLimit
from agent_service.principals import Principal
from agent_service.sections import ServerSettings, is_wildcard

HEALTH_PATH = "/health"
"""Reachable by any name, since a load balancer asks by address whether the service lives."""
OPEN_PATHS = frozenset({"/", HEALTH_PATH})
"""Reachable without a key."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """What the edge lets through."""

    hosts: frozenset[str] = _LOOPBACK_NAMES
    """Lower case, without port or brackets."""
    origins: frozenset[str] = frozenset()
    """Lower case."""
    keys: KeyRing = field(default_factory=KeyRing)
    max_body_bytes: int = 8 * 1024 * 1024
    max_body_seconds: float = 60.0
    """How long a body may take to arrive."""
    max_in_flight: int = 128
    requests_per_minute: int | None = None
    peer_allowed: Callable[[Scope], bool] = same_user
    """Whether a keyless request comes from somebody who may use this account."""

    @classmethod
    def from_settings(cls, server: ServerSettings) -> EdgeConfig:
        """The edge that the operator asked for."""
        configured = {plain_host(name) for name in server.allowed_hosts}
        own = set() if is_wildcard(server.host) else {server.host.lower()}
        return cls(
            hosts=_LOOPBACK_NAMES | configured | own,
            origins=frozenset(origin.lower() for origin in server.allowed_origins),
            keys=KeyRing(server.api_keys),
            max_body_bytes=server.max_body_bytes,
            max_in_flight=server.max_in_flight,
            requests_per_minute=server.requests_per_minute,
        )


def protect(app: ASGIApp, config: EdgeConfig, clock: Callable[[], float] = time.monotonic) -> ASGIApp:
    """The app behind the edge. `clock` counts seconds, for the rate limit."""
    return _Edge(app, config, RateLimit(config.requests_per_minute, clock))


class _Edge:
    def __init__(self, app: ASGIApp, config: EdgeConfig, rate: RateLimit) -> None:
        self._app, self._config, self._rate = app, config, rate
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "not offered"})
            return
        answer = _Answering(send)
        try:
            self._admit(scope)
            if scope["method"] in _WITH_BODY:
                await self._serve_with_body(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)
        except Refusal as refusal:
            await _answer(refusal, answer)
        except asyncio.CancelledError:  # by the server, whose patience at a shutdown is over
            if not answer.begun:
                words = "The service is shutting down; try again when it is back."
                await _answer(Refusal(ErrorCode.SHUTTING_DOWN, words, retry_after=5), answer)

    def _admit(self, scope: Scope) -> None:
        """Let the request in and note its principal, or raise Refusal."""
        ours = names_us(scope, self._config.hosts)
        if not ours and scope["path"] != HEALTH_PATH:
            raise Refusal(
                ErrorCode.HOST_NOT_ALLOWED,
                "This service does not answer to that Host; the operator can add it to server.allowed_hosts.",
                param="Host",
            )
        origin_gate(scope, self._config.origins)
        content_type_gate(scope, _WITH_BODY)
        principal = self._authenticate(scope)
        if not ours and self._config.keys.is_empty:
            principal = None  # it may be a web page with a rebound name: it learns that we live, and no more
        scope.setdefault("state", {})["principal"] = principal
        if principal is None:
            return
        path = scope["path"]
        if (path == "/api" or path.startswith("/api/")) and not principal.admin:
            raise Refusal(ErrorCode.ADMIN_REQUIRED, "This needs an admin key.")
        if wait := self._rate.take(principal.name):
            raise Refusal(ErrorCode.RATE_LIMITED, "Too many requests; slow down.", retry_after=wait)

    def _authenticate(self, scope: Scope) -> Principal | None:
        principal = self._config.keys.principal(scope)
        if principal is None:
            if scope["path"] in OPEN_PATHS and scope["method"] not in _WITH_BODY:
                return None
            raise Refusal(
                ErrorCode.INVALID_API_KEY,
                "A valid key is needed, as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
                headers=((b"www-authenticate", b"Bearer"),),
            )
        if self._config.keys.is_empty and not self._config.peer_allowed(scope):
            raise Refusal(
                ErrorCode.OTHER_USER,
                "Without keys only the user that runs this service may use it; server.api_keys opens it.",
            )
        return principal

    async def _serve_with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A cancel must get through just when everything is busy.
        counts = not scope["path"].endswith("/cancel")
        if counts and self._in_flight >= self._config.max_in_flight:
            raise Refusal(ErrorCode.OVERLOADED, "Too many requests at once; try again.", retry_after=1)
        self._in_flight += counts
        try:
            body = await self._read_body(scope, receive)
            if body is not None:
                await self._app(scope, _replay(body, receive), send)
        finally:
            self._in_flight -= counts

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body, counted while it arrives; None when the client left."""
        limit = self._config.max_body_bytes
        declared = header(scope, b"content-length") or b"0"
        if declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._config.max_body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size, more = size + len(part), message.get("more_body", False)
                    if size > limit:
                        raise _too_large(limit)
                    parts.append(part)
        except TimeoutError:
            raise Refusal(ErrorCode.BODY_TIMEOUT, "The body did not arrive in time.") from None
        return b"".join(parts)


def _too_large(limit: int) -> Refusal:
    return Refusal(ErrorCode.TOO_LARGE, f"The body is larger than {limit:,} bytes.")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body first, and then whatever the connection says."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


class _Answering:
    """Through this a request is answered: it adds the security headers, and knows whether that has begun."""

    __slots__ = ("_send", "begun")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    def __call__(self, message: Message) -> Awaitable[None]:  # every piece of a stream passes: no coroutine
        if message["type"] == "http.response.start":
            self.begun = True
            message = {**message, "headers": [*message.get("headers", ()), *_SECURITY_HEADERS]}
        return self._send(message)


async def _answer(refusal: Refusal, send: Send) -> None:
    """Refuse, and close: an unread body would otherwise keep flowing in."""
    content = orjson.dumps(refusal.code.body(refusal.message, refusal.param))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (b"connection", b"close"),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.code.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
