"""Whether a provider takes a key, found out by asking it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from agent_service.model_pool import make_provider
from routing.config import ModelCard, ProviderSpec
from routing.errors import KeyRefused, ProviderError, ProviderTimeout, ProviderUnreachable, RateLimited
from routing.providers.base import Provider

REQUEST_SECONDS = 20.0
"""For the tiny request; one that takes longer proves nothing about the key."""
_TINY = {"messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 16}
State = Literal["accepted", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it."""

    state: State
    """`unknown`: the provider could not be asked, or said nothing about the key."""
    detail: str
    """A sentence, without the key."""
    models: int | None = None
    """How many models the provider lists."""


async def try_out(spec: ProviderSpec, *, public_only: bool) -> Trial:
    """List the provider's models, then send the smallest request there is.

    Some providers list their models to anybody, so a list alone proves nothing: only what comes of the
    request does.
    """
    provider = make_provider(spec, public_only=public_only)
    try:
        return await _try_out(provider)
    finally:
        with suppress(ProviderError):
            await provider.aclose()


async def _try_out(provider: Provider) -> Trial:
    listed: Sequence[ModelCard] | None = None
    silence = "it lists no models"
    try:
        listed = await provider.list_models()
    except KeyRefused as error:
        if error.status in (401, 403):
            return Trial("refused", _said(error))
        silence = _said(error)
    except ProviderError as error:
        if isinstance(error, ProviderTimeout | ProviderUnreachable):
            return Trial("unknown", _said(error))
        silence = _said(error)
    count = None if listed is None else len(listed)
    card = _smallest(provider.spec, listed)
    if card is None:
        return Trial("unknown", silence if count is None else _lists(count), count)
    return await _ask(provider, card, count)


async def _ask(provider: Provider, card: ModelCard, count: int | None) -> Trial:
    """One tiny request."""
    state: State = "accepted"
    said = f"{card.id} answered"
    try:
        await provider.complete(card, _TINY, asyncio.get_running_loop().time() + REQUEST_SECONDS)
    except ProviderError as error:
        state, said = _verdict(error, listed=count is not None), _said(error)
    if count is not None and state != "refused":
        said = f"{_lists(count)}; {said}"
    return Trial(state, said, count)


def _verdict(error: ProviderError, *, listed: bool) -> State:
    """What a failed request tells of the key.

    Whoever talks of our money or of our limits knows it. Where models are listed, a 403 may be about the
    model; other failures are about neither.
    """
    if isinstance(error, RateLimited):
        return "accepted"
    if not isinstance(error, KeyRefused):
        return "unknown"
    if error.status == 402:
        return "accepted"
    return "refused" if error.status == 401 or (error.status == 403 and not listed) else "unknown"


def _smallest(spec: ProviderSpec, listed: Sequence[ModelCard] | None) -> ModelCard | None:
    """A model that costs nothing or little, of those both sides know."""
    there = None if listed is None else {card.id for card in listed}
    known = [card for card in spec.models if there is None or card.id in there]
    return min(known or listed or spec.models, key=_price, default=None)


def _price(card: ModelCard) -> float:
    if card.free:
        return 0.0
    prices = [price for price in (card.input_price, card.output_price) if price is not None]
    return sum(prices) if prices else 1e3


def _said(error: ProviderError) -> str:
    return str(error).rstrip(".")


def _lists(count: int) -> str:
    return f"{count} model{'' if count == 1 else 's'} listed"
