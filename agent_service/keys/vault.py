"""The accounts in the database, their keys opened and sealed on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
from pydantic import SecretStr, ValidationError

from agent_service.keys.account import Account, AccountOptions, last4
from agent_service.keys.errors import MasterKeyUnusable
from agent_service.keys.master import FILE, MasterKeys, MasterKeySource
from agent_service.keys.sealing import MasterKey, SealBroken, Sealed, seal, unseal
from agent_service.layers import MASTER_KEY_VARIABLE as VARIABLE
from checkpoints.accounts import AccountRow, AccountStore
from checkpoints.errors import SealedOtherwise


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of a change of the master key."""

    accounts: int
    """So many keys were sealed anew."""
    version: str
    """Of the master key from now on."""
    advice: str | None
    """What is left for the operator to do."""


class AccountVault:
    """Keeps accounts. Every method reads the master keys anew and raises ConfigError when they do not do."""

    def __init__(self, store: AccountStore, masters: MasterKeySource) -> None:
        self._store, self._masters = store, masters

    async def accounts(self) -> list[Account]:
        """All accounts, in the order in which they came, keys opened.

        One that was damaged says so in `problem`. Raises MasterKeyUnusable when a key was sealed under a
        master key that is not at hand.
        """
        rows = await self._store.all()
        if not any(row.key_version for row in rows):
            return [_opened(row, {}) for row in rows]
        masters = await asyncio.to_thread(self._masters.read)
        keys = masters.by_version if masters else {}
        if strange := {row.key_version for row in rows if row.key_version} - keys.keys():
            count = sum(row.key_version in strange for row in rows)
            raise MasterKeyUnusable(self._complaint(masters, sorted(map(str, strange)), count))
        return [_opened(row, keys) for row in rows]

    async def changes(self) -> object:
        """Another value after every change."""
        return await self._store.changes()

    async def save(self, account: Account) -> Account:
        """Add the account, or replace that of the same names. Raises MasterKeyUnusable."""
        for last_try in (False, True):
            masters = await asyncio.to_thread(
                self._masters.read if account.api_key is None else self._masters.read_or_make
            )
            try:
                row = await self._store.save(_sealed(account, masters), masters.by_version if masters else ())
                return replace(account, created_at=row.created_at, updated_at=row.updated_at)
            except SealedOtherwise as other:
                # Between reading the master keys and here, another process may have changed them.
                if last_try:
                    raise MasterKeyUnusable(self._complaint(masters, other.versions)) from None
        raise AssertionError("unreachable")

    async def remove(self, *accounts: Account) -> int:
        """Delete these accounts; how many there were."""
        return await self._store.delete([account.id for account in accounts])

    async def remove_unreadable(self) -> list[str]:
        """Delete the accounts whose keys cannot be opened; their names, as `provider/account`."""
        masters = await asyncio.to_thread(self._masters.read)
        keys = masters.by_version if masters else {}
        lost = [row for row in await self._store.all() if _opened(row, keys).problem]
        await self._store.delete([row.id for row in lost])
        return [f"{row.provider}/{row.account}" for row in lost]

    async def rotate(self) -> Rotation:
        """Seal all keys anew, under a new master key of the file, or the first one that the operator gives.

        The old one opens keys until the last is sealed anew; a process that dies on the way leaves both,
        and rotating again ends the work. Raises MasterKeyUnusable, then nothing was changed.
        """
        await self.accounts()
        given = await asyncio.to_thread(self._masters.given)
        masters = await asyncio.to_thread(self._masters.add_new) if given is None else given
        keys, current = masters.by_version, masters.current
        try:
            count = await self._store.reseal(lambda row: _resealed(row, keys, current), keys)
        except (SealedOtherwise, SealBroken) as error:
            raise MasterKeyUnusable(f"Nothing was rotated: {error}") from None
        advice = None
        if given and len(keys) > 1:
            advice = f"Take the other keys out of the {given.where}: nothing needs them any more."
        elif given:
            advice = f"It was sealed under the same master key; put a new one first: {given.how_to_set}."
        else:
            needed = {row.key_version for row in await self._store.all() if row.key_version}
            await asyncio.to_thread(self._masters.keep_only, [*needed, current.version])
        return Rotation(count, current.version, advice)

    def _complaint(self, masters: MasterKeys | None, strange: Sequence[str], count: int = 0) -> str:
        have = (
            f"the one in {masters.where} is {', '.join(masters.by_version)}"
            if masters
            else f"there is none: {VARIABLE} is not set, the system's keyring has none, and "
            f"{self._masters.file} does not exist"
        )
        return (
            f"The database holds {count or 'some'} provider keys that were encrypted with the master key "
            f"{', '.join(strange)}; {have}. Nothing was changed. (1) Set {VARIABLE} to that key, or put back "
            f"the {FILE} that belongs to this database; (2) if it is lost, `agent-service providers remove "
            "--unreadable` deletes these accounts, and their keys must be entered again."
        )


def _sealed(account: Account, masters: MasterKeys | None) -> AccountRow:
    row = AccountRow(
        id=account.id,
        provider=account.provider,
        account=account.account,
        base_url=account.base_url,
        key_version=None,
        nonce=None,
        ciphertext=None,
        last4=last4(account.api_key),
        options=orjson.dumps(account.options.model_dump(mode="json", exclude_defaults=True)).decode(),
    )
    if account.api_key is None or masters is None:
        return row
    return _with_key(row, account.api_key, masters.current)


def _with_key(row: AccountRow, key: SecretStr, master: MasterKey) -> AccountRow:
    sealed = seal(key, master, row_id=row.id, provider=row.provider)
    return replace(row, key_version=sealed.version, nonce=sealed.nonce, ciphertext=sealed.ciphertext)


def _opened(row: AccountRow, keys: Mapping[str, MasterKey]) -> Account:
    """The account; with a `problem` when its row is not what was stored."""
    problem, key, options = None, None, AccountOptions(enabled=False)
    try:
        options = AccountOptions.model_validate(orjson.loads(row.options))
        key = _key_of(row, keys)
    except (SealBroken, ValidationError, ValueError):
        name = f"{row.provider}/{row.account}"
        problem = f"The stored account {name} was damaged or moved; remove it and add it again."
    return Account(
        row.provider, row.account, key, row.base_url, options, problem, row.created_at, row.updated_at
    )


def _key_of(row: AccountRow, keys: Mapping[str, MasterKey]) -> SecretStr | None:
    """Raises SealBroken."""
    if row.key_version is None:
        return None
    master = keys.get(row.key_version)
    if master is None or row.nonce is None or row.ciphertext is None:
        raise SealBroken(f"the stored key of {row.provider} cannot be read")
    sealed = Sealed(row.key_version, row.nonce, row.ciphertext)
    return unseal(sealed, master, row_id=row.id, provider=row.provider)


def _resealed(row: AccountRow, keys: Mapping[str, MasterKey], current: MasterKey) -> AccountRow:
    """Raises SealBroken."""
    key = _key_of(row, keys)
    return row if key is None else _with_key(row, key, current)
