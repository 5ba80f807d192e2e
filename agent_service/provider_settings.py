"""Providers as the operator writes them, and the rows the router gets from them.

A known name needs no more than a key: the catalogue supplies the rest. Any other name is a server of
the operator's own and needs a `base_url`.

A provider may have several accounts: separate projects, organisations or paid tiers of their owner's. The key
beside the others is that of the account `default`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from agent_service.config_file import ConfigError
from routing.catalogue import first_set, known_providers, nearest_providers, retired, spec_for
from routing.config import DEFAULT_ACCOUNT, ModelCard, Protocol, ProviderSpec, RateLimits, ToolCalling
from routing.types import Tier

KEYLESS = "none"
"""What `api_key` says for a provider that takes requests without a key."""


class KeyMissing(ConfigError):
    """A provider needs a key, and neither the configuration nor the environment has one."""


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


def _account_name(name: Any) -> Any:
    if name == DEFAULT_ACCOUNT:
        raise ValueError("is the account whose api_key stands beside `accounts`; name this one otherwise")
    return name


Key = Annotated[SecretStr, BeforeValidator(_stripped)]
AccountName = Annotated[
    str, BeforeValidator(_account_name), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")
]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    def given(self, *, apart: Collection[str]) -> dict[str, Any]:
        """What was given besides these."""
        return {name: value for name, value in self if name not in apart and value is not None}


class AccountSettings(_Row):
    """One entry under `accounts` of a provider. None = as the provider's own entry says."""

    api_key: Key
    tier: Tier | None = None
    headers: dict[str, str] | None = None
    """Laid over those of the provider: some tell projects of one key apart by a header."""
    cap_usd_per_day: float | None = Field(default=None, ge=0)
    limits: RateLimits | None = None


class ProviderSettings(_Row):
    """One entry under `providers`. None = as the catalogue says."""

    api_key: Key | None = None
    """The key, or `none`. Absent: the provider's usual environment variable, and those numbered after it."""
    accounts: dict[AccountName, AccountSettings] = Field(default_factory=dict)
    """Further accounts, by names of the operator's choice."""
    cap_usd_per_day: float | None = Field(default=None, ge=0)
    """The most that may be spent at an account in a day (UTC), in US dollars; 0 = only what is free."""
    limits: RateLimits | None = None
    """Of each account, besides those that the provider tells."""
    base_url: Annotated[str | None, BeforeValidator(_web_address)] = None
    models: tuple[ModelCard, ...] | None = None
    protocol: Protocol | None = None
    api_version: str | None = None
    display_name: str | None = None
    tier: Tier | None = None
    tool_calling: ToolCalling | None = None
    headers: dict[str, str] | None = None
    unsupported: frozenset[str] | None = None
    stream_usage: bool | None = None

    def details(self) -> dict[str, Any]:
        """What was given besides keys, address and models."""
        return self.given(apart={"api_key", "accounts", "base_url", "models"})


def configured_specs(
    entries: Mapping[str, ProviderSettings],
    environ: Mapping[str, str],
    keyless: dict[str, str] | None = None,
) -> tuple[ProviderSpec, ...]:
    """The router's rows for the configured providers. Raises ConfigError.

    `keyless` takes up the providers that lack their key, each with what to do about it; they have no rows
    then. None = a missing key is an error like any other.
    """
    specs: list[ProviderSpec] = []
    for name, entry in entries.items():
        try:
            specs += _configured(name, entry, environ)
        except KeyMissing as error:
            if keyless is None:
                raise
            keyless[name] = str(error)
    return tuple(specs)


def specs_from_environment(environ: Mapping[str, str]) -> tuple[ProviderSpec, ...]:
    """Every account of a known provider whose usual key variable, or address variable, is set.

    A server on this machine needs its address variable: some key variables are shared with the cloud.
    Others are shared with other services, and count only beside a variable of the provider's own.
    """
    found: list[ProviderSpec] = []
    for name, known in known_providers().items():
        variables = {
            account: variable
            for account, variable in key_variables(name, environ).items()
            if known.is_meant_by(variable, environ)
        }
        address = _first_address(known.env_base_url, environ)
        wanted = address if known.tier == "local" else variables or address
        if wanted and _is_complete(address or known.address(environ)):
            keys: dict[str, SecretStr | None] = {DEFAULT_ACCOUNT: None}
            keys = {each: SecretStr(environ[where].strip()) for each, where in variables.items()} or keys
            specs = [
                spec_for(name, key, base_url=address, environ=environ).model_copy(update={"account": account})
                for account, key in keys.items()
            ]
            found += [each for number, each in enumerate(specs) if not _double(each, specs[:number])]
    return tuple(found)


def key_variables(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Account -> the environment variable that holds its key, of the provider's usual ones that are set.

    `GROQ_API_KEY` is that of the account `default`, `GROQ_API_KEY_2` that of the account `2`.
    """
    known = known_providers().get(name)
    found: dict[str, str] = {}
    for usual in known.env_keys if known else ():
        if environ.get(usual, "").strip():
            found.setdefault(DEFAULT_ACCOUNT, usual)
    for usual in known.env_keys if known else ():
        numbered = re.compile(rf"{re.escape(usual)}_?(\d{{1,3}})")
        numbers = {match[1]: each for each in environ if (match := numbered.fullmatch(each))}
        for number in sorted(numbers, key=int):
            if environ[numbers[number]].strip():
                found.setdefault(number, numbers[number])
    return found


def _configured(name: str, entry: ProviderSettings, environ: Mapping[str, str]) -> list[ProviderSpec]:
    """The accounts of one entry."""
    try:
        default = _default_spec(name, entry, environ)
        specs = list(_accounts(default, entry, environ))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, ("providers", name, *first["loc"])))
        raise ConfigError(f"{where}: {first['msg']}") from None
    for number, spec in enumerate(specs):
        if twin := _double(spec, specs[:number]):
            raise ConfigError(
                f"providers.{name}.accounts.{spec.account}: has the same key as the account {twin.account}; "
                "an account is a project, organisation or paid tier of its own"
            )
    return specs


def _accounts(
    default: ProviderSpec, entry: ProviderSettings, environ: Mapping[str, str]
) -> Iterator[ProviderSpec]:
    """The account beside the others, where it has a key or is the only one; and the others."""
    numbered = {} if entry.api_key else key_variables(default.name, environ)
    keys = {account: SecretStr(environ[variable].strip()) for account, variable in numbered.items()}
    keys.pop(DEFAULT_ACCOUNT, None)
    if default.api_key is not None or entry.api_key is not None or not (keys or entry.accounts):
        yield default
    for account, key in keys.items():
        if account not in entry.accounts and key != default.api_key:
            yield default.model_copy(update={"account": account, "api_key": key})
    for account, own in entry.accounts.items():
        given = own.given(apart={"api_key"})
        given["headers"] = {**default.headers, **given.get("headers", {})}
        given |= {"account": account, "api_key": _unless_keyless(own.api_key)}
        if own.tier == "paid":
            given["models"] = _at_list_price(default.models)
        yield default.model_copy(update=given)


def _default_spec(name: str, entry: ProviderSettings, environ: Mapping[str, str]) -> ProviderSpec:
    """What the entry says by itself. Raises ConfigError when it lacks a key or an address."""
    known = known_providers().get(name)
    if known is None:
        return _own_server(name, entry)
    address = entry.base_url or _first_address(known.env_base_url, environ)
    if not _is_complete(address or known.address(environ)):
        parts = " and ".join(names[0] for names in known.env_parts.values())
        hint = f", or set {parts}" if parts else ""
        raise ConfigError(f"providers.{name}.base_url: is needed; the usual form is {known.base_url}{hint}")
    key = entry.api_key or _secret(first_set(known.env_keys, environ))
    if key is None and known.tier != "local" and not entry.accounts and not key_variables(name, environ):
        usual = " or ".join(known.env_keys) or "its key variable"
        raise KeyMissing(
            f"providers.{name}.api_key: is missing; write it here, or set {usual}, "
            f"or write `{KEYLESS}` if none is needed"
        )
    spec = spec_for(
        name,
        _unless_keyless(key),
        base_url=address,
        models=entry.models,
        protocol=entry.protocol,
        environ=environ,
    )
    if entry.tier == "paid" and entry.models is None:
        spec = spec.model_copy(update={"models": _at_list_price(spec.models)})
    return ProviderSpec.model_validate({**dict(spec), **entry.details()})


def _at_list_price(models: Iterable[ModelCard]) -> tuple[ModelCard, ...]:
    """As somebody gets them who pays: what is free to others costs what it lists."""
    return tuple(card.model_copy(update={"free": None}) if card.free else card for card in models)


def _double(spec: ProviderSpec, others: Iterable[ProviderSpec]) -> ProviderSpec | None:
    """The one of these that the provider could not tell from it."""
    return next((each for each in others if spec.is_same_account(each)), None)


def _own_server(name: str, entry: ProviderSettings) -> ProviderSpec:
    if entry.base_url is None:
        if gone := retired(name):
            raise ConfigError(f"providers.{name}: {gone.words}")
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
            "tier": "paid" if key or entry.accounts else "local",
            **entry.details(),
        }
    )


def _nearest(name: str) -> str:
    close = nearest_providers(name)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _unless_keyless(key: SecretStr | None) -> SecretStr | None:
    return None if key is None or key.get_secret_value() == KEYLESS else key


def _secret(value: str | None) -> SecretStr | None:
    return SecretStr(value) if value else None


def _first_address(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """Some of these variables may also hold a bare `host:port` to listen on; only web addresses count."""
    addresses = (environ.get(name, "").strip() for name in names)
    return next((each.rstrip("/") for each in addresses if each.startswith(("http://", "https://"))), None)


def _is_complete(address: str) -> bool:
    return "{" not in address
