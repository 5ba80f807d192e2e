"""Following a thread: what is stored and what is live, in order, without a gap and without a double."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent_service.agent import feed as feed_module
from agent_service.agent.feed import MAX_WAITING, EventFeed, Subscription, Told
from agent_service.events import Failed, Message, Token, encode_sse, new_event
from checkpoints.database import Database
from checkpoints.events import EventLog, NewEvent, StoredEvent
from checkpoints.opening import open_database
from checkpoints.runs import NewRun, NewThread
from checkpoints.stores import Stores
from checkpoints.threads import forget_thread

THREAD = "thread-01"


def message(text: str) -> NewEvent:
    return new_event(Message(thread_id=THREAD, run_id="r", role="assistant", text=text))


def token(text: str) -> Token:
    return Token(thread_id=THREAD, run_id="r", text=text)


def text_of(event: Told | None) -> str:
    if isinstance(event, StoredEvent):
        return str(json.loads(event.data)["text"])
    assert isinstance(event, Token)
    return f"({event.text})"


async def take(subscription: Subscription, count: int, after: int = 0) -> list[Told | None]:
    taken: list[Told | None] = []
    async with asyncio.timeout(10):
        async for event in subscription.events(after, 30):
            taken.append(event)
            if len(taken) == count:
                break
    return taken


def with_feed(path: Path, scenario: Callable[[Database, EventLog, EventFeed], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_database(path / "state.db") as database:
            stores = Stores.on(database)
            await stores.runs.begin(NewRun("p", THREAD, "r", b"{}"), "go", NewThread("t", None, None))
            async with EventFeed(stores.log) as feed:
                await scenario(database, stores.log, feed)

    asyncio.run(run())


def test_what_was_stored_before_is_told_first_and_then_what_comes(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        await log.add(THREAD, [message("1"), message("2")])
        with feed.follow(THREAD) as subscription:
            await log.add(THREAD, [message("3")])  # in the log and in the queue: told once
            told = asyncio.create_task(take(subscription, 5))
            await asyncio.sleep(0.05)
            feed.publish(token("a"))
            await log.add(THREAD, [message("4")])
            assert [text_of(each) for each in await told] == ["1", "2", "3", "(a)", "4"]

    with_feed(tmp_path, scenario)


def test_tokens_carry_the_number_of_the_latest_stored_event(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        await log.add(THREAD, [message("1")])
        with feed.follow(THREAD) as subscription:
            feed.publish(token("a"))
            first, second = await take(subscription, 2)
            assert isinstance(first, StoredEvent)
            assert isinstance(second, Token)
            assert first.seq == second.seq == 1

    with_feed(tmp_path, scenario)


def test_pieces_of_a_message_that_was_told_whole_are_left_out(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        with feed.follow(THREAD) as subscription:
            await log.add(THREAD, [message("1")])
            feed.publish(token("old"))
            await log.add(THREAD, [message("2")])
            await log.add(THREAD, [message("3")])
            assert [text_of(each) for each in await take(subscription, 3)] == ["1", "2", "3"]

    with_feed(tmp_path, scenario)


def test_a_follower_far_behind_misses_tokens_and_nothing_else(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        with feed.follow(THREAD) as subscription:
            following = subscription.events(0, 30)
            await log.add(THREAD, [message("first")])
            assert text_of(await anext(following)) == "first"
            for start in range(0, 3 * MAX_WAITING, 100):
                await log.add(THREAD, [message(str(start + n)) for n in range(100)])
                feed.publish(token("t"))
            assert subscription.waiting <= MAX_WAITING
            told: list[str] = []
            while len(told) < 3 * MAX_WAITING:
                event = await anext(following)
                if isinstance(event, StoredEvent):
                    told.append(text_of(event))
            assert told == [str(n) for n in range(3 * MAX_WAITING)]

    with_feed(tmp_path, scenario)


def test_what_another_process_stores_is_told_too(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        elsewhere = EventLog(database)  # nobody here listens to it
        with feed.follow(THREAD) as subscription:
            told = asyncio.create_task(take(subscription, 4))
            await elsewhere.add(THREAD, [message("1"), message("2")])
            await asyncio.sleep(2.5 * feed_module.LOOK_SECONDS)
            await elsewhere.add(THREAD, [message("3")])
            await log.add(THREAD, [message("4")])  # its number shows that one is missing
            assert [text_of(each) for each in await told] == ["1", "2", "3", "4"]

    with_feed(tmp_path, scenario)


def test_a_slow_follower_is_told_what_another_process_stored_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "LOOK_SECONDS", 0.01)

    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        with feed.follow(THREAD) as subscription:
            following = subscription.events(0, 5)
            await log.add(THREAD, [message("1")])
            assert text_of(await anext(following)) == "1"
            await log.add(THREAD, [message("2")])  # waits for the follower
            await EventLog(database).add(THREAD, [message("3")])
            await asyncio.sleep(0.2)  # it is seen, and then nothing more happens
            assert [text_of(await anext(following)) for _ in range(2)] == ["2", "3"]

    with_feed(tmp_path, scenario)


def test_who_asks_for_events_that_are_gone_is_told_so(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        await log.add(THREAD, [message("1")])
        await log.forget_before(2e9 * 2)
        await log.add(THREAD, [message("2")])
        with feed.follow(THREAD) as subscription:
            gap, event = await take(subscription, 2)
            assert isinstance(gap, Failed)
            assert gap.code == "events_expired"
            assert b"id:" not in encode_sse(gap)
            assert text_of(event) == "2"

    with_feed(tmp_path, scenario)


def test_many_at_once_see_the_same_numbers_in_order(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        async def follow() -> list[int]:
            with feed.follow(THREAD) as subscription:
                told = await take(subscription, 200)
                return [each.seq for each in told if isinstance(each, StoredEvent)]

        followers = [asyncio.create_task(follow()) for _ in range(8)]
        await asyncio.gather(*(log.add(THREAD, [message(str(n))]) for n in range(200)))
        for numbers in await asyncio.gather(*followers):
            assert numbers == list(range(1, 201))

    with_feed(tmp_path, scenario)


def test_closing_ends_the_stream(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        with feed.follow(THREAD) as subscription:
            ended = asyncio.create_task(take(subscription, 99))
            await asyncio.sleep(0.05)
            feed.close()
            assert await ended == []

    with_feed(tmp_path, scenario)


def test_silence_is_told_as_nothing(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        with feed.follow(THREAD) as subscription:
            assert await anext(subscription.events(0, 0.05)) is None

    with_feed(tmp_path, scenario)


def test_who_takes_the_name_of_a_deleted_thread_is_not_overheard(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        stores = Stores.on(database)
        for heard in (log, EventLog(database)):  # in this process, and in another one
            last, born = (await log.last([THREAD]))[THREAD]
            with feed.follow(THREAD, born) as subscription:
                told = asyncio.create_task(take(subscription, 99, after=last))
                await asyncio.sleep(0.05)
                await database.write(lambda connection: forget_thread(connection, THREAD))
                await stores.runs.begin(NewRun("q", THREAD, "r", b"{}"), "go", NewThread("t", None, None))
                await heard.add(THREAD, [message("secret")])
                if heard is log:
                    feed.publish(token("secret"))
                assert await told == []

    with_feed(tmp_path, scenario)


def test_a_deleted_thread_is_left(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        born = (await log.last([THREAD]))[THREAD].born
        with feed.follow(THREAD, born) as subscription:
            told = asyncio.create_task(take(subscription, 99))
            await asyncio.sleep(0.05)
            await database.write(lambda connection: forget_thread(connection, THREAD))
            assert await told == []

    with_feed(tmp_path, scenario)


def test_the_end_of_a_deleted_thread_is_not_the_end_of_its_namesake(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        born = (await log.last([THREAD]))[THREAD].born
        with feed.follow(THREAD) as fresh, feed.follow(THREAD, born) as old:
            feed.end(THREAD, born)
            await log.add(THREAD, [message("1")])
            assert await take(old, 99, after=1) == []
            assert [text_of(each) for each in await take(fresh, 1)] == ["1"]

    with_feed(tmp_path, scenario)


def test_who_comes_while_the_log_is_looked_through_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "LOOK_SECONDS", 0.0)

    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        stores = Stores.on(database)
        await stores.runs.begin(NewRun("p", "thread-02", "s", b"{}"), "go", NewThread("t", None, None))
        born = (await log.last([THREAD]))[THREAD].born
        with feed.follow("thread-02"):  # there is always something to look for
            for turns in range(100):
                for _ in range(turns % 10):
                    await asyncio.sleep(0)
                with feed.follow(THREAD, born) as subscription:
                    assert await anext(subscription.events(99, 0.01)) is None

    with_feed(tmp_path, scenario)


def test_who_leaves_in_the_middle_of_a_reading_disturbs_nobody(tmp_path: Path) -> None:
    async def scenario(database: Database, log: EventLog, feed: EventFeed) -> None:
        await log.add(THREAD, [message(str(n)) for n in range(500)])
        for _ in range(200):
            reading = asyncio.create_task(log.after(THREAD, 0))
            await asyncio.sleep(0)
            reading.cancel()
        assert len(await log.after(THREAD, 0)) == 500

    with_feed(tmp_path, scenario)
