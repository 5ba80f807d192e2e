"""An account at a provider: its key, where it is, and what its owner decided about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from agent_service.config_file import ConfigError
from agent_service.keys.address import checked_address
from agent_service.keys.errors import AccountInvalid
from agent_service.provider_settings import KEYLESS, ProviderSettings, configured_specs
from routing.catalogue import known_providers, nearest_providers, retired
from routing.config import DEFAULT_ACCOUNT, ModelCard, Protocol, ProviderSpec, RateLimits
from routing.types import Tier

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
ACCOUNT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$"
MAX_KEY = 8192
"""Characters; signed tokens are the longest."""
_SHORTEST_SHOWN = 12
"""The last four characters of a shorter key would be too much of it."""


def _card(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


class AccountOptions(BaseModel):
    """What the owner decided about an account."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    enabled: bool = True
    protocol: Protocol | None = None
    """None = as the catalogue says."""
    models: Annotated[
        tuple[Annotated[ModelCard, BeforeValidator(_card)], ...] | None, Field(max_length=1000)
    ] = None
    """None = those of the catalogue, or whatever the provider lists."""
    allow_private: bool = False
    """Whether the address may be on this machine or its network."""
    tier: Tier | None = None
    """What using it costs; None = as the catalogue says. `paid`: its models cost what they list."""
    cap_usd_per_day: float | None = Field(default=None, ge=0)
    """The most that may be spent in a day (UTC), in US dollars; 0 = only its free models are asked."""
    limits: RateLimits | None = None
    """How much of it may be used; None = as much as the provider lets us."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account. The key is not shown by `repr`."""

    provider: str
    account: str = DEFAULT_ACCOUNT
    api_key: SecretStr | None = None
    """None = it needs none, or it cannot be read."""
    base_url: str | None = None
    """None = the catalogue's address."""
    options: AccountOptions = field(default_factory=AccountOptions)
    problem: str | None = None
    """Why it cannot be used."""
    created_at: float = 0.0
    updated_at: float = 0.0
    variables: tuple[str, ...] = ()
    """The environment variables that its key and address were read from, where a file named them."""
    written_url: str | None = None
    """The address as that file has it, variables not filled in."""

    @property
    def id(self) -> str:
        """Of its row: the same names are the same account, whoever adds it."""
        return hashlib.sha256(f"{self.provider}\0{self.account}".encode()).hexdigest()[:32]

    @property
    def is_restricted(self) -> bool:
        """Whether only public addresses may be connected to; the catalogue's are trusted."""
        return self.base_url is not None and not self.options.allow_private

    def spec(self, environ: Mapping[str, str]) -> ProviderSpec:
        """The router's row for it. Raises ConfigError when something is missing or unknown."""
        key = self.api_key or SecretStr(KEYLESS)
        options = self.options
        entry = ProviderSettings(
            api_key=key,
            base_url=self.base_url,
            protocol=options.protocol,
            models=options.models,
            tier=options.tier,
            cap_usd_per_day=options.cap_usd_per_day,
            limits=options.limits,
        )
        spec = configured_specs({self.provider: entry}, environ)[0]
        return spec.model_copy(update={"account": self.account})


def last4(key: SecretStr | None) -> str | None:
    """The end of a key that may be shown; empty for a short one, and for a file, which all end alike."""
    if key is None:
        return None
    text = key.get_secret_value()
    shows_nothing = len(text) < _SHORTEST_SHOWN or _is_object(text)
    return "" if shows_nothing else text[-4:]


def masked(end: str | None) -> str | None:
    """How a key is shown, from its `last4`; None = there is none."""
    return None if end is None else f"...{end}"


def retirement(provider: str) -> str | None:
    """Since when that provider is no more, as a sentence; None if it is not known to be gone."""
    found = retired(provider)
    return found.words if found else None


def checked_account(account: Account, environ: Mapping[str, str]) -> Account:
    """The account in the form in which it can be stored. Raises AccountInvalid."""
    if gone := retirement(account.provider):
        raise AccountInvalid("provider", gone)
    base_url = account.base_url
    if base_url is not None:
        base_url = checked_address(base_url, allow_private=account.options.allow_private)
    known = known_providers().get(account.provider)
    if known is None and base_url is None:
        raise AccountInvalid("provider", _unknown(account.provider))
    if account.api_key is None and known is not None and known.tier != "local" and base_url is None:
        raise AccountInvalid("api_key", f"api_key: {account.provider} needs a key.")
    speaks = account.options.protocol or (known.protocol if known else None)
    key = checked_key(account.api_key, may_be_file=speaks == "vertex-ai")
    checked = Account(account.provider, account.account, key, base_url, account.options)
    try:
        checked.spec(environ)
    except (ConfigError, ValidationError) as error:
        raise AccountInvalid("provider", _plain(error, account.provider)) from None
    return checked


def checked_key(key: SecretStr | None, *, may_be_file: bool = False) -> SecretStr | None:
    """The key without blanks around it; None for `none`. Raises AccountInvalid, without the key.

    `may_be_file`: it may also be the content of a credentials file, a JSON object.
    """
    if key is None:
        return None
    text = key.get_secret_value().strip()
    if text == KEYLESS:
        return None
    if not text:
        raise AccountInvalid("api_key", "api_key: is empty.")
    is_word = text.isascii() and text.isprintable() and " " not in text
    if len(text) > MAX_KEY or not (is_word or (may_be_file and _is_object(text))):
        raise AccountInvalid("api_key", "api_key: is no key: it holds blanks, or characters no key has.")
    return SecretStr(text)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _unknown(name: str) -> str:
    close = nearest_providers(name)
    hint = f"did you mean {' or '.join(close)}?" if close else "a server of your own needs its base_url."
    return f"There is no provider {name!r}; {hint}"


def _plain(error: Exception, provider: str) -> str:
    """What is wrong, without the path of a configuration file that there is not."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).replace(f"providers.{provider}.", "")
