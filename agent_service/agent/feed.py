"""Events of threads, to everybody who follows: what is stored, in order and without a gap, and live tokens.

A follower subscribes first and reads the log then, so nothing falls in between; whatever comes twice is told
by its number. Whenever a number is missing (another process stored it, or the follower was too slow) the log
is read again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import orjson

from agent_service.events import Failed, Token
from checkpoints.events import EventLog, StoredEvent
from checkpoints.rows import is_text

MAX_WAITING = 1_000
"""Events kept for one follower. One who is further behind reads the log again, and misses tokens, which
the whole message repeats."""
LOOK_SECONDS = 1.0
"""How often it is seen whether another process stored something for a thread that is followed here."""
PAGE = 200

Told = StoredEvent | Token | Failed


class Subscription:
    """The events of one thread, in order."""

    def __init__(self, log: EventLog, thread_id: str, born: float | None) -> None:
        self.born = born
        self._log = log
        self._thread_id = thread_id
        self._live: asyncio.Queue[StoredEvent | Token | None] = asyncio.Queue()
        self._closed = False
        self._newest = 0

    def put(self, event: StoredEvent | Token) -> None:
        """Pass a live event on; never waits."""
        if self._live.qsize() >= MAX_WAITING:
            while not self._live.empty():
                self._live.get_nowait()
        self._live.put_nowait(event)

    @property
    def waiting(self) -> int:
        """How many events were passed on and not taken yet."""
        return self._live.qsize()

    def look(self, newest: int) -> None:
        """Have the log read if it has something newer than what was passed on."""
        self._newest = max(self._newest, newest)
        if self._live.empty():
            self._live.put_nowait(None)

    def close(self) -> None:
        """No more events will come."""
        self._closed = True
        self._live.put_nowait(None)

    async def events(self, after: int, keep_alive: float) -> AsyncIterator[Told | None]:
        """Those after that number, from the log and then as they come, until the feed is closed.

        None after `keep_alive` seconds without one. Begins with an error if some are no longer kept.
        """
        last = after
        async for stored in self._replay(after):
            if last == after and stored.seq > after + 1:
                yield _expired(stored)
            last = stored.seq
            yield stored
        while not self._closed:
            try:
                event = await asyncio.wait_for(self._live.get(), keep_alive)
            except TimeoutError:
                yield None
                continue
            if self._closed:
                return
            if isinstance(event, StoredEvent) and event.seq == last + 1:
                last = event.seq
                yield event
            elif isinstance(event, Token):
                if event.seq == 0:
                    yield event.model_copy(update={"seq": last})
                elif event.seq >= last:  # else it is a piece of a message that was told whole by now
                    yield event
            elif event is not None:
                self._newest = max(self._newest, event.seq)
            if self._newest > last:
                async for stored in self._replay(last):
                    last = stored.seq
                    yield stored

    async def _replay(self, after: int) -> AsyncIterator[StoredEvent | Failed]:
        while page := await self._log.after(self._thread_id, after, PAGE):
            for event in page:
                yield event if _is_sound(event) else _damaged(event)
            after = page[-1].seq


def _is_sound(event: StoredEvent) -> bool:
    """Whether it is what was stored, as far as a client would stumble over it."""
    data: object = event.data
    try:
        found = orjson.loads(data) if isinstance(data, bytes) else None
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and found.get("kind") == event.kind


def _damaged(event: StoredEvent) -> Failed:
    return Failed(
        seq=event.seq,
        thread_id=event.thread_id,
        run_id=event.run_id if is_text(event.run_id) else "",
        message="This event was damaged in the database and cannot be told; the thread itself tells how it "
        "stands.",
        code="state_damaged",
    )


def _expired(first: StoredEvent | Failed) -> Failed:
    return Failed(
        seq=first.seq - 1,
        thread_id=first.thread_id,
        run_id=first.run_id,
        message="Earlier events are no longer kept; the thread itself tells how it stands.",
        code="events_expired",
    )


class EventFeed:
    """Passes events on. Publishing never waits: a slow or gone follower does not slow a run."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._followers: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._closed = False
        self._latest: dict[str, int] = {}
        """The number of the latest event passed on, of threads that are followed."""
        log.listen(self._pass_on)

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look_for_ever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._looking.cancel()
        with suppress(asyncio.CancelledError):
            await self._looking

    def publish(self, token: Token) -> None:
        """Pass a token on to all who follow its thread now; it is not stored."""
        if followers := self._followers.get(token.thread_id):
            token = token.model_copy(update={"seq": self._latest.get(token.thread_id, 0)})
            for follower in followers:
                follower.put(token)

    @contextmanager
    def follow(self, thread_id: str, born: float | None = None) -> Iterator[Subscription]:
        """Follow a thread for as long as the context lasts; it ends when the thread is deleted.

        `born` is when the thread was made; None for one that is only about to be made. Somebody else may take
        the name of a deleted thread, whose events are not this follower's business.
        """
        subscription = Subscription(self._log, thread_id, born)
        if self._closed:
            subscription.close()
        self._followers[thread_id].add(subscription)
        try:
            yield subscription
        finally:
            self._followers[thread_id].discard(subscription)
            if not self._followers[thread_id]:
                del self._followers[thread_id]
                self._latest.pop(thread_id, None)

    def end(self, thread_id: str, born: float) -> None:
        """End the subscriptions of a thread that was deleted."""
        for follower in self._followers.get(thread_id, ()):
            if follower.born == born:
                follower.close()

    def close(self) -> None:
        """End all subscriptions, for a shutdown."""
        self._closed = True
        for followers in self._followers.values():
            for follower in followers:
                follower.close()

    def _pass_on(self, event: StoredEvent) -> None:
        if not (followers := self._followers.get(event.thread_id)):
            return
        # Of transactions that end at the same time the later number may be heard of first.
        self._latest[event.thread_id] = max(event.seq, self._latest.get(event.thread_id, 0))
        for follower in followers:
            follower.born = follower.born or event.born
            if follower.born == event.born:
                follower.put(event)
            else:
                follower.close()

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(Exception):  # followers are not worth an alarm; the next look may go better
                await self._look()

    async def _look(self) -> None:
        """Have followers read what other processes stored, and leave what they deleted."""
        # Who comes, or sees a thread made, while the log is read knows of things that this reading does not.
        asked = [
            (thread_id, follower, follower.born)
            for thread_id, followers in self._followers.items()
            for follower in followers
        ]
        if not asked:
            return
        found = await self._log.last(list({thread_id for thread_id, _, _ in asked}))
        for thread_id, follower, born in asked:
            standing = found.get(thread_id)
            if born is not None and (standing is None or standing.born != born):
                follower.close()
        for thread_id, standing in found.items():
            if standing.last > self._latest.get(thread_id, 0) and thread_id in self._followers:
                self._latest[thread_id] = standing.last
                for follower in self._followers[thread_id]:
                    follower.look(standing.last)
