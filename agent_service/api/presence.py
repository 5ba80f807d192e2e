"""Work that is done for as long as its client is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")

UNHEARD_SECONDS = 0.05
"""So long nobody listens, and quicker work is done to its end: to listen took a twentieth of its CPU."""


async def while_present(receive: Receive, work: Awaitable[T]) -> T:
    """What the work gives. A client that leaves before its end cancels it: raises ClientDisconnect then.

    `receive` is the request's, whose body was read. The listening is a task of its own, the work is not: on
    the hottest routes one is what can be afforded, and none where the answer is there at once.
    """
    listening: asyncio.Task[None] | None = None

    def begin() -> None:
        nonlocal listening
        listening = asyncio.create_task(listen())

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        presence.reschedule(0.0)  # a moment that is over: it ends now

    try:
        async with asyncio.timeout(None) as presence:
            beginning = asyncio.get_running_loop().call_later(UNHEARD_SECONDS, begin)
            try:
                return await work
            finally:
                beginning.cancel()
                if listening is not None:
                    listening.cancel()
    except TimeoutError as error:
        if presence.expired():
            raise ClientDisconnect from error
        raise  # the work's own
