"""What is known of providers and models before anybody asked them: the dated facts in `routing/data`."""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from routing.config import ModelCard, Protocol, ProviderSpec
from routing.errors import ProviderNotFound


class KnownProvider(BaseModel):
    """A provider that needs nothing but a key: the rest stands here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    display_name: str
    protocol: Protocol = "openai-chat"
    base_url: str
    """A part in braces is the user's to fill in, with `base_url` of `spec_for`."""
    env_keys: tuple[str, ...]
    """Environment variables that usually hold its key, in look-up order; empty = it takes no key."""
    env_base_url: tuple[str, ...]
    """Environment variables that may name another address for it, in look-up order."""
    tier: Literal["free", "trial", "paid", "local"]
    unsupported: frozenset[str] = frozenset()
    """Request fields it refuses."""
    stream_usage: bool = True
    """Whether `stream_options.include_usage` is understood."""


@functools.cache
def known_providers() -> Mapping[str, KnownProvider]:
    """The shipped providers by id, read on first use."""
    rows = _read("providers.json")["providers"]
    return MappingProxyType({row["id"]: KnownProvider.model_validate(row) for row in rows})


def known_models(provider: str) -> tuple[ModelCard, ...]:
    """The shipped models of a provider; none if there are none, or no such provider."""
    return _models().get(provider, ())


def spec_for(
    name: str,
    api_key: str | SecretStr | None,
    *,
    base_url: str | None = None,
    models: Iterable[ModelCard] | None = None,
    protocol: Protocol | None = None,
) -> ProviderSpec:
    """The row of a shipped provider with the user's key in it.

    `models` replaces the shipped ones. At another `base_url` other models may live: without `models`, it
    is asked which. `protocol` replaces the format that it usually speaks. Raises ProviderNotFound, with the
    nearest names.
    """
    known = known_providers().get(name)
    if known is None:
        raise ProviderNotFound(name[:64], tuple(difflib.get_close_matches(name[:64], known_providers())))
    elsewhere = base_url is not None and not _is_at(known, base_url)
    if models is None:
        models = () if elsewhere else known_models(name)
    return ProviderSpec(
        name=known.id,
        display_name=known.display_name,
        protocol=protocol or known.protocol,
        base_url=base_url or known.base_url,
        api_key=SecretStr(api_key) if isinstance(api_key, str) else api_key,
        tier=known.tier,
        models=tuple(models),
        unsupported=frozenset() if elsewhere else known.unsupported,
        stream_usage=known.stream_usage,
    )


def _is_at(known: KnownProvider, base_url: str) -> bool:
    """Whether the address is the provider's own, whatever stands for the parts in braces."""
    own = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(known.base_url))
    return re.fullmatch(own, base_url.rstrip("/")) is not None


@functools.cache
def _models() -> Mapping[str, tuple[ModelCard, ...]]:
    cards: dict[str, list[ModelCard]] = {}
    for row in _read("models.json")["models"]:
        cards.setdefault(row.pop("provider"), []).append(ModelCard.model_validate(row))
    return {provider: tuple(of_provider) for provider, of_provider in cards.items()}


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(resources.files("routing.data").joinpath(name).read_bytes())
    return content
