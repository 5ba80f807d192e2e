"""The store of a service that does not run, for commands that look at it or mend it themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from agent_service.keys.joining import Joined, join
from agent_service.keys.master import MasterKeySource
from agent_service.keys.vault import AccountVault
from agent_service.settings import Settings
from checkpoints.accounts import AccountStore
from checkpoints.opening import open_database


@asynccontextmanager
async def open_vault(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[AccountVault]:
    """The vault of the database that is configured. Raises DatabaseUnusable."""
    async with open_database(settings.database) as database:
        yield AccountVault(AccountStore(database), MasterKeySource(settings.data_dir, environ))


async def joined_accounts(settings: Settings, environ: Mapping[str, str]) -> Joined:
    """The accounts from all sources, as a service would have them; a database is not made for it.

    Providers may lack their keys here: they are under `keyless`.

    Raises ConfigError and DatabaseUnusable.
    """
    where = settings.database
    if isinstance(where, Path) and not where.exists():
        return join(settings, environ, [], needs_keys=False)
    async with open_vault(settings, environ) as vault:
        return join(settings, environ, await vault.accounts(), needs_keys=False)
