"""Providers as the operator writes them, and the rows the router gets from them.

A known name needs no more than a key: the catalogue supplies the rest. Any other name is a server of
the operator's own and needs a `base_url`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError

from agent_service.config_file import ConfigError
from routing.catalogue import known_providers, spec_for
from routing.config import ModelCard, Protocol, ProviderSpec, ToolCalling

KEYLESS = "none"
"""What `api_key` says for a provider that takes requests without a key."""


def _stripped(value: Any) -> Any:
    """A key without the line break that reading it from a file leaves at its end."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError(f"is empty; give the key, or `{KEYLESS}` for a provider that needs none")
    return value.strip()


def _web_address(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value.rstrip("/") if isinstance(value, str) else value


class ProviderSettings(BaseModel):
    """One entry under `providers`. None = as the catalogue says."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api_key: Annotated[SecretStr | None, BeforeValidator(_stripped)] = None
    """The key, or `none`. Absent: the provider's usual environment variable."""
    base_url: Annotated[str | None, BeforeValidator(_web_address)] = None
    models: tuple[ModelCard, ...] | None = None
    protocol: Protocol | None = None
    api_version: str | None = None
    display_name: str | None = None
    tier: Literal["free", "trial", "paid", "local"] | None = None
    tool_calling: ToolCalling | None = None
    headers: dict[str, str] | None = None
    unsupported: frozenset[str] | None = None
    stream_usage: bool | None = None

    def details(self) -> dict[str, Any]:
        """What was given besides key, address and models."""
        apart = {"api_key", "base_url", "models"}
        return {k: v for k, v in self if k not in apart and v is not None}


def configured_specs(
    entries: Mapping[str, ProviderSettings], environ: Mapping[str, str]
) -> tuple[ProviderSpec, ...]:
    """The router's rows for the configured providers. Raises ConfigError."""
    return tuple(_configured(name, entry, environ) for name, entry in entries.items())


def specs_from_environment(environ: Mapping[str, str]) -> tuple[ProviderSpec, ...]:
    """Every known provider whose usual key variable, or address variable, is set.

    A server on this machine needs its address variable: some key variables are shared with the cloud.
    """
    found = []
    for name, known in known_providers().items():
        key = _first_set(known.env_keys, environ)
        address = _first_address(known.env_base_url, environ)
        wanted = address if known.tier == "local" else key or address
        if wanted and _is_complete(address or known.base_url):
            found.append(spec_for(name, _secret(key), base_url=address))
    return tuple(found)


def _configured(name: str, entry: ProviderSettings, environ: Mapping[str, str]) -> ProviderSpec:
    known = known_providers().get(name)
    try:
        if known is None:
            return _own_server(name, entry)
        address = entry.base_url or _first_address(known.env_base_url, environ)
        if not _is_complete(address or known.base_url):
            raise ConfigError(f"providers.{name}.base_url: is needed; the usual form is {known.base_url}")
        key = entry.api_key or _secret(_first_set(known.env_keys, environ))
        if key is None and known.tier != "local":
            usual = " or ".join(known.env_keys) or "its key variable"
            raise ConfigError(
                f"providers.{name}.api_key: is missing; write it here, or set {usual}, "
                f"or write `{KEYLESS}` if none is needed"
            )
        spec = spec_for(
            name, _unless_keyless(key), base_url=address, models=entry.models, protocol=entry.protocol
        )
        return ProviderSpec.model_validate({**dict(spec), **entry.details()})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, ("providers", name, *first["loc"])))
        raise ConfigError(f"{where}: {first['msg']}") from None


def key_variable(name: str, environ: Mapping[str, str]) -> str | None:
    """The environment variable that holds the usual key of that provider, if one is set."""
    known = known_providers().get(name)
    names = known.env_keys if known else ()
    return next((each for each in names if environ.get(each, "").strip()), None)


def _own_server(name: str, entry: ProviderSettings) -> ProviderSpec:
    if entry.base_url is None:
        raise ConfigError(
            f"providers.{name}.base_url: is needed, because {name} is not a provider we know{_nearest(name)}"
        )
    key = _unless_keyless(entry.api_key)
    return ProviderSpec.model_validate(
        {
            "name": name,
            "base_url": entry.base_url,
            "api_key": key,
            "models": entry.models or (),
            "tier": "paid" if key else "local",
            **entry.details(),
        }
    )


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, known_providers(), n=2)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _unless_keyless(key: SecretStr | None) -> SecretStr | None:
    return None if key is None or key.get_secret_value() == KEYLESS else key


def _secret(value: str | None) -> SecretStr | None:
    return SecretStr(value) if value else None


def _first_set(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    return next((environ[name].strip() for name in names if environ.get(name, "").strip()), None)


def _first_address(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """Some of these variables may also hold a bare `host:port` to listen on; only web addresses count."""
    addresses = (environ.get(name, "").strip() for name in names)
    return next((each.rstrip("/") for each in addresses if each.startswith(("http://", "https://"))), None)


def _is_complete(address: str) -> bool:
    return "{" not in address
