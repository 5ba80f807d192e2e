"""Live events of threads, from the runs that make them to everybody who follows."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from agent_service.events import AgentEvent, Token

MAX_WAITING = 2_000
"""Events kept for one slow follower; past that it misses tokens, which the whole message repeats."""


class Subscription:
    """The events of one thread from now on, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[AgentEvent | None] = asyncio.Queue()

    def put(self, event: AgentEvent) -> None:
        if not (isinstance(event, Token) and self._queue.qsize() >= MAX_WAITING):
            self._queue.put_nowait(event)

    def close(self) -> None:
        """No more events will come."""
        self._queue.put_nowait(None)

    async def events(self, keep_alive: float) -> AsyncIterator[AgentEvent | None]:
        """Events as they come, until the feed is closed; None after `keep_alive` seconds without one."""
        while True:
            try:
                event = await asyncio.wait_for(self._queue.get(), keep_alive)
            except TimeoutError:
                yield None
                continue
            if event is None:
                return
            yield event


class EventFeed:
    """Passes events on. Publishing never waits: a slow or gone follower does not slow a run."""

    def __init__(self) -> None:
        self._followers: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._numbers = itertools.count(1)

    def publish(self, event: AgentEvent) -> None:
        """Number the event and hand it to all who follow its thread."""
        numbered = event.model_copy(update={"seq": next(self._numbers)})
        for follower in self._followers.get(event.thread_id, ()):
            follower.put(numbered)

    @contextmanager
    def follow(self, thread_id: str) -> Iterator[Subscription]:
        """Follow a thread for as long as the context lasts."""
        subscription = Subscription()
        self._followers[thread_id].add(subscription)
        try:
            yield subscription
        finally:
            self._followers[thread_id].discard(subscription)
            if not self._followers[thread_id]:
                del self._followers[thread_id]

    def close(self) -> None:
        """End all subscriptions, for a shutdown."""
        for followers in self._followers.values():
            for follower in followers:
                follower.close()
