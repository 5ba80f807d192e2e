"""Providers and accounts as they may be shown: of a key at most its last four characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agent_service.keys.account import DEFAULT_ACCOUNT, Account, last4, masked, retirement
from agent_service.keys.joining import Joined
from agent_service.provider_settings import key_variable
from agent_service.settings import Settings
from routing.catalogue import known_providers
from routing.config import ProviderSpec
from routing.redaction import redact

Source = Literal["configuration", "environment", "store"]


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account."""

    account: str
    source: Source
    key: str | None
    """`...` and the last four characters; None = it needs none."""
    key_from: str | None = None
    """The environment variable that holds the key."""
    base_url: str | None = None
    in_use: bool = False
    enabled: bool = True
    models: tuple[str, ...] | None = None
    allow_private: bool = True
    cap_usd_per_day: float | None = None
    problem: str | None = None
    updated_at: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderView:
    """One provider and its accounts."""

    name: str
    display_name: str
    tier: str | None
    base_url: str | None
    """Of the account in use, else the catalogue's."""
    healthy: bool | None
    """None = it is not in service."""
    retired: str | None = None
    accounts: tuple[AccountView, ...] = field(default=())


def provider_views(
    settings: Settings,
    environ: Mapping[str, str],
    accounts: Sequence[Account],
    joined: Joined,
    healthy: Mapping[str, bool],
    *,
    everything: bool = False,
) -> list[ProviderView]:
    """The providers that have an account, those in service first; with `everything` all that are known."""
    specs = {spec.name: spec for spec in joined.config.providers}
    names = dict.fromkeys([*specs, *(account.provider for account in accounts)])
    if everything:
        names |= dict.fromkeys(known_providers())
    return [_provider(name, specs.get(name), settings, environ, accounts, joined, healthy) for name in names]


def _provider(
    name: str,
    spec: ProviderSpec | None,
    settings: Settings,
    environ: Mapping[str, str],
    accounts: Sequence[Account],
    joined: Joined,
    healthy: Mapping[str, bool],
) -> ProviderView:
    known = known_providers().get(name)
    views = [_stored(each, joined) for each in accounts if each.provider == name]
    if spec is not None and name not in joined.stored:
        views.insert(0, _configured(spec, settings, environ))
    row = spec or known
    return ProviderView(
        name=name,
        display_name=(row.display_name if row else "") or name,
        tier=row.tier if row else None,
        base_url=redact(row.base_url) if row else None,
        healthy=healthy.get(name) if spec is not None else None,
        retired=retirement(name),
        accounts=tuple(views),
    )


def _configured(spec: ProviderSpec, settings: Settings, environ: Mapping[str, str]) -> AccountView:
    entry = settings.providers.get(spec.name)
    in_file = entry is not None and (entry.api_key is not None or spec.api_key is None)
    return AccountView(
        account=DEFAULT_ACCOUNT,
        source="configuration" if in_file else "environment",
        key=masked(last4(spec.api_key)),
        key_from=None if in_file else key_variable(spec.name, environ),
        base_url=redact(spec.base_url),
        in_use=True,
        models=tuple(card.id for card in entry.models) if entry and entry.models else None,
    )


def _stored(account: Account, joined: Joined) -> AccountView:
    models = account.options.models
    return AccountView(
        account=account.account,
        source="store",
        key=masked(last4(account.api_key)),
        base_url=account.base_url and redact(account.base_url),
        in_use=joined.stored.get(account.provider) == account.account,
        enabled=account.options.enabled,
        models=None if models is None else tuple(card.id for card in models),
        allow_private=account.options.allow_private,
        cap_usd_per_day=account.options.cap_usd_per_day,
        problem=account.problem,
        updated_at=account.updated_at,
    )
