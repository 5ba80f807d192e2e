"""Rows of accounts at model providers, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from checkpoints.accounts import AccountRow, AccountStore
from checkpoints.errors import SealedOtherwise
from checkpoints.opening import open_database
from tests.databases import Place

V1, V2 = "1" * 16, "2" * 16


def row(name: str, version: str | None = V1, **fields: object) -> AccountRow:
    plain = AccountRow(
        id=f"id-{name}",
        provider=name,
        account="default",
        base_url=None,
        key_version=version,
        nonce=b"n" * 12 if version else None,
        ciphertext=b"c" if version else None,
        last4="wxyz" if version else None,
        options="{}",
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def test_rows_come_back_in_the_order_in_which_they_came(place: Place) -> None:
    async def scenario() -> None:
        async with open_database(place) as database:
            store = AccountStore(database)
            empty = await store.changes()
            first = await store.save(row("b"), [V1])
            await store.save(row("a", None), [V1])
            again = await store.save(row("b", base_url="https://x.example"), [V1])
            assert [each.provider for each in await store.all()] == ["b", "a"]
            assert again.created_at == first.created_at < first.updated_at + 1e-6 < again.updated_at
            assert (await store.all())[0] == again
            changed = await store.changes()
            assert changed != empty
            assert await store.delete(["id-a", "id-none"]) == 1
            assert await store.changes() != changed

    asyncio.run(scenario())


def test_a_key_under_a_second_master_key_is_not_added(place: Place) -> None:
    async def scenario() -> None:
        async with open_database(place) as database:
            store = AccountStore(database)
            await store.save(row("a"), [V1])
            with pytest.raises(SealedOtherwise, match=V1):
                await store.save(row("b", V2), [V2])
            assert [each.provider for each in await store.all()] == ["a"]

    asyncio.run(scenario())


def test_resealing_is_whole_or_not_at_all(place: Place) -> None:
    class Died(Exception):
        pass

    async def scenario() -> None:
        async with open_database(place) as database:
            store = AccountStore(database)
            for name, version in (("a", V1), ("b", None), ("c", V1)):
                await store.save(row(name, version), [V1])
            before = await store.all()

            def dies_at_the_last(each: AccountRow) -> AccountRow:
                if each.provider == "c":
                    raise Died
                return replace(each, key_version=V2)

            with pytest.raises(Died):
                await store.reseal(dies_at_the_last, [V1, V2])
            assert await store.all() == before
            with pytest.raises(SealedOtherwise):
                await store.reseal(lambda each: each, [V2])
            new = b"other"
            count = await store.reseal(lambda each: replace(each, key_version=V2, ciphertext=new), [V1])
            assert count == 2
            after = await store.all()
            assert [(each.key_version, each.ciphertext) for each in after] == [
                (V2, new),
                (None, None),
                (V2, new),
            ]

    asyncio.run(scenario())
