"""The edge's checks of a request's head. A gate passes in silence or raises Refusal; none does I/O."""

from __future__ import annotations

import math
from collections.abc import Collection

from starlette.types import Scope

from agent_service.api.error_codes import ErrorCode


class Refusal(Exception):
    """The request goes no further: what the client is told."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param
        wait = () if retry_after is None else ((b"retry-after", b"%d" % max(1, math.ceil(retry_after))),)
        self.headers = headers + wait


def names_us(scope: Scope, allowed: Collection[str]) -> bool:
    """Whether there is one `Host` header, with a name of ours. A web page with a rebound name has another."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return len(hosts) == 1 and plain_host(hosts[0].decode("latin-1")) in allowed


def origin_gate(scope: Scope, allowed: Collection[str]) -> None:
    """No `Origin`, or one on the list: what keeps other web pages out (403)."""
    for name, value in scope["headers"]:
        if name == b"origin" and value.decode("latin-1").lower() not in allowed:
            raise Refusal(
                ErrorCode.ORIGIN_NOT_ALLOWED,
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
            ErrorCode.NOT_JSON,
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
