"""What a service does again and again by itself, so that one thread's trouble is not that of all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from checkpoints.diagnosis import is_damage, passes
from checkpoints.errors import CheckpointError

logger = logging.getLogger(__name__)


@asynccontextmanager
async def repeating(
    chore: Callable[[], Awaitable[None]], seconds: float, *, after: float = 0.0
) -> AsyncIterator[None]:
    """While it lasts the chore is repeated; see `repeat`. Whoever leaves has waited for the end of it."""
    task = asyncio.create_task(repeat(chore, seconds, after=after))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def repeat(chore: Callable[[], Awaitable[None]], seconds: float, *, after: float = 0.0) -> None:
    """Do the chore for ever, first after so many seconds; after a failure the next time may go better."""
    await asyncio.sleep(after)
    while True:
        try:
            await chore()
        except Exception as error:
            if passes(error) or is_damage(error):
                logger.error("a chore of the service waits for the database: %s", error)
            else:
                logger.exception("a chore of the service failed; it is tried again")
        await asyncio.sleep(seconds)


@contextmanager
def of_one_thread(thread_id: str, chore: str) -> Iterator[None]:
    """What fails in this block is that thread's matter: it is logged, and others get their turn.

    A database that refuses for a while does so to all, so that is raised.
    """
    try:
        yield
    except Exception as error:
        if passes(error):
            raise
        is_told = isinstance(error, CheckpointError)  # its message says everything
        logger.error("thread %s is left out of %s: %s", thread_id, chore, error, exc_info=not is_told)
