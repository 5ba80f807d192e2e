"""What proves to a provider who we are, where a fixed header is not enough."""

from __future__ import annotations

from typing import Protocol

import httpx

from routing.transport import Patience


class Credentials(Protocol):
    """Proof that is renewed from time to time. Safe to use from many tasks at once."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of it must not be shown."""
        ...

    async def headers(self, client: httpx.AsyncClient, patience: Patience) -> dict[str, str]:
        """What a request must carry now; the proof is renewed over the client if need be.

        Raises ProviderError, TimeoutError, httpx.HTTPError, or ValueError for an answer that makes no sense.
        """
        ...
