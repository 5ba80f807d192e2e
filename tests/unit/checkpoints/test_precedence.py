"""A checkpoint is not stored before the writes that it was made of."""

from __future__ import annotations

import asyncio

import pytest

from checkpoints.precedence import Precedence

STEP = ("t", "", "1", 1)


def test_the_checkpoint_waits_for_the_writes_of_its_own_superstep() -> None:
    async def scenario() -> None:
        precedence, gate, order = Precedence(), asyncio.Event(), list[str]()

        async def write(task_id: str) -> None:
            async with precedence.writing(STEP, task_id):
                await gate.wait()
                order.append(task_id)

        tasks = [asyncio.create_task(write(name)) for name in ("a", "b")]
        await asyncio.sleep(0)
        await precedence.written(("t", "", "2", 1))  # neither another superstep waits
        await precedence.written(("t", "", "1", 2))  # nor another run
        checkpoint = asyncio.create_task(precedence.written(STEP))
        await asyncio.sleep(0.01)
        assert not checkpoint.done()
        gate.set()
        await checkpoint
        assert order == ["a", "b"]
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_writes_that_failed_stop_the_checkpoint_until_they_are_done_again() -> None:
    async def scenario() -> None:
        precedence = Precedence()
        with pytest.raises(OSError, match="full"):
            async with precedence.writing(STEP, "a"):
                raise OSError("full")
        with pytest.raises(OSError, match="full"):
            await precedence.written(STEP)
        with pytest.raises(OSError, match="full"):
            async with precedence.writing(STEP, "a"):
                raise OSError("full")
        async with precedence.writing(STEP, "a"):
            pass
        await precedence.written(STEP)

    asyncio.run(scenario())
