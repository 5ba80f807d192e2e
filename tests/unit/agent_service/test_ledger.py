"""The ledger: written down in batches, bounded, patient with its database; lessons outlive the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from agent_service.agent.findings import Finding, Maker
from agent_service.ledger import book as book_module
from agent_service.ledger.answers import AnswerCache
from agent_service.ledger.book import UsageBook
from agent_service.ledger.budgets import BudgetKeeper
from agent_service.ledger.lessons import LessonShelf, Remembering
from agent_service.sections import BudgetSettings, CacheSettings
from checkpoints.budgets import BudgetStore, of_thread
from checkpoints.database import Database
from checkpoints.errors import DatabaseUnusable
from checkpoints.response_cache import ResponseCache
from checkpoints.router_memory import RouterMemory
from checkpoints.usage import DAY_SECONDS, UsageRow, UsageStore
from routing.config import ProviderSpec, RoutingConfig
from routing.learning import Evidence, Lesson
from routing.pool import ProviderPool
from routing.router import ModelRouter
from routing.types import ChatRequest, Payer
from routing.usage import BudgetExceeded
from tests.databases import Place
from tests.unit.agent_service.bookkeeping import CALL, on
from tests.unit.routing.room import ask, rated

SPEC = ProviderSpec(name="acme", account="team", base_url="https://acme.example/v1")
NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2


async def count(database: Database) -> int:
    return (await UsageStore(database).report("day", 0, 100_000, None))[0].calls


class Unwilling(UsageStore):
    """A store whose database fails so many times."""

    def __init__(self, database: Database, failures: int) -> None:
        super().__init__(database)
        self.failures = failures

    async def add(self, rows: list[UsageRow]) -> None:  # type: ignore[override]
        if self.failures:
            self.failures -= 1
            raise DatabaseUnusable("it is down")
        await super().add(rows)


def test_calls_are_stored_within_a_second_without_anybody_waiting(place: Place) -> None:
    async def scenario(database: Database) -> None:
        async with UsageBook(UsageStore(database)) as book:
            for number in range(3):
                book.record(replace(CALL, id=f"c{number}"))
            assert await count(database) == 0
            for _ in range(100):
                if await count(database) == 3:
                    return
                await asyncio.sleep(0.05)
            raise AssertionError("they were not stored by themselves")

    on(place, scenario)


def test_what_is_noted_last_is_stored_at_the_end(place: Place) -> None:
    async def scenario(database: Database) -> None:
        async with UsageBook(UsageStore(database)) as book:
            for number in range(book_module.BATCH + 1):
                book.record(replace(CALL, id=f"c{number}"))
        assert await count(database) == book_module.BATCH + 1

    on(place, scenario)


def test_a_report_has_all_that_was_noted(place: Place) -> None:
    async def scenario(database: Database) -> None:
        async with UsageBook(UsageStore(database), clock=lambda: NOON) as book:
            book.record(CALL)
            reports = await asyncio.gather(*(book.report("day", 20_000, 20_000, "alice") for _ in range(8)))
            assert [total.calls for total, _ in reports] == [1] * 8

    on(place, scenario)


def test_whoever_leaves_while_it_is_written_doubles_and_loses_nothing(place: Place) -> None:
    async def scenario(database: Database) -> None:
        async with UsageBook(UsageStore(database)) as book:
            for number in range(50):
                book.record(replace(CALL, id=f"c{number}"))
                leaving = asyncio.create_task(book.flush())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                leaving.cancel()
            await book.flush()
            assert await count(database) == 50
        assert await BudgetStore(database).spent(of_thread("thread-01")) == 12.5

    on(place, scenario)


def test_an_unwilling_database_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(database: Database) -> None:
        async with UsageBook(Unwilling(database, failures=2)) as book:
            book.record(CALL)
            with pytest.raises(DatabaseUnusable):
                await book.flush()
        assert "1 calls wait to be counted: it is down" in caplog.text
        assert await count(database) == 0
        async with UsageBook(Unwilling(database, failures=1)) as book:
            book.record(CALL)
            with pytest.raises(DatabaseUnusable):
                await book.flush()
            await book.flush()
            assert await count(database) == 1

    on(tmp_path / "state.db", scenario)


def test_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(book_module, "MOST_WAITING", 5)

    async def scenario(database: Database) -> None:
        async with UsageBook(UsageStore(database)) as book:
            for number in range(7):
                book.record(replace(CALL, id=f"c{number}"))
        assert await count(database) == 5
        assert "2 calls were not counted" in caplog.text

    on(tmp_path / "state.db", scenario)


def test_what_a_call_really_cost_counts_at_once(place: Place) -> None:
    async def scenario(database: Database) -> None:
        async with UsageBook(UsageStore(database), clock=lambda: NOON) as book:
            settings = BudgetSettings(per_day_usd=1.0)
            keeper = BudgetKeeper(settings, book, BudgetStore(database), clock=lambda: NOON)
            for number in range(4):
                await keeper.reserve(f"c{number}", CALL.payer, 0.25 * (4 - number), 60, SPEC)
                book.record(replace(CALL, id=f"c{number}"))
            with pytest.raises(BudgetExceeded, match=r"\$1\.00 are spent") as raised:
                await keeper.reserve("c4", CALL.payer, 0.001, 60, SPEC)
            assert raised.value.retry_after == DAY_SECONDS / 2
            assert "(budgets.per_day_usd)" in str(raised.value)
            keeper.settings = BudgetSettings()
            await keeper.reserve("c4", CALL.payer, 100.0, 60, SPEC)

    on(place, scenario)


def test_a_thread_has_a_budget_for_all_its_days(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        now = NOON
        async with UsageBook(UsageStore(database), clock=lambda: now) as book:
            settings = BudgetSettings(per_thread_usd=0.3, per_principal_day_usd=0.3)
            keeper = BudgetKeeper(settings, book, BudgetStore(database), clock=lambda: now)
            book.record(CALL)
            with pytest.raises(BudgetExceeded, match="a day for alice"):
                await keeper.reserve("c1", Payer("alice"), 0.1, 60, SPEC)
            now += DAY_SECONDS
            await keeper.reserve("c1", Payer("alice"), 0.1, 60, SPEC)
            with pytest.raises(BudgetExceeded, match="for each thread") as raised:
                await keeper.reserve("c2", Payer("bobby", "thread-01"), 0.1, 60, SPEC)
            assert raised.value.retry_after is None
            assert "new thread" in str(raised.value)

    on(tmp_path / "state.db", scenario)


def test_lessons_outlive_the_process(place: Place) -> None:
    async def scenario(database: Database) -> None:
        shelf = LessonShelf(RouterMemory(database))
        lessons = [
            Lesson("acme", "m", {"tools": Evidence(3.0, 1.0)}, ttft=0.5, speed=80.0),
            Lesson("acme", "vendor/other\0name", {}, ttft=1.5),
        ]
        await shelf.save(lessons)
        await shelf.save([replace(lessons[0], ttft=0.25)])
        loaded = {
            (each.provider, each.model): each for each in await LessonShelf(RouterMemory(database)).load()
        }
        assert loaded["acme", "m"] == replace(lessons[0], ttft=0.25)
        assert loaded["acme", "vendor/other\0name"] == lessons[1]

    on(place, scenario)


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        memory = RouterMemory(database, clock=iter(range(100)).__next__)
        lessons = [Lesson("acme", "m", ttft=0.5), Lesson("acme", "n", ttft=0.5)]
        await LessonShelf(memory).save(lessons)
        shelf = LessonShelf(memory)
        await shelf.load()
        await shelf.save([lessons[0], replace(lessons[1], ttft=0.6)])
        await memory.forget_before(1.0)
        assert [each.model for each in await shelf.load()] == ["n"]

    on(tmp_path / "state.db", scenario)


@pytest.mark.parametrize("data", [b"\xff", b"{", b'{"version": 99, "lessons": []}', b'{"version": 1}', b"[]"])
def test_a_damaged_lesson_is_left_out(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(database: Database) -> None:
        memory = RouterMemory(database)
        await LessonShelf(memory).save([Lesson("acme", "m", ttft=0.5)])
        await memory.save({"lesson:acme/damaged": data})
        with caplog.at_level(logging.WARNING):
            assert [each.model for each in await LessonShelf(memory).load()] == ["m"]
        assert "acme/damaged cannot be read" in caplog.text

    on(tmp_path / "state.db", scenario)


def test_a_router_goes_on_from_what_it_learned(place: Place) -> None:
    async def scenario(database: Database) -> None:
        def router() -> ModelRouter:
            pool = ProviderPool([rated("good", 0.5), rated("bad", 0.6)])
            return ModelRouter(pool, config=RoutingConfig(), random=lambda: 1.0)

        first = router()
        async with Remembering(first, LessonShelf(RouterMemory(database))):
            assert (await first.complete(ask())).decision.provider == "bad"
            for _ in range(20):
                first.report(("bad", "m"), "chat", "change_discarded")
        second = router()
        async with Remembering(second, LessonShelf(RouterMemory(database))):
            assert (await second.complete(ask())).decision.provider == "good"

    on(place, scenario)


FINDING = Finding(Maker(("good", "m"), "tools"), "change_kept")


def test_a_finding_and_its_mark_are_kept_together(place: Place) -> None:
    async def scenario(database: Database) -> None:
        def router() -> ModelRouter:
            return ModelRouter(ProviderPool([rated("good", 0.5)]), config=RoutingConfig())

        async with Remembering(router(), LessonShelf(RouterMemory(database))) as first:
            assert await first.judged("t") == 0
            await first.learn("t", 7, [FINDING])
            await first.learn("t2", 9, [])
            shelf = LessonShelf(RouterMemory(database))  # of another replica, at once
            assert [await shelf.marked(each) for each in ("t", "t2", "t3")] == [7, 9, 0]
            assert [each.evidence["tools"] for each in await shelf.load()] == [Evidence(0.5, 0.0)]

    on(place, scenario)


def test_replicas_add_to_each_others_lessons(place: Place) -> None:
    async def scenario(database: Database) -> None:
        def router() -> ModelRouter:
            return ModelRouter(ProviderPool([rated("good", 0.5)]), config=RoutingConfig())

        async def stored() -> Evidence:
            [lesson] = await LessonShelf(RouterMemory(database)).load()
            return lesson.evidence["tools"]

        alone = Evidence()
        async with Remembering(router(), LessonShelf(RouterMemory(database))) as one:
            async with Remembering(router(), LessonShelf(RouterMemory(database))) as other:
                for number in range(20):
                    await (one, other)[number % 2].learn(f"t{number}", 1, [FINDING])
                    alone = alone.and_("change_kept")
                assert (await stored()).good == pytest.approx(alone.good)
            third = router()
            async with Remembering(third, LessonShelf(RouterMemory(database))) as remembering:
                await remembering.learn("t", 1, [replace(FINDING, outcome="change_discarded")])
                await one.learn("t", 2, [FINDING])
        alone = alone.and_("change_discarded").and_("change_kept")
        assert await stored() == Evidence(pytest.approx(alone.good), pytest.approx(alone.bad))  # type: ignore[arg-type]

    on(place, scenario)


class FullAtFirst(RouterMemory):
    """A database whose disk is full once."""

    full = True

    async def update(
        self, names: Collection[str], change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]
    ) -> None:
        if self.full:
            self.full = False
            raise DatabaseUnusable("the disk is full")
        await super().update(names, change)


def test_a_full_disk_doubles_and_loses_no_finding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(database: Database) -> None:
        router = ModelRouter(ProviderPool([rated("good", 0.5)]), config=RoutingConfig())
        memory = FullAtFirst(database)
        async with Remembering(router, LessonShelf(memory)) as remembering:
            await remembering.learn("t", 7, [FINDING])
            assert await LessonShelf(memory).marked("t") == 0 and await LessonShelf(memory).load() == []
            assert await remembering.judged("t") == 7  # not judged again here
        assert await LessonShelf(memory).marked("t") == 7
        assert [each.evidence["tools"] for each in await LessonShelf(memory).load()] == [Evidence(0.5, 0.0)]

    with caplog.at_level(logging.ERROR):
        on(tmp_path / "state.db", scenario)
    assert "could not be saved" in caplog.text


@pytest.mark.parametrize(
    ("body", "is_kept"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0, "n": 1, "seed": 3}, True),
        ({}, False),
        ({"temperature": False}, False),
        ({"temperature": 0.1}, False),
        ({"temperature": 0, "tools": [{"type": "function"}]}, False),
        ({"temperature": 0, "n": 2}, False),
        ({"temperature": 0, "seed": 1 << 70}, False),
        ({"temperature": 0, "web_search_options": {"search_context_size": "low"}}, False),
        ({"temperature": 0, "modalities": ["text", "audio"], "audio": {"voice": "alloy"}}, False),
    ],
)
def test_which_requests_have_one_answer(tmp_path: Path, body: dict[str, object], is_kept: bool) -> None:
    async def scenario(database: Database) -> None:
        on_, off = (
            AnswerCache(CacheSettings(enabled=each), ResponseCache(database)) for each in (True, False)
        )
        request = ChatRequest(body={"messages": [], **body})
        assert (on_.key(request) is not None) == is_kept
        assert off.key(request) is None
        if is_kept:
            other = replace(request, quality="fastest")
            assert on_.key(request) != on_.key(other)
            assert on_.key(request) == on_.key(replace(request, payer=Payer("somebody")))

    on(tmp_path / "state.db", scenario)
