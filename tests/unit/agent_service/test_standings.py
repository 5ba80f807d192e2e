"""How accounts stand outlives the process, by the clock on the wall, and for the same key only."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from agent_service.ledger.book import UsageBook
from agent_service.ledger.budgets import BudgetKeeper
from agent_service.ledger.standings import StandingKeeper, StandingShelf
from agent_service.sections import BudgetSettings
from checkpoints.budgets import BudgetStore
from checkpoints.database import Database
from checkpoints.router_memory import RouterMemory
from checkpoints.usage import DAY_SECONDS, UsageStore
from routing.config import ModelCard, RateLimits
from routing.health import LONGEST_LIMIT, Health
from routing.pool import ProviderPool
from routing.types import Payer
from routing.usage import BudgetExceeded
from tests.databases import Place
from tests.unit.agent_service import bookkeeping
from tests.unit.agent_service.bookkeeping import on
from tests.unit.routing.room import Memory, memory

NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2
KEY = ("a:work", "m")
CALL = replace(bookkeeping.CALL, payer=Payer("alice"), provider="a", account="work")


def work(**row: object) -> Memory:
    return memory("a", models=[ModelCard(id="m", input_price=1.0)], account="work", api_key="key-1", **row)


class Process:
    """What of a service is about standings, begun at a moment; its own clock counts from there."""

    def __init__(self, database: Database, wall: float, *accounts: Memory) -> None:
        self.now, self._wall = 0.0, wall
        self.health = Health(epoch=wall)
        self.pool = ProviderPool(accounts or (work(),))
        book = UsageBook(UsageStore(database), clock=self.wall)
        self.budgets = BudgetKeeper(BudgetSettings(), book, BudgetStore(database), clock=self.wall)
        self.book = book
        self.keeper = StandingKeeper(
            self.pool,
            self.health,
            StandingShelf(RouterMemory(database)),
            self.budgets,
            clock=lambda: self.now,
        )

    def wall(self) -> float:
        return self._wall + self.now

    def seconds(self) -> float | None:
        """How long the model still rests."""
        block = self.health.snapshot(self.now).block(KEY)
        return None if block is None else block.seconds


def test_a_rate_limit_goes_on_after_a_restart_and_ends_in_time(place: Place) -> None:
    async def scenario(database: Database) -> None:
        first = Process(database, NOON)
        async with first.keeper:
            first.health.limited(KEY, first.now, LONGEST_LIMIT)
            first.health.allowed(KEY, first.now, 0.25, 7200)
        second = Process(database, NOON + 600)
        async with second.keeper:
            assert second.seconds() == pytest.approx(LONGEST_LIMIT - 600)
            assert second.health.snapshot(0).left(KEY) == 0.25
        third = Process(database, NOON + LONGEST_LIMIT + 1)
        async with third.keeper:
            assert third.seconds() is None

    on(place, scenario)


def test_how_reliable_a_model_was_is_known_after_a_restart(place: Place) -> None:
    async def scenario(database: Database) -> None:
        before = Process(database, NOON)
        async with before.keeper:
            for _ in range(3):
                before.health.faulted(KEY, before.now)
            before.health.doubt("a:work")
            rate = before.health.snapshot(before.now).of(KEY).trust(before.now)
        after = Process(database, NOON + 60)
        async with after.keeper:
            known = after.health.snapshot(after.now).of(KEY)
            assert known.success_rate == pytest.approx(rate)
            assert rate < known.trust(after.now) < 0.8  # forgiven meanwhile, as if there had been no restart
            assert after.health.doubted == {"a:work"}
            after.health.answered(KEY, after.now)
            assert not after.health.doubted

    on(place, scenario)


def test_a_disabled_key_stays_so_until_it_is_another_one_or_proves_good(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        first = Process(database, NOON)
        async with first.keeper:
            first.health.refused(KEY, 0, "a answered 401", whole_account=True, until_changed=True)
        later = Process(database, NOON + 30 * DAY_SECONDS)
        async with later.keeper:
            block = later.health.snapshot(0).block(KEY)
            assert block is not None and (block.cause, block.words) == ("disabled", "a answered 401")
        saved = await RouterMemory(database).load("standing:")
        for changed in (work(headers={"OpenAI-Project": "p2"}), memory("a", account="work", api_key="key-2")):
            other = Process(database, NOON, changed)
            async with other.keeper:
                assert other.seconds() is None
            await RouterMemory(database).save(saved)
        again = Process(database, NOON)
        async with again.keeper:
            again.health.proven("a:work")
        last = Process(database, NOON)
        async with last.keeper:
            assert last.seconds() is None

    on(tmp_path / "state.db", scenario)


def test_an_account_that_another_process_finds_good_is_asked_again(place: Place) -> None:
    async def scenario(database: Database) -> None:
        serving, other = Process(database, NOON), Process(database, NOON, work(headers={"X": "p2"}))
        async with serving.keeper, other.keeper:
            for until_changed in (False, True):
                for each in (serving, other):
                    each.health.refused(KEY, 0, "a said no", whole_account=True, until_changed=until_changed)
                await serving.keeper.save()
                async with Process(database, NOON).keeper:
                    pass  # who tried nothing has nothing to tell
                await serving.keeper.look_at_proofs()
                assert serving.seconds() is not None
                trying = Process(database, NOON)
                async with trying.keeper:
                    trying.health.proven("a:work")
                for each in (serving, other):
                    await each.keeper.look_at_proofs()
                assert serving.seconds() is None
                assert other.seconds() is not None, "it has another key"
            serving.health.refused(KEY, 0, "a said no", whole_account=True)
            await serving.keeper.save()
            await serving.keeper.look_at_proofs()
            assert serving.seconds() is not None, "what was told by others is not told again"

    on(place, scenario)


def test_what_was_asked_today_is_counted_over_restarts_and_no_longer(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        for number in range(3):
            process = Process(database, NOON + number)
            async with process.keeper:
                process.health.limit({"a:work": RateLimits(requests_per_day=2)})
                assert bool(process.seconds()) == (number == 2)
                process.health.used(KEY, process.now, 10)
        tomorrow = Process(database, NOON + DAY_SECONDS)
        async with tomorrow.keeper:
            tomorrow.health.limit({"a:work": RateLimits(requests_per_day=2)})
            assert tomorrow.seconds() is None

    on(tmp_path / "state.db", scenario)


def test_an_account_that_comes_later_goes_on_from_how_it_stood(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        first = Process(database, NOON)
        async with first.keeper:
            first.health.limited(KEY, 0, 3000)
        second = Process(database, NOON, memory("b"))
        async with second.keeper:
            await second.pool.swap([work(), memory("b")]).finish()
            await second.keeper.save()
            assert second.seconds() == pytest.approx(3000)

    on(tmp_path / "state.db", scenario)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"[]",
        b'{"key": 5}',
        b'{"key": "KEY", "standing": {"rests": [["", "boredom", "", 5, 0]], "left": {}, "today": [1, 2]}}',
        b'{"key": "KEY", "standing": {"rests": [["m"]], "left": {}, "today": [1, 2, 3]}}',
        b'{"key": "KEY", "standing": {"rests": [], "left": {"m": [7, 1]}, "today": [1, 2, 3]}}',
        b'{"key": "KEY", "standing": {"rests": [], "left": {}, "today": 5}}',
    ],
)
def test_a_damaged_standing_is_left_out(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(database: Database) -> None:
        shelf = StandingShelf(RouterMemory(database))
        spec = work().spec
        seal = await shelf.seal(spec)
        await RouterMemory(database).save({"standing:a:work": data.replace(b"KEY", seal.encode())})
        await shelf.load()
        with caplog.at_level(logging.WARNING):
            assert await shelf.standing(spec) is None

    on(tmp_path / "state.db", scenario)


def test_the_key_is_not_in_what_is_kept(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        process = Process(database, NOON)
        async with process.keeper:
            process.health.limited(KEY, 0, 60)
        (data,) = (await RouterMemory(database).load("standing:")).values()
        assert b"key-1" not in data

    on(tmp_path / "state.db", scenario)


def test_a_cap_holds_for_many_calls_at_once_and_begins_anew_at_midnight(place: Place) -> None:
    async def scenario(database: Database) -> None:
        account = work(cap_usd_per_day=1.0)
        process = Process(database, NOON, account)
        async with process.book:

            async def call(number: int) -> bool:
                try:
                    await process.budgets.reserve(f"c{number}", CALL.payer, 0.3, 60, account.spec)
                except BudgetExceeded as broke:
                    assert (broke.account_id, broke.spent) == ("a:work", False)
                    assert "The cap of $1.00 a day of a/work does not allow a call of $0.3" in str(broke)
                    return False
                return True

            assert sum(await asyncio.gather(*(call(number) for number in range(8)))) == 3
            for number in range(8):
                process.book.record(replace(CALL, id=f"c{number}", charged_usd=0.125))
            with pytest.raises(BudgetExceeded, match=r"is used up \(\$1\.00 spent\)") as caught:
                await process.budgets.reserve("c9", CALL.payer, 0.001, 60, account.spec)
            assert caught.value.spent and caught.value.retry_after == DAY_SECONDS / 2
            await process.budgets.reserve("c9", CALL.payer, 5.0, 60, memory("a").spec)  # another account
            process.now = DAY_SECONDS / 2
            await process.budgets.reserve("c9", CALL.payer, 0.9, 60, account.spec)

    on(place, scenario)


@pytest.mark.parametrize("cap", [0.0, 0.2])
def test_a_cap_that_is_used_up_is_known_at_the_start(tmp_path: Path, cap: float) -> None:
    async def scenario(database: Database) -> None:
        first = Process(database, NOON)
        async with first.book:
            first.book.record(CALL)
        second = Process(database, NOON + 60, work(cap_usd_per_day=cap))
        async with second.keeper:
            block = second.health.snapshot(0).block(KEY)
            assert block is not None and block.cause == "cap" and "a/work is used up" in block.words
            assert second.health.snapshot(0).block(KEY, is_free=True) is None
            await second.pool.swap([work(cap_usd_per_day=9)]).finish()
            await second.keeper.look_at_caps()
            assert second.seconds() is None

    on(tmp_path / "state.db", scenario)
