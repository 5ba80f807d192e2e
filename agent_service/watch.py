"""The configuration file, watched: a change of providers and models is applied without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often the file is looked at in any case."""


async def watch_file(path: Path, changed: Callable[[], Awaitable[None]]) -> None:
    """Call `changed` after each change of the file, also when editors replace it or it appears later."""
    known = await asyncio.to_thread(_stamp, path)
    async for _ in _occasions(path):
        if (stamp := await asyncio.to_thread(_stamp, path)) != known:
            known = stamp
            await changed()


async def _occasions(path: Path) -> AsyncIterator[None]:
    """When the file may have changed: as the system tells, or every few seconds if it does not."""
    from watchfiles import awatch  # starts a thread: only where there is something to watch

    folder, name = path.parent, path.name
    while not await asyncio.to_thread(folder.is_dir):  # noqa: ASYNC110 - nobody could tell us
        await asyncio.sleep(LOOK_SECONDS)
    yield
    try:
        async for _ in awatch(
            folder,
            watch_filter=lambda _, each: Path(each).name == name,
            recursive=False,
            rust_timeout=int(1000 * LOOK_SECONDS),
            yield_on_timeout=True,
        ):
            yield
    except (OSError, RuntimeError) as error:  # the system has no watch left, for example
        logger.warning("%s cannot be watched, so it is looked at every few seconds: %s", path, error)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        yield


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs when the file was written or replaced; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
