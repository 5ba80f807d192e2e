"""The configuration file, watched: a change of providers and models is applied without a restart."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

logger = logging.getLogger(__name__)


async def watch_file(path: Path, changed: Callable[[], Awaitable[None]]) -> None:
    """Call `changed` after each change of the file, also when editors replace it or it appears later."""
    from watchfiles import awatch  # starts a thread: only where there is something to watch

    folder = path.parent
    if not folder.is_dir():
        return
    name = path.name
    async for _ in awatch(folder, watch_filter=lambda _, each: Path(each).name == name, recursive=False):
        await changed()
