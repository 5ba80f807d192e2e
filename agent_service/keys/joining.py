"""One pool from all sources of accounts: configuration and environment first, the store behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent_service.config_file import ConfigError
from agent_service.keys.account import Account, retirement
from agent_service.settings import Settings, routing_config
from routing.config import ProviderSpec, RoutingConfig, account_id

_SHADOWED = (
    "the configuration or the environment has an account of the same name, which counts; remove one of them"
)


@dataclass(frozen=True, slots=True)
class Joined:
    """What the router is told, and where its accounts come from."""

    config: RoutingConfig
    restricted: frozenset[str] = frozenset()
    """The accounts, by their ids, that are connected to at public addresses only."""
    stored: frozenset[str] = frozenset()
    """The stored accounts that are in service, by their ids."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """The stored accounts that can be read and yet cannot be used, by their ids, and why."""
    problems: tuple[str, ...] = ()
    """All that cannot be used, and why, in sentences."""
    keyless: Mapping[str, str] = field(default_factory=dict)
    """The configured providers that lack their key, where that is allowed, and what to do about it."""

    def is_configured(self, account: str) -> bool:
        """Whether the account of that id comes from the configuration or the environment."""
        return account not in self.stored and any(
            spec.account_id == account for spec in self.config.providers
        )


def join(
    settings: Settings, environ: Mapping[str, str], accounts: Sequence[Account], *, needs_keys: bool = True
) -> Joined:
    """The accounts of the configuration (else of the environment), and of the store.

    Of two of the same names the configured one counts, and of two with the same key the first: they are one
    account to the provider. Raises ConfigError when the configuration itself does not do; without
    `needs_keys` a missing key is no reason.
    """
    keyless: dict[str, str] = {}
    config = routing_config(settings, environ, None if needs_keys else keyless)
    specs = {spec.account_id: spec for spec in config.providers}
    chosen: dict[str, Account] = {}
    unusable: dict[str, str] = {}
    problems = []
    for account in accounts:
        if account.problem:
            problems.append(account.problem)
            continue
        if not account.options.enabled:
            continue
        try:
            spec = _spec(account, environ, specs.values())
        except ConfigError as error:
            unusable[account_id(account.provider, account.account)] = str(error)
            problems.append(f"The stored account {account.provider}/{account.account} is not used: {error}")
            continue
        if spec.account_id in specs:
            unusable[spec.account_id] = _SHADOWED
        else:
            specs[spec.account_id], chosen[spec.account_id] = spec, account
    return Joined(
        config.model_copy(update={"providers": tuple(specs.values())}),
        frozenset(place for place, account in chosen.items() if account.is_restricted),
        frozenset(chosen),
        unusable,
        tuple(problems),
        keyless,
    )


def _spec(account: Account, environ: Mapping[str, str], others: Iterable[ProviderSpec]) -> ProviderSpec:
    """The router's row for it. Raises ConfigError when it cannot be one more beside the others."""
    if gone := retirement(account.provider):
        raise ConfigError(gone)
    spec = account.spec(environ)
    if twin := twin_of(spec, others):
        raise ConfigError(
            f"it has the same key as {twin.name}/{twin.account}; an account is a project, organisation "
            "or paid tier of its own"
        )
    return spec


def twin_of(spec: ProviderSpec, others: Iterable[ProviderSpec]) -> ProviderSpec | None:
    """Another account of these that its provider could not tell from it."""
    same = (each for each in others if each.name == spec.name and each.is_same_account(spec))
    return next((each for each in same if each.account != spec.account), None)
