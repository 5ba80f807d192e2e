"""What the router needs from a provider: answer one request, whole or as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from routing.config import ModelCard, ProviderSpec
from routing.types import ChatChunk


class Provider(Protocol):
    """One account at one provider. Safe to use from many tasks at once; never retries by itself."""

    @property
    def spec(self) -> ProviderSpec: ...

    async def complete(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """A checked OpenAI chat completion object.

        `body` has no `model` and no `stream`; `deadline` is on the event loop's clock. Raises
        ProviderError (or a subclass), nothing else.
        """
        ...

    def stream(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> AsyncIterator[ChatChunk]:
        """The chunks of a streamed answer, up to and without `[DONE]`; asks for usage.

        The first comes with the first sign of life: words, thoughts, or that the model thinks. Of several
        usages the last holds; those before it are for an answer that breaks off.
        Raises ProviderError as soon as something is wrong, also in the middle (a stream that ends
        without a finish reason is wrong). Closing the iterator closes the connection.
        """
        ...

    async def list_models(self) -> list[ModelCard]:
        """The models the provider offers now. Raises ProviderError."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
