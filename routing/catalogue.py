"""What is known of providers and models before anybody asked them: the dated facts in `routing/data`."""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from routing.config import ModelCard, Protocol, ProviderSpec, ToolCalling
from routing.errors import ProviderNotFound, ProviderRetired
from routing.types import Tier

_OFF = ("", "0", "false", "no")


class KnownProvider(BaseModel):
    """A provider that needs nothing but a key, or little more: the rest stands here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    display_name: str
    aliases: tuple[str, ...] = ()
    """Other names that people look for it by; it is not configured by them."""
    protocol: Protocol = "openai-chat"
    base_url: str
    """A part in braces is the user's to fill in: see `address`."""
    base_url_with_parts: str | None = None
    """The address when all the parts are given, where it can do without."""
    env_parts: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Part -> environment variables that may hold it, in look-up order."""
    part_defaults: Mapping[str, str] = Field(default_factory=dict)
    env_keys: tuple[str, ...]
    """Environment variables that usually hold its key, in look-up order; empty = it takes no key."""
    env_keys_shared: frozenset[str] = frozenset()
    """Those of `env_keys` that people set for other services, too: they count where one of `env_switches` is
    set, or where the provider is configured."""
    env_switches: tuple[str, ...] = ()
    """Environment variables that are set for this provider alone; `false` and `0` are as good as unset."""
    env_api_version: tuple[str, ...] = ()
    """Environment variables that may hold the version of its API."""
    env_models: tuple[str, ...] = ()
    """Environment variables that may name its models, separated by commas."""
    env_base_url: tuple[str, ...]
    """Environment variables that may name another address for it, in look-up order."""
    tier: Tier
    unsupported: frozenset[str] = frozenset()
    """Request fields it refuses."""
    stream_usage: bool = True
    """Whether `stream_options.include_usage` is understood."""
    tool_calling: ToolCalling = "native"
    note: str | None = None
    """What there is to know besides."""

    def is_meant_by(self, variable: str, environ: Mapping[str, str]) -> bool:
        """Whether this variable holds a key of its own, and not by chance one for another service."""
        if variable not in self.env_keys_shared:
            return True
        return any(environ.get(name, "").strip().lower() not in _OFF for name in self.env_switches)

    def address(self, environ: Mapping[str, str]) -> str:
        """Its base URL, the parts in braces filled in as far as the environment tells them."""
        told = dict(self.part_defaults)
        for part, names in self.env_parts.items():
            if value := first_set(names, environ):
                told[part] = value
        if self.base_url_with_parts and all(part in told for part in self.env_parts):
            return _filled(self.base_url_with_parts, told)
        return _filled(self.base_url, told)

    def is_at(self, base_url: str) -> bool:
        """Whether the address is its own, whatever stands for the parts in braces."""
        forms = (self.base_url, self.base_url_with_parts or self.base_url)
        own = "|".join(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(form)) for form in forms)
        return re.fullmatch(own, base_url.rstrip("/")) is not None

    def api_version(self, environ: Mapping[str, str]) -> str | None:
        """The version of its API that the environment asks for."""
        return first_set(self.env_api_version, environ)

    def models(self, environ: Mapping[str, str]) -> tuple[ModelCard, ...]:
        """Its models as the environment names them; none where it does not."""
        names = (first_set(self.env_models, environ) or "").split(",")
        return tuple(ModelCard(id=name.strip()) for name in names if name.strip())


class RetiredProvider(BaseModel):
    """A provider that is no more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    aliases: tuple[str, ...] = ()
    """Other names that people know it by."""
    display_name: str
    since: str
    """The day."""
    what: str
    """What became of it."""
    instead: str
    """What to use now."""
    source: str

    @property
    def words(self) -> str:
        """All of that as a sentence."""
        return f"{self.display_name} {self.what} (since {self.since}); use {self.instead}."


@functools.cache
def known_providers() -> Mapping[str, KnownProvider]:
    """The shipped providers by id, read on first use."""
    rows = shipped("providers.json")["providers"]
    return MappingProxyType({row["id"]: KnownProvider.model_validate(row) for row in rows})


@functools.cache
def retired_providers() -> Mapping[str, RetiredProvider]:
    """The providers that are no more by id, read on first use."""
    rows = shipped("providers.json")["retired"]
    return MappingProxyType({row["id"]: RetiredProvider.model_validate(row) for row in rows})


def retired(name: str) -> RetiredProvider | None:
    """The provider of that name, or of that other name, if it is known to be no more."""
    return next((each for each in retired_providers().values() if name in (each.id, *each.aliases)), None)


def nearest_providers(name: str, others: Iterable[str] = ()) -> tuple[str, ...]:
    """The providers that were probably meant, at most two: shipped ones, and these others.

    Shipped ones are known by their display names and aliases, too; what is exactly one of them is it.
    """
    meant = _plain(name[:64])
    spellings: dict[str, str] = {_plain(each): each for each in others}
    for each in known_providers().values():
        for spelling in (each.id, each.display_name, *each.aliases):
            spellings.setdefault(_plain(spelling), each.id)
    if meant in spellings:
        return (spellings[meant],)
    close = difflib.get_close_matches(meant, [*spellings], n=4)
    return tuple(dict.fromkeys(spellings[each] for each in close))[:2]


def _plain(name: str) -> str:
    return "".join(each for each in name.casefold() if each.isalnum())


def first_set(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """The value of the first of these variables that holds anything."""
    return next((environ[name].strip() for name in names if environ.get(name, "").strip()), None)


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
    environ: Mapping[str, str] = MappingProxyType({}),
) -> ProviderSpec:
    """The row of a shipped provider with the user's key in it.

    What is not given, `environ` may tell where the row says so: parts of the address, the API's version, the
    models. `models` replaces the shipped ones. At another `base_url` other models may live: without `models`,
    it is asked which. `protocol` replaces the format that it usually speaks. Raises ProviderRetired for one
    that is no more, ProviderNotFound, with the nearest names, for any other.
    """
    known = known_providers().get(name)
    if known is None:
        if gone := retired(name):
            raise ProviderRetired(name, gone.words)
        raise ProviderNotFound(name[:64], nearest_providers(name))
    elsewhere = base_url is not None and not known.is_at(base_url)
    if models is None:
        models = known.models(environ) or (() if elsewhere else known_models(name))
    return ProviderSpec(
        name=known.id,
        display_name=known.display_name,
        protocol=protocol or known.protocol,
        base_url=base_url or known.address(environ),
        api_key=SecretStr(api_key) if isinstance(api_key, str) else api_key,
        tier=known.tier,
        models=tuple(models),
        unsupported=frozenset() if elsewhere else known.unsupported,
        stream_usage=known.stream_usage,
        api_version=known.api_version(environ),
        tool_calling=known.tool_calling,
    )


def _filled(address: str, parts: Mapping[str, str]) -> str:
    for part, value in parts.items():
        address = address.replace(f"{{{part}}}", quote(value, safe=""))
    return address


@functools.cache
def _models() -> Mapping[str, tuple[ModelCard, ...]]:
    cards: dict[str, list[ModelCard]] = {}
    for row in shipped("models.json")["models"]:
        cards.setdefault(row.pop("provider"), []).append(ModelCard.model_validate(row))
    return {provider: tuple(of_provider) for provider, of_provider in cards.items()}


def shipped(name: str) -> dict[str, Any]:
    """The content of a file of `routing/data`."""
    content: dict[str, Any] = json.loads(resources.files("routing.data").joinpath(name).read_bytes())
    return content
