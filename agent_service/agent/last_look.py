"""Asking the database once more while a file is about to be changed, which a thread of its own does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


def last_look(look: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """`look` for a thread that the running event loop waits for: it ends, or raises, as `look` does."""
    loop = asyncio.get_running_loop()
    return lambda: asyncio.run_coroutine_threadsafe(look(), loop).result()
