"""Errors of the routing room, grouped by what the caller can do about them.

RoutingError
  NoProviderConfigured                  -> configure one
  NoProviderAvailable(retry_after)      -> wait
  ModelNotFound(name, nearest)          -> another name
  ProviderNotFound(name, nearest)       -> another name
    ProviderRetired(name)               -> another provider
  Unsupported(feature)                  -> no configured model can ever serve the request
  ProviderError(provider, status)
    RateLimited(retry_after)            -> next provider, come back later
    ProviderUnavailable                 -> again, then next provider     (408, 5xx, connection, bad answer)
      ProviderTimeout                   -> the same, and 504 at the end
      ProviderUnreachable               -> the same; none of its models can be asked
    KeyRefused                          -> park that key or model, next provider   (401, 402, 403, 404)
      AccountGone                       -> choose anew
    ContextTooLong                      -> a bigger window
    RequestRejected                     -> the same everywhere
      ContentRefused                    -> another wording
    StreamCut(usage)                    -> too late: text went out already
"""

from __future__ import annotations

from routing.types import Usage


class RoutingError(Exception):
    """No answer could be had."""


class NoProviderConfigured(RoutingError):
    """There is no provider at all. The message names the quickest ways out."""


class NoProviderAvailable(RoutingError):
    """All suitable providers are down or cooling down just now."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _NotFound(RoutingError):
    kind = "name"

    def __init__(self, name: str, nearest: tuple[str, ...] = (), there: tuple[str, ...] = ()) -> None:
        """`there` are some that there are, told where none is near."""
        hint = f" There are {', '.join(there)} and perhaps others." if there else ""
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else hint
        super().__init__(f"There is no {self.kind} named {name!r}.{hint}")
        self.name, self.nearest = name, nearest


class ModelNotFound(_NotFound):
    """No configured provider has a model of that name."""

    kind = "model"


class ProviderNotFound(_NotFound):
    """No provider of that name is configured."""

    kind = "provider"


class ProviderRetired(ProviderNotFound):
    """A provider that is no more. The message says since when, and what to use instead."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(name)
        self.args = (words,)


class Unsupported(RoutingError):
    """No configured model can ever serve this request (tools, images, window)."""


class ProviderError(RoutingError):
    """A provider answered with a fault, or not at all. The message is redacted and safe to show."""

    def __init__(self, provider: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.provider, self.status = provider, status


class RateLimited(ProviderError):
    """The provider wants fewer requests."""

    def __init__(
        self, provider: str, message: str, status: int | None = 429, *, retry_after: float | None = None
    ) -> None:
        super().__init__(provider, message, status)
        self.retry_after = retry_after


class ProviderUnavailable(ProviderError):
    """The provider is down, unreachable, or its answer makes no sense."""


class ProviderTimeout(ProviderUnavailable):
    """The provider did not answer in time."""


class ProviderUnreachable(ProviderUnavailable):
    """Nobody takes connections at the provider's address."""


class KeyRefused(ProviderError):
    """The provider refuses our key, account or model."""


class AccountGone(KeyRefused):
    """The account was taken out of service before it could be asked. Says nothing about it."""


class ContextTooLong(ProviderError):
    """The request does not fit the model's window."""


class RequestRejected(ProviderError):
    """The provider says that the request itself is wrong, or refuses its content."""


class ContentRefused(RequestRejected):
    """The provider's policy forbids the request or its answer. No other is asked instead."""


class StreamCut(ProviderError):
    """The answer broke off after part of it was passed on. What was received is not a whole answer."""

    def __init__(self, provider: str, message: str, usage: Usage | None = None) -> None:
        super().__init__(provider, message)
        self.usage = usage
