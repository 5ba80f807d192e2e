"""The edge's checks of a request's head. Each passes in silence or raises Refusal; none does I/O."""

from __future__ import annotations

import math
from collections.abc import Collection

from starlette.types import Scope

from agent_service.api.errors import error_type


class Refusal(Exception):
    """The request goes no further: what the client is told."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.kind = error_type(status)
        wait = () if retry_after is None else ((b"retry-after", b"%d" % max(1, math.ceil(retry_after))),)
        self.headers = headers + wait


def host_gate(scope: Scope, allowed: Collection[str]) -> None:
    """One `Host` header, naming us: what keeps a web page with a rebound name out (421)."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 or plain_host(hosts[0].decode("latin-1")) not in allowed:
        raise Refusal(
            421,
            "host_not_allowed",
            "This service does not answer to that Host; the operator can add it to server.allowed_hosts.",
            param="Host",
        )


def origin_gate(scope: Scope, allowed: Collection[str]) -> None:
    """No `Origin`, or one on the list: what keeps other web pages out (403)."""
    for name, value in scope["headers"]:
        if name == b"origin" and value.decode("latin-1").lower() not in allowed:
            raise Refusal(
                403,
                "origin_not_allowed",
                "Web pages of that Origin may not use this service; "
                "the operator can add it to server.allowed_origins.",
                param="Origin",
            )


def content_type_gate(scope: Scope, methods: Collection[str]) -> None:
    """A body says that it is JSON, which no web form can (415)."""
    if scope["method"] not in methods or not _has_body(scope):
        return
    media_type = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise Refusal(
            415,
            "unsupported_media_type",
            "The body must be sent with `Content-Type: application/json`.",
            param="Content-Type",
        )


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name (lower case)."""
    return next((value for known, value in scope["headers"] if known == name), None)


def plain_host(text: str) -> str:
    """A host without port and brackets, in lower case; empty when it is malformed."""
    text = text.strip().lower()
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        port = port.removeprefix(":") if port.startswith(":") else port and "?"
        return host if bracket and ":" in host and _is_port(port) else ""
    if text.count(":") > 1:  # a bare IPv6 address, as a configuration may have it; no browser sends one
        return text
    host, _, port = text.partition(":")
    return host if _is_port(port) else ""


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit())


def _has_body(scope: Scope) -> bool:
    length = header(scope, b"content-length")
    return header(scope, b"transfer-encoding") is not None or (length is not None and length.strip() != b"0")
