"""Accounts kept with their keys encrypted, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from agent_service.config_file import ConfigError
from agent_service.keys.account import Account, AccountOptions
from agent_service.keys.errors import MasterKeyUnusable
from agent_service.keys.master import FILE, MasterKeySource
from agent_service.keys.vault import AccountVault
from agent_service.layers import MASTER_KEY_VARIABLE as VARIABLE
from checkpoints.accounts import AccountRow, AccountStore
from checkpoints.database import Database
from checkpoints.opening import open_database
from tests.databases import Place

KEY, OTHER_KEY = "gsk_0123456789abcdefWXYZ", "sk-or-9876543210fedcbaQRST"
ENV_1, ENV_2 = "11" * 32, "22" * 32
GROQ = Account("groq", api_key=SecretStr(KEY), options=AccountOptions(cap_usd_per_day=2.5))
ROUTER = Account("openrouter", "work", SecretStr(OTHER_KEY), "https://x.example/v1")
OWN = Account("team", base_url="https://team.example/v1")


@asynccontextmanager
async def vault_at(
    place: Place, folder: Path, master: str | None = None
) -> AsyncIterator[tuple[AccountVault, Database]]:
    async with open_database(place) as database:
        environ = {} if master is None else {VARIABLE: master}
        yield AccountVault(AccountStore(database), MasterKeySource(folder, environ)), database


def plain(account: Account) -> tuple[object, ...]:
    key = account.api_key and account.api_key.get_secret_value()
    return account.provider, account.account, key, account.base_url, account.options, account.problem


def test_accounts_come_back_and_their_keys_are_not_in_the_database(place: Place, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path) as (vault, database):
            for account in (GROQ, ROUTER, OWN):
                await vault.save(account)
            assert [plain(each) for each in await vault.accounts()] == [*map(plain, (GROQ, ROUTER, OWN))]
            async with database.read() as connection:
                rows = (await connection.execute(text("SELECT * FROM provider_accounts"))).all()
            stored = repr(rows) + repr(await vault.accounts())
            assert KEY not in stored and OTHER_KEY not in stored and KEY[:8] not in stored
            assert {row.last4 for row in rows} == {"WXYZ", "QRST", None}

    asyncio.run(scenario())


def test_without_keys_no_master_key_is_made(place: Place, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path / "none") as (vault, _):
            await vault.save(OWN)
            assert [plain(each) for each in await vault.accounts()] == [plain(OWN)]

    asyncio.run(scenario())
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("present", [None, ENV_2])
def test_a_wrong_master_key_is_told_and_nothing_is_overwritten(
    place: Place, tmp_path: Path, present: str | None
) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path, ENV_1) as (vault, database):
            await vault.save(GROQ)
            before = await AccountStore(database).all()
        async with vault_at(place, tmp_path, present) as (vault, database):
            for attempt in (vault.accounts(), vault.save(ROUTER), vault.save(GROQ), vault.rotate()):
                with pytest.raises(MasterKeyUnusable, match=r"encrypted with the master key.*\(1\) Set"):
                    await attempt
            assert await AccountStore(database).all() == before
        async with vault_at(place, tmp_path, ENV_1) as (vault, _):
            assert [plain(each) for each in await vault.accounts()] == [plain(GROQ)]

    asyncio.run(scenario())


def test_a_lost_master_key_is_got_over_by_removing_what_it_locked(place: Place, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path, ENV_1) as (vault, _):
            await vault.save(GROQ)
            await vault.save(OWN)
        async with vault_at(place, tmp_path, ENV_2) as (vault, _):
            assert await vault.remove_unreadable() == ["groq/default"]
            await vault.save(ROUTER)
            assert [each.provider for each in await vault.accounts()] == ["team", "openrouter"]
            assert await vault.remove_unreadable() == []

    asyncio.run(scenario())


def test_a_key_moved_to_another_row_is_not_used(place: Place, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path) as (vault, database):
            await vault.save(GROQ)
            await vault.save(ROUTER)
            move = (
                "UPDATE provider_accounts SET ciphertext = (SELECT ciphertext FROM provider_accounts "
                "WHERE provider = 'groq'), nonce = (SELECT nonce FROM provider_accounts "
                "WHERE provider = 'groq') WHERE provider = 'openrouter'"
            )
            await database.write(lambda connection: connection.execute(text(move)))
            groq, router = await vault.accounts()
            assert plain(groq) == plain(GROQ)
            assert router.api_key is None
            assert router.problem is not None and "damaged or moved" in router.problem
            with pytest.raises(MasterKeyUnusable, match="Nothing was rotated"):
                await vault.rotate()

    asyncio.run(scenario())


@pytest.mark.parametrize("options", ["", "[]", '{"unknown": 1}', '{"enabled": "perhaps"}', "{" * 5000])
def test_options_that_make_no_sense_are_a_problem_of_that_account(
    place: Place, tmp_path: Path, options: str
) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path) as (vault, database):
            await vault.save(GROQ)
            await vault.save(OWN)
            spoil = text("UPDATE provider_accounts SET options = :options WHERE provider = 'groq'")
            await database.write(lambda connection: connection.execute(spoil, {"options": options}))
            groq, own = await vault.accounts()
            assert groq.problem and not own.problem

    asyncio.run(scenario())


def test_rotation_seals_everything_anew(place: Place, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path) as (vault, database):
            for account in (GROQ, ROUTER, OWN):
                await vault.save(account)
            old_file, old_rows = (tmp_path / FILE).read_text(), await AccountStore(database).all()
            seen = await vault.changes()
            rotation = await vault.rotate()
            assert (rotation.accounts, rotation.advice) == (2, None)
            assert await vault.changes() != seen
            assert [plain(each) for each in await vault.accounts()] == [*map(plain, (GROQ, ROUTER, OWN))]
            rows = await AccountStore(database).all()
            assert {row.key_version for row in rows} == {rotation.version, None}
            assert not {row.ciphertext for row in rows if row.key_version} & {r.ciphertext for r in old_rows}
            lines = (tmp_path / FILE).read_text().split()
            assert len(lines) == 1 and lines[0] not in old_file

    asyncio.run(scenario())


def test_rotation_with_keys_of_the_environment(place: Place, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path, ENV_1) as (vault, _):
            await vault.save(GROQ)
            same = await vault.rotate()
            assert same.advice is not None and f"{VARIABLE}=NEW,OLD" in same.advice
        async with vault_at(place, tmp_path, f"{ENV_2},{ENV_1}") as (vault, _):
            rotated = await vault.rotate()
            assert rotated.advice is not None and "Take the other keys out" in rotated.advice
        async with vault_at(place, tmp_path, ENV_2) as (vault, _):
            assert [plain(each) for each in await vault.accounts()] == [plain(GROQ)]

    asyncio.run(scenario())
    assert list(tmp_path.glob(FILE)) == []


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("point", ["before the rows", "among the rows", "after the rows"])
def test_a_rotation_that_dies_on_the_way_loses_nothing(
    place: Place, tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path) as (vault, database):
            await vault.save(GROQ)
            await vault.save(ROUTER)
            store, masters = AccountStore(database), MasterKeySource(tmp_path, {})
            with monkeypatch.context() as dying:
                if point == "after the rows":
                    dying.setattr(masters, "keep_only", dies)
                elif point == "before the rows":
                    dying.setattr(store, "reseal", dies)
                else:
                    dying.setattr("agent_service.keys.vault._resealed", dies_at("openrouter"))
                with pytest.raises((Died, RuntimeError)):
                    await AccountVault(store, masters).rotate()
            assert [plain(each) for each in await vault.accounts()] == [plain(GROQ), plain(ROUTER)]
            await vault.save(replace(OWN, api_key=SecretStr(KEY)))
            rotation = await vault.rotate()
            assert rotation.accounts == 3
            assert {row.key_version for row in await store.all()} == {rotation.version}
            assert len((tmp_path / FILE).read_text().split()) == 1
            assert len(await vault.accounts()) == 3

    def dies(*_: object) -> None:
        raise Died

    def dies_at(provider: str) -> object:
        from agent_service.keys.vault import _resealed

        def change(row: AccountRow, *rest: object) -> AccountRow:
            if row.provider == provider:
                raise RuntimeError("the process ends here")
            return _resealed(row, *rest)  # type: ignore[arg-type]

        return change

    asyncio.run(scenario())


def test_a_master_key_replaced_by_another_process_is_noticed(place: Place, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path) as (vault, _), vault_at(place, tmp_path) as (other, _):
            await vault.save(GROQ)
            await other.rotate()
            await vault.save(ROUTER)
            assert len(await other.accounts()) == 2

    asyncio.run(scenario())


def test_a_file_that_others_can_read_stops_everything(place: Place, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with vault_at(place, tmp_path) as (vault, _):
            await vault.save(GROQ)
            (tmp_path / FILE).chmod(0o644)
            with pytest.raises(ConfigError, match="chmod 600"):
                await vault.accounts()

    asyncio.run(scenario())
