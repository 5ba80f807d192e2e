"""Providers and accounts as they may be shown: of a key at most its last four characters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agent_service.keys.account import Account, last4, masked
from agent_service.keys.joining import Joined
from agent_service.provider_settings import key_variables
from agent_service.settings import Settings
from routing.catalogue import known_providers, retired, retired_providers
from routing.config import DEFAULT_ACCOUNT, NO_LIMITS, ProviderSpec, RateLimits, account_id
from routing.redaction import redact
from routing.terms import Terms, terms_of

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
    rests: str | None = None
    """Why nothing of it is asked just now, or nothing that costs; None = it may be, or is not in use."""
    enabled: bool = True
    models: tuple[str, ...] | None = None
    allow_private: bool = True
    proven: bool = True
    """False = its key was stored without being seen to be good, and nothing has answered since."""
    cap_usd_per_day: float | None = None
    spent_usd_today: float | None = None
    """Of that, since midnight UTC; None = it has no cap, or is not in use."""
    limits: RateLimits | None = None
    problem: str | None = None
    updated_at: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderView:
    """One provider and its accounts."""

    name: str
    display_name: str
    tier: str | None
    base_url: str | None
    """Of its first account in use, else the catalogue's."""
    healthy: bool | None
    """None = it is not in service."""
    retired: str | None = None
    note: str | None = None
    """What there is to know besides."""
    terms: Terms = field(default_factory=Terms)
    """On what terms it serves; empty = none are known."""
    accounts: tuple[AccountView, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Scene:
    """All that views are made from."""

    settings: Settings
    environ: Mapping[str, str]
    accounts: Sequence[Account]
    """Those of the store."""
    joined: Joined
    healthy: Mapping[str, bool]
    """By provider."""
    rests: Mapping[str, str]
    """Account -> why nothing of it is asked just now."""
    spent: Mapping[str, float]
    """Account -> US dollars spent today, of those in use that have a cap."""
    doubted: Collection[str]
    """The accounts whose keys are not proven good."""


def provider_views(scene: Scene, *, everything: bool = False) -> list[ProviderView]:
    """The providers that have an account, those in service first; with `everything` all that are known."""
    specs: dict[str, list[ProviderSpec]] = {}
    for spec in scene.joined.config.providers:
        specs.setdefault(spec.name, []).append(spec)
    stored = (account.provider for account in scene.accounts)
    names = dict.fromkeys([*specs, *scene.joined.keyless, *stored])
    if everything:
        names |= dict.fromkeys([*known_providers(), *retired_providers()])
    return [_provider(name, specs.get(name, []), scene) for name in names]


def _provider(name: str, specs: Sequence[ProviderSpec], scene: Scene) -> ProviderView:
    views = [_configured(spec, scene) for spec in specs if spec.account_id not in scene.joined.stored]
    if words := scene.joined.keyless.get(name):
        views.append(AccountView(DEFAULT_ACCOUNT, "configuration", None, problem=words))
    views += [_stored(each, scene) for each in scene.accounts if each.provider == name]
    known, gone = known_providers().get(name), retired(name)
    row = specs[0] if specs else known
    display_name = row.display_name if row else gone.display_name if gone else ""
    return ProviderView(
        name=name,
        display_name=display_name or name,
        tier=row.tier if row else None,
        base_url=redact(row.base_url) if row else None,
        healthy=scene.healthy.get(name) if specs else None,
        retired=gone.words if gone else None,
        note=known.note if known else None,
        terms=terms_of(name),
        accounts=tuple(views),
    )


def _configured(spec: ProviderSpec, scene: Scene) -> AccountView:
    entry = scene.settings.providers.get(spec.name)
    variable = key_variables(spec.name, scene.environ).get(spec.account)
    in_file = entry is not None and (
        variable is None
        or spec.account in entry.accounts
        or (spec.account == DEFAULT_ACCOUNT and entry.api_key is not None)
    )
    return AccountView(
        account=spec.account,
        source="configuration" if in_file else "environment",
        key=masked(last4(spec.api_key)),
        key_from=None if in_file else variable,
        base_url=redact(spec.base_url),
        in_use=True,
        rests=scene.rests.get(spec.account_id),
        models=tuple(card.id for card in entry.models) if entry and entry.models else None,
        cap_usd_per_day=spec.cap_usd_per_day,
        spent_usd_today=scene.spent.get(spec.account_id),
        limits=None if spec.limits == NO_LIMITS else spec.limits,
    )


def _stored(account: Account, scene: Scene) -> AccountView:
    models, place = account.options.models, account_id(account.provider, account.account)
    in_use = place in scene.joined.stored
    return AccountView(
        account=account.account,
        source="store",
        key=masked(last4(account.api_key)),
        base_url=account.base_url and redact(account.base_url),
        in_use=in_use,
        rests=scene.rests.get(place) if in_use else None,
        enabled=account.options.enabled,
        models=None if models is None else tuple(card.id for card in models),
        allow_private=account.options.allow_private,
        proven=not in_use or place not in scene.doubted,
        cap_usd_per_day=account.options.cap_usd_per_day,
        spent_usd_today=scene.spent.get(place) if in_use else None,
        limits=account.options.limits,
        problem=account.problem or scene.joined.unusable.get(place),
        updated_at=account.updated_at,
    )
