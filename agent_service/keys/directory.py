"""The accounts of a running service: shown, changed, tried out, and put into service as they change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr

from agent_service.config_file import ConfigError
from agent_service.keys.account import (
    Account,
    AccountOptions,
    checked_account,
    retirement,
)
from agent_service.keys.errors import AccountConfigured, AccountInvalid, AccountNotFound, KeyNotAccepted
from agent_service.keys.joining import Joined, join, twin_of
from agent_service.keys.trial import Trial, try_out
from agent_service.keys.vault import AccountVault, Rotation
from agent_service.keys.views import ProviderView, Scene, provider_views
from agent_service.ledger.budgets import BudgetKeeper
from agent_service.model_pool import ModelPool
from agent_service.settings import Settings
from routing.catalogue import nearest_providers
from routing.config import DEFAULT_ACCOUNT, ProviderSpec, account_id
from routing.errors import ProviderNotFound

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often it is seen whether another process changed the accounts."""
_TOPIC = "accounts"


@dataclass(frozen=True, slots=True)
class Saved:
    """A stored account, as part of its provider, and what the provider said of its key."""

    provider: ProviderView
    trial: Trial | None


@dataclass(frozen=True, slots=True)
class Beginning:
    """What there is when the service starts."""

    joined: Joined
    seen: object
    """The state of the store, as `AccountVault.changes` tells it."""
    needs_keys: bool = True
    """Whether a configured provider without its key is an error."""


async def begin(
    vault: AccountVault,
    settings: Settings,
    environ: Mapping[str, str],
    secrets: set[str],
    *,
    needs_keys: bool = True,
) -> Beginning:
    """The accounts to start with. Raises ConfigError, also when the master key does not open them."""
    seen = await vault.changes()
    accounts = await vault.accounts()
    joined = join(settings, environ, accounts, needs_keys=needs_keys)
    _learn([*accounts, *joined.config.providers], secrets)
    return Beginning(joined, seen, needs_keys)


class ProviderAccounts:
    """All accounts, whatever they come from. Those of the store can be changed."""

    def __init__(
        self,
        vault: AccountVault,
        models: ModelPool,
        settings: Settings,
        environ: Mapping[str, str],
        secrets: set[str],
        begun: Beginning,
        budgets: BudgetKeeper,
    ) -> None:
        """`begun` is what the models were opened with. `secrets` takes up every key that is put into
        service, for whoever keeps them out of a log."""
        self._vault, self._models = vault, models
        self._settings, self._environ = settings, environ
        self._secrets = secrets
        self._joined, self._seen, self._needs_keys = begun.joined, begun.seen, begun.needs_keys
        self._budgets = budgets
        self._applying = asyncio.Lock()
        self._report(begun.joined)

    async def reconfigure(self, settings: Settings) -> None:
        """Take another configuration over. Raises ConfigError, then the former one stays."""
        await self._apply(settings)

    async def look(self) -> None:
        """Apply what other processes changed since the last look. Raises what the database does."""
        try:
            if await self._vault.changes() != self._seen:
                await self._apply()
        except ConfigError as error:
            self._models.report(_TOPIC, str(error))
            logger.warning("the stored accounts cannot be read: %s", error)

    async def providers(self, *, everything: bool = False) -> list[ProviderView]:
        """The providers with their accounts; with `everything` those of the catalogue, too."""
        accounts = await self._vault.accounts()
        joined = self._join(accounts)
        healthy, rests = self._models.reachable(), self._models.rests()
        capped = [spec for spec in joined.config.providers if spec.cap_usd_per_day is not None]
        spent = {spec.account_id: await self._budgets.spent_today(spec) for spec in capped}
        doubted = self._models.health.doubted
        scene = Scene(self._settings, self._environ, accounts, joined, healthy, rests, spent, doubted)
        return provider_views(scene, everything=everything)

    async def provider(self, name: str) -> ProviderView:
        """One provider. Raises ProviderNotFound with the nearest names, AccountNotFound if it is retired."""
        found = await self.providers(everything=True)
        for view in found:
            if view.name == name and (view.accounts or not view.retired):
                return view
        if gone := retirement(name):
            raise AccountNotFound(gone)
        own = (view.name for view in found if not view.retired)
        raise ProviderNotFound(name[:64], nearest_providers(name, own))

    async def check(self, account: Account) -> Account:
        """The account as it could be stored, without asking its provider.

        Raises AccountInvalid, AccountConfigured.
        """
        account = checked_account(account, self._environ)
        if self._joined.is_configured(account_id(account.provider, account.account)):
            await self._complain(account.provider, account.account)
        if twin := twin_of(account.spec(self._environ), self._joined.config.providers):
            raise AccountInvalid(
                "api_key",
                f"api_key: {twin.name}/{twin.account} has the same one; an account is a project, "
                "organisation or paid tier of its own.",
            )
        return account

    async def save(self, account: Account, *, verify: bool) -> Saved:
        """Keep the account and put it into service; one of the same names is replaced.

        With `verify` its provider is asked first. Raises AccountInvalid, AccountConfigured, KeyNotAccepted
        (nothing is stored then), ConfigError when the master key does not do.
        """
        account = await self.check(account)
        trial = await self._try(account) if verify else None
        if trial is not None and trial.state == "refused":
            raise KeyNotAccepted(f"The key was not stored: {trial.detail}.")
        _learn([account], self._secrets)
        former = [each for each in await self._vault.accounts() if each.id == account.id]
        await self._vault.save(account)
        await self._apply()
        place = account_id(account.provider, account.account)
        if trial is not None and trial.state == "accepted":
            self._models.proven(place)
        elif not any((each.api_key, each.base_url) == (account.api_key, account.base_url) for each in former):
            self._models.health.doubt(place)
        return Saved(await self.provider(account.provider), trial)

    async def change(
        self, name: str, account_name: str, changes: Mapping[str, Any], *, verify: bool
    ) -> Saved:
        """Change what is given of a stored account: `api_key`, `base_url` and the options.

        Raises as `save` does, and AccountNotFound.
        """
        account = await self._stored(name, account_name)
        verify = verify and bool({"api_key", "base_url"} & changes.keys())
        options = {**account.options.model_dump(), **changes}
        base_url, api_key = options.pop("base_url", account.base_url), options.pop("api_key", None)
        if base_url != account.base_url and account.api_key is not None and api_key is None:
            # Else whoever may change accounts, but not read keys, could have one sent somewhere else.
            raise AccountInvalid("api_key", "api_key: must be given again when the address changes.")
        changed = replace(
            account,
            base_url=base_url,
            api_key=SecretStr(api_key) if api_key is not None else account.api_key,
            options=AccountOptions.model_validate(options),
            problem=None,
        )
        return await self.save(changed, verify=verify)

    async def remove(self, name: str, account_name: str | None = None) -> int:
        """Delete a stored account, or all of a provider; how many there were.

        Raises AccountNotFound, AccountConfigured.
        """
        accounts = [each for each in await self._vault.accounts() if each.provider == name]
        chosen = [each for each in accounts if account_name in (None, each.account)]
        if not chosen:
            await self._complain(name, account_name or DEFAULT_ACCOUNT)
        count = await self._vault.remove(*chosen)
        await self._apply()
        return count

    async def test(self, name: str, account_name: str | None = None) -> dict[str, Trial]:
        """Ask the provider about the keys of its accounts; by account.

        Raises AccountNotFound, ProviderNotFound.
        """
        view = await self.provider(name)
        stored = {each.account: each for each in await self._vault.accounts() if each.provider == name}
        joined = self._join(list(stored.values()))
        trials = {}
        for each in view.accounts:
            if account_name not in (None, each.account) or each.account in trials:
                continue  # of two of the same name the first is in use
            if each.source == "store":
                trials[each.account] = await self._try(stored[each.account])
            else:
                specs = joined.config.providers
                spec = next(spec for spec in specs if (spec.name, spec.account) == (name, each.account))
                trials[each.account] = await try_out(spec, public_only=False)
        for account, trial in trials.items():
            if trial.state == "accepted":
                self._models.proven(account_id(name, account))
        if not trials:
            what = f" named {account_name!r}" if account_name else ""
            raise AccountNotFound(f"{name} has no account{what}; `agent-service providers add` adds one.")
        return trials

    async def rotate(self) -> Rotation:
        """Seal all keys anew under a new master key. Raises ConfigError."""
        rotation = await self._vault.rotate()
        await self._apply()
        return rotation

    async def _apply(self, settings: Settings | None = None) -> None:
        """Read the accounts and give the pool what has changed. Raises ConfigError."""
        async with self._applying:
            seen = await self._vault.changes()
            accounts = await self._vault.accounts()
            joined = self._join(accounts, settings)
            _learn([*accounts, *joined.config.providers], self._secrets)
            before = self._joined
            if (joined.config, joined.restricted) != (before.config, before.restricted):
                await self._models.reconfigure(joined.config, restricted=joined.restricted)
            self._settings, self._seen, self._joined = settings or self._settings, seen, joined
            self._report(joined)

    def _join(self, accounts: Sequence[Account], settings: Settings | None = None) -> Joined:
        settings = settings or self._settings
        return join(settings, self._environ, accounts, needs_keys=self._needs_keys)

    def _report(self, joined: Joined) -> None:
        self._models.report(_TOPIC, " ".join(joined.problems) or None)

    async def _try(self, account: Account) -> Trial:
        if account.problem:
            return Trial("unknown", account.problem)
        try:
            spec: ProviderSpec = account.spec(self._environ)
        except ConfigError as error:
            return Trial("unknown", str(error))
        return await try_out(spec, public_only=account.is_restricted)

    async def _stored(self, name: str, account_name: str) -> Account:
        for account in await self._vault.accounts():
            if (account.provider, account.account) == (name, account_name):
                return account
        await self._complain(name, account_name)
        raise AssertionError("unreachable")

    async def _complain(self, name: str, account_name: str) -> None:
        """Raise what is wrong with these names, of which no account is stored."""
        view = await self.provider(name)
        for each in view.accounts:
            if each.account == account_name and each.source != "store":
                place = f"the variable {each.key_from}" if each.key_from else "the configuration file"
                raise AccountConfigured(f"{name}/{account_name} comes from {place}; change it there.")
        raise AccountNotFound(f"{name} has no stored account named {account_name!r}.")


def _learn(accounts: Iterable[Account | ProviderSpec], secrets: set[str]) -> None:
    secrets.update(each.api_key.get_secret_value() for each in accounts if each.api_key is not None)
