"""What one API looks like on the wire, as far as it differs from the next: addresses, headers, bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from routing.config import ModelCard, ProviderSpec
from routing.providers.credentials import Credentials
from routing.types import ChatChunk

MALFORMED = (LookupError, TypeError, AttributeError, ValueError, RecursionError)
"""What looking into data raises that is not what it should be."""


class EventReader(Protocol):
    """Reads the events of one streamed answer, in their order."""

    thinking: bool
    """The model has begun to think and may be silent over it for longer than usual."""
    ended: bool
    """Nothing more is to come, although the connection may stay open."""

    def read(self, event: ChatChunk) -> Sequence[ChatChunk] | None:
        """What the event says, in OpenAI's chunks; maybe nothing. None if it is no sign of life (a ping).

        Raises ProviderError when the event tells of a fault; LookupError, TypeError, AttributeError or
        ValueError when it is not what it should be.
        """
        ...


class WireFormat(Protocol):
    """Translates requests out of OpenAI's chat completions, and answers into them. Knows no network."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        """Where requests to this model go. Never holds the key."""
        ...

    def models_url(self, spec: ProviderSpec) -> str:
        """Where the models are listed. Raises ProviderError if nowhere."""
        ...

    def headers(self, spec: ProviderSpec) -> dict[str, str]:
        """What each request must carry besides the key; the operator's own headers come before these."""
        ...

    def credentials(self, spec: ProviderSpec, key: str) -> dict[str, str] | Credentials:
        """The headers that carry the key, or what gets them."""
        ...

    def request(
        self, spec: ProviderSpec, card: ModelCard, body: Mapping[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        """The request to send. `body` holds no field of `spec.unsupported`, and stays as it is.

        Raises RequestRejected for what the format has no words for; LookupError, TypeError,
        AttributeError or ValueError when the body is malformed.
        """
        ...

    def error(self, data: dict[str, Any]) -> Any:
        """The error object (`message`, `code`) within what was sent as an answer; falsy if there is none."""
        ...

    def status(self, status: int, body: Any) -> int:
        """The status that says what a refusal means, where this API's own says something else."""
        ...

    def answer(self, provider: str, card: ModelCard, data: dict[str, Any]) -> dict[str, Any]:
        """A whole answer as an OpenAI chat completion. Raises as `EventReader.read` does."""
        ...

    def reader(self, provider: str, card: ModelCard) -> EventReader:
        """For one streamed answer."""
        ...

    def cards(self, listing: Any) -> list[ModelCard] | None:
        """The chat models in the answer of `models_url`; None if it is no list of models."""
        ...
