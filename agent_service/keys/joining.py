"""One pool from all sources of accounts: configuration and environment first, the store behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent_service.config_file import ConfigError
from agent_service.keys.account import Account, retirement
from agent_service.settings import Settings, routing_config
from routing.config import RoutingConfig


@dataclass(frozen=True, slots=True)
class Joined:
    """What the router is told, and where its accounts come from."""

    config: RoutingConfig
    restricted: frozenset[str] = frozenset()
    """The providers that are connected to at public addresses only."""
    stored: Mapping[str, str] = field(default_factory=dict)
    """Provider -> the stored account that is in service for it."""
    problems: tuple[str, ...] = ()
    """Stored accounts that cannot be used, and why."""


def join(settings: Settings, environ: Mapping[str, str], accounts: Sequence[Account]) -> Joined:
    """The accounts of the configuration (else of the environment), and of the store.

    The router takes one account of a provider: the configured one, else the first stored one that can be
    used. Raises ConfigError when the configuration itself does not do.
    """
    config = routing_config(settings, environ)
    specs = {spec.name: spec for spec in config.providers}
    chosen: dict[str, Account] = {}
    problems = []
    for account in accounts:
        if account.problem:
            problems.append(account.problem)
            continue
        if account.provider in specs or not account.options.enabled:
            continue
        try:
            if gone := retirement(account.provider):
                raise ConfigError(gone)
            specs[account.provider] = account.spec(environ)
        except ConfigError as error:
            problems.append(f"The stored account {account.provider}/{account.account} is not used: {error}")
            continue
        chosen[account.provider] = account
    return Joined(
        config.model_copy(update={"providers": tuple(specs.values())}),
        frozenset(name for name, account in chosen.items() if account.is_restricted),
        {name: account.account for name, account in chosen.items()},
        tuple(problems),
    )
