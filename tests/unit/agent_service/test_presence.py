"""Work that ends when its client leaves, and comes to nobody's harm otherwise."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from agent_service.api.presence import UNHEARD_SECONDS, while_present


class Client:
    """One end of a connection."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Message:
        return await self.messages.get()


@pytest.mark.parametrize("seconds", [0, 2 * UNHEARD_SECONDS])
def test_what_the_work_gives_is_given_and_nothing_listens_any_more(seconds: float) -> None:
    async def scenario() -> None:
        client = Client()
        assert await while_present(client.receive, asyncio.sleep(seconds, "done")) == "done"
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [ValueError("odd"), TimeoutError("late")])
def test_the_errors_of_the_work_are_its_own(error: Exception) -> None:
    async def fail() -> None:
        raise error

    async def scenario() -> None:
        with pytest.raises(type(error), match=str(error)):
            await while_present(Client().receive, fail())

    asyncio.run(scenario())


def test_who_leaves_cancels_the_work_and_not_its_caller() -> None:
    async def scenario() -> None:
        client, cleaned = Client(), []

        async def work() -> None:
            try:
                client.messages.put_nowait({"type": "http.request", "body": b""})
                client.leave()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # what has to be waited for is waited for
                cleaned.append(True)

        with pytest.raises(ClientDisconnect):
            await while_present(client.receive, work())
        assert cleaned
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()
        await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_cancelled_caller_is_cancelled() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(while_present(Client().receive, asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
