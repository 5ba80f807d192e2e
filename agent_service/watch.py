"""The configuration file, watched: a change of providers and models is applied without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

LOOK_SECONDS = 5.0
"""How often it is seen whether the folder exists by now."""


async def watch_file(path: Path, changed: Callable[[], Awaitable[None]]) -> None:
    """Call `changed` after each change of the file, also when editors replace it or it appears later."""
    from watchfiles import awatch  # starts a thread: only where there is something to watch

    folder, name = path.parent, path.name
    if not await asyncio.to_thread(folder.is_dir):
        while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110 - nobody could tell us
            await asyncio.sleep(LOOK_SECONDS)
        await changed()
    async for _ in awatch(folder, watch_filter=lambda _, each: Path(each).name == name, recursive=False):
        await changed()
