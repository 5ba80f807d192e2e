"""Accounts at model providers. Keys come here sealed: whoever holds the master key seals and opens them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.database import Database, Upsert
from checkpoints.errors import SealedOtherwise
from checkpoints.tables import provider_accounts

_SAVE = Upsert(provider_accounts, replace=True)


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account. `key_version`, `nonce` and `ciphertext` are all there or all None (no key is needed)."""

    id: str
    provider: str
    account: str
    base_url: str | None
    key_version: str | None
    nonce: bytes | None
    ciphertext: bytes | None
    last4: str | None
    options: str
    """A JSON object."""
    created_at: float = 0.0
    updated_at: float = 0.0

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row of the table."""
        return cls(**row._mapping)


class AccountStore:
    """The accounts of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[AccountRow]:
        """Every account, in the order in which they came."""
        async with self._database.read() as connection:
            return await _rows(connection)

    async def changes(self) -> tuple[int, float | None]:
        """Something that is another thing after every change: the number of accounts, and the last moment."""
        wanted = select(func.count(), func.max(provider_accounts.c.updated_at))
        async with self._database.read() as connection:
            count, latest = (await connection.execute(wanted)).one()
            return count, latest

    async def save(self, row: AccountRow, readable: Collection[str]) -> AccountRow:
        """Add the account, or replace that of the same id; as it is stored, with the times of this clock.

        `readable` are the key versions that the caller holds master keys for. Raises SealedOtherwise when
        a key that is there was sealed under another: two master keys would be needed from then on. Raises
        SQLAlchemyError (IntegrityError) when another id has the same provider and account.
        """

        async def operation(connection: AsyncConnection) -> AccountRow:
            rows = await _rows(connection)
            _require_readable(rows, readable)
            now = await self._next_moment(connection, rows)
            began = next((each.created_at for each in rows if each.id == row.id), now)
            saved = replace(row, created_at=began, updated_at=now)
            await connection.execute(_SAVE.on(connection), asdict(saved))
            return saved

        return await self._database.write(operation)

    async def delete(self, ids: Collection[str]) -> int:
        """Delete these accounts; how many there were."""
        chosen = delete(provider_accounts).where(provider_accounts.c.id.in_(ids))
        return await self._database.write(lambda connection: _count(connection, chosen))

    async def reseal(self, change: Callable[[AccountRow], AccountRow], readable: Collection[str]) -> int:
        """Replace the sealed keys of all rows that have one, all together or none; how many they were.

        Raises SealedOtherwise, and what `change` raises.
        """

        async def operation(connection: AsyncConnection) -> int:
            rows = await _rows(connection, lock=True)
            _require_readable(rows, readable)
            now = await self._next_moment(connection, rows)
            sealed = [row for row in rows if row.key_version is not None]
            for row in sealed:
                new = change(row)
                await connection.execute(
                    update(provider_accounts)
                    .where(provider_accounts.c.id == row.id)
                    .values(
                        key_version=new.key_version,
                        nonce=new.nonce,
                        ciphertext=new.ciphertext,
                        updated_at=now,
                    )
                )
            return len(sealed)

        return await self._database.write(operation)

    async def _next_moment(self, connection: AsyncConnection, rows: Sequence[AccountRow]) -> float:
        """Now, and later than any change before, so that `changes` tells them apart."""
        latest = max((row.updated_at for row in rows), default=0.0)
        return max(await self._database.time(connection), latest + 1e-3)


async def _rows(connection: AsyncConnection, *, lock: bool = False) -> list[AccountRow]:
    table = provider_accounts
    wanted = select(table).order_by(table.c.created_at, table.c.id)
    return [
        AccountRow.of(row) for row in await connection.execute(wanted.with_for_update() if lock else wanted)
    ]


async def _count(connection: AsyncConnection, statement: Any) -> int:
    return int((await connection.execute(statement)).rowcount)


def _require_readable(rows: Sequence[AccountRow], readable: Collection[str]) -> None:
    others = {row.key_version for row in rows if row.key_version} - {*readable}
    if others:
        raise SealedOtherwise(sorted(others))
