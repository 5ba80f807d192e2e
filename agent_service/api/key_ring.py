"""Which principal a request's key stands for."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.types import Scope

from agent_service.api.gates import header
from agent_service.principals import LOCAL, ApiKey, Principal, key_digest


class KeyRing:
    """All keys, by digest. An empty ring lets everybody in as `local`, whatever key they send."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._principals = {key.sha256: (key.sha256, key.principal) for key in keys}

    @property
    def is_empty(self) -> bool:
        return not self._principals

    def principal(self, scope: Scope) -> Principal | None:
        """Whom the request acts for; None without a valid key."""
        if self.is_empty:
            return LOCAL
        key = presented_key(scope)
        if key is None:
            return None
        digest = key_digest(key)
        known, principal = self._principals.get(digest, ("", None))
        return principal if hmac.compare_digest(known, digest) else None


def presented_key(scope: Scope) -> bytes | None:
    """The key in `Authorization: Bearer` or `x-api-key`; keys in an address are not looked at."""
    scheme, _, credentials = (header(scope, b"authorization") or b"").partition(b" ")
    if scheme.lower() == b"bearer" and credentials.strip():
        return credentials.strip()
    return header(scope, b"x-api-key") or None
