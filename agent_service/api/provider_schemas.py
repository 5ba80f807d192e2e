"""Bodies of the routes about providers and accounts. Keys go in, their last four characters come out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr

from agent_service.documented import Documented
from agent_service.keys.account import ACCOUNT_PATTERN, NAME_PATTERN, AccountOptions
from agent_service.keys.address import MAX_ADDRESS
from agent_service.keys.directory import Saved
from agent_service.keys.trial import Trial
from agent_service.keys.vault import Rotation
from agent_service.keys.views import AccountView, ProviderView, Source
from routing.config import DEFAULT_ACCOUNT, Protocol, RateLimits
from routing.terms import Terms, sources
from routing.types import Tier

AccountName = Annotated[str, Field(pattern=ACCOUNT_PATTERN)]
_OPTIONS = {*AccountOptions.model_fields}


def _card(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


class _Body(Documented):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class Model(_Body):
    """A model at the account's address; what is left out is not known."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    """The provider's own name for it."""
    quality: Annotated[float | None, Field(ge=0, le=1)] = None
    """Of its answers, from 0 to 1."""
    context_window: Annotated[int | None, Field(gt=0)] = None
    """Tokens, prompt and answer together."""
    max_output: Annotated[int | None, Field(gt=0)] = None
    """Tokens."""
    tools: bool | None = None
    """Whether it can call tools."""
    vision: bool | None = None
    """Whether it can see pictures."""
    input_price: Annotated[float | None, Field(ge=0)] = None
    """US dollars per million prompt tokens."""
    output_price: Annotated[float | None, Field(ge=0)] = None
    """US dollars per million answer tokens."""


class AccountChange(_Body):
    """What is to be another way about a stored account; fields left out stay as they are."""

    api_key: SecretStr | None = None
    """Write-only."""
    base_url: Annotated[str | None, Field(max_length=MAX_ADDRESS)] = None
    """Including the version part; null = the catalogue's address."""
    protocol: Protocol | None = None
    """Null = as the catalogue says."""
    models: Annotated[tuple[Annotated[Model, BeforeValidator(_card)], ...] | None, Field(max_length=1000)] = (
        None
    )
    """Rows, or names alone; null = those of the catalogue, or whatever the provider lists."""
    tier: Tier | None = None
    """What using it costs; null = as the catalogue says. `paid`: its models cost what they list."""
    enabled: bool = True
    """False keeps it, and does not use it."""
    allow_private: bool = False
    """Lets `base_url` be http, and on this machine or its network."""
    cap_usd_per_day: Annotated[float | None, Field(ge=0)] = None
    """The most that may be spent in a day (UTC), in US dollars; 0 = only its free models are asked."""
    limits: RateLimits | None = None
    """How much of it may be used, beside what the provider allows; null = all of that."""
    verify: bool = True
    """Ask the provider first; a key that it refuses is not stored."""

    def changes(self) -> dict[str, Any]:
        """What was given, for `ProviderAccounts.change`; the key as text."""
        given = self.model_dump(include=self.model_fields_set - {"verify", "api_key"})
        return given if self.api_key is None else {**given, "api_key": self.api_key.get_secret_value()}

    def options(self) -> AccountOptions:
        """The options of a new account."""
        return AccountOptions.model_validate(self.model_dump(include=_OPTIONS))


class NamedAccount(AccountChange):
    """An account at the provider in the path."""

    account: AccountName = DEFAULT_ACCOUNT
    """Tells several accounts of one provider apart; one of the same name is replaced."""


class NewAccount(NamedAccount):
    """An account at a provider."""

    provider: Annotated[str, Field(pattern=NAME_PATTERN)]
    """A known one, or a name for a server of your own, which needs `base_url`."""


class TestRequest(_Body):
    """Which accounts to try."""

    __test__ = False  # no test class, whatever pytest thinks of the name

    account: AccountName | None = None
    """Only this one."""


class Account(Documented):
    """An account, without its key."""

    account: str
    """Its name among those of the provider."""
    source: Source
    """Where it comes from; only those of the store can be changed here."""
    key: str | None
    """`...` and the last four characters; null without a key."""
    key_from: str | None
    """The environment variable that holds the key."""
    base_url: str | None
    """Its own address; null = the catalogue's."""
    in_use: bool
    """Whether requests go to it. Of several accounts, the one that works and has the most left is asked."""
    rests: str | None
    """Why nothing of it is asked just now, or nothing that costs; null = it may be, or is not in use."""
    proven: bool
    """False = its key was stored without being seen to be good, and nothing has answered since."""
    enabled: bool
    """False = kept, not used."""
    models: list[str] | None
    """The models it was limited to."""
    allow_private: bool
    """Whether its address may be on this machine or its network."""
    cap_usd_per_day: float | None
    """The most that may be spent in a day (UTC), in US dollars."""
    spent_usd_today: float | None
    """Of that, since midnight UTC; null if it has no cap, or is not in use."""
    limits: RateLimits | None
    """How much of it may be used."""
    problem: str | None
    """Why it cannot be used."""
    updated_at: datetime | None
    """UTC; null if it is not stored."""

    @classmethod
    def of(cls, view: AccountView) -> Self:
        changed = None if view.updated_at is None else datetime.fromtimestamp(view.updated_at, UTC)
        return cls.model_validate({**_fields(view), "updated_at": changed})


class FreeLimit(Documented):
    """One limit of free use."""

    words: str
    """For people: `20 requests per minute (free models)`."""
    source: str
    """Who says so, and when."""
    note: str | None
    """What is doubtful about it."""


class ProviderTerms(Documented):
    """On what terms a provider serves, as far as it is known; dated facts, not learned ones."""

    limits: list[FreeLimit]
    """Of free use; several may disagree where their sources do."""
    credit: str | None
    """What a new account is given once."""
    credit_source: str | None
    """Who says so, and when."""
    training: str | None
    """Whether models are trained on prompts, or prompts are kept."""
    restriction: str | None
    """What it must not be used for."""
    signup: str | None
    """What an account takes, besides an address."""
    signup_url: str | None
    """Where to get one."""

    @classmethod
    def of(cls, terms: Terms) -> Self:
        names, credit = sources(), terms.credit
        limits = [
            FreeLimit(words=each.words, source=names[each.source], note=each.note) for each in terms.limits
        ]
        return cls(
            limits=limits,
            credit=credit.words if credit else None,
            credit_source=names[credit.source] if credit else None,
            training=terms.training,
            restriction=terms.restriction,
            signup=terms.signup,
            signup_url=terms.signup_url,
        )


class Provider(Documented):
    """A provider and its accounts."""

    name: str
    """As in the configuration."""
    display_name: str
    """For people."""
    tier: Tier | Literal["oauth"] | None
    """What using it costs; null = not known."""
    base_url: str | None
    """Of the account in use, else the catalogue's."""
    healthy: bool | None
    """Whether it may be asked now, as far as is known; null = it has no account in use."""
    retired: str | None
    """Since when it is no more."""
    note: str | None
    """What there is to know besides."""
    terms: ProviderTerms
    """On what terms it serves."""
    accounts: list[Account]
    """Those of the configuration or environment first."""

    @classmethod
    def of(cls, view: ProviderView) -> Self:
        accounts = [Account.of(each) for each in view.accounts]
        return cls.model_validate(
            {**_fields(view), "terms": ProviderTerms.of(view.terms), "accounts": accounts}
        )


class ProviderList(Documented):
    """Providers."""

    data: list[Provider]
    """Those in service first."""


class AccountList(Documented):
    """The accounts of a provider."""

    data: list[Account]
    """Those of the configuration or environment first."""


class KeyTrial(Documented):
    """What a provider said of a key."""

    state: Literal["accepted", "refused", "unknown"]
    """`unknown`: it could not be asked, or said nothing about the key."""
    detail: str
    """A sentence."""
    models: int | None
    """How many models it lists."""

    @classmethod
    def of(cls, trial: Trial) -> Self:
        return cls.model_validate(_fields(trial))


class AccountSaved(Provider):
    """The provider, now that the account is stored."""

    trial: KeyTrial | None
    """What the provider said of the key; null if it was not asked."""

    @classmethod
    def of_saved(cls, saved: Saved) -> Self:
        provider = Provider.of(saved.provider)
        return cls(**dict(provider), trial=KeyTrial.of(saved.trial) if saved.trial else None)


class TestResult(Documented):
    """What a provider said of its keys."""

    __test__ = False

    trials: dict[str, KeyTrial]
    """By account."""


class Deleted(Documented):
    """What is gone."""

    deleted: str
    """The provider, or `provider/account`."""
    accounts: int
    """So many stored accounts."""


class Rotated(Documented):
    """What became of a change of the master key."""

    accounts: int
    """So many keys were encrypted anew."""
    version: str
    """Of the master key from now on."""
    advice: str | None
    """What is left to do."""

    @classmethod
    def of(cls, rotation: Rotation) -> Self:
        return cls.model_validate(_fields(rotation))


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass with slots; those inside it stay what they are."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
