"""What the tasks of a superstep write is stored before the checkpoint that was made of it.

LangGraph does not wait for the one before it asks for the other, and a database with several connections may
finish them in any order. After a crash in between, the checkpoint would stand and what was told with the
writes would be lost.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Superstep = tuple[str, str, str, int | None]
"""Thread, namespace, the checkpoint that its tasks started from, and the fence of the run that performs it:
what failed for one that lost the thread does not concern the next."""


class Precedence:
    """The task writes of this process that are under way or failed, by superstep."""

    def __init__(self) -> None:
        self._writes: defaultdict[Superstep, dict[str, asyncio.Future[Exception | None]]] = defaultdict(dict)

    @asynccontextmanager
    async def writing(self, superstep: Superstep, task_id: str) -> AsyncIterator[None]:
        """For as long as a task's writes are being stored. Enter it before the first await."""
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._writes[superstep][task_id] = done
        try:
            yield
        except Exception as error:
            done.set_result(error)
            raise
        finally:
            if not done.done():
                done.set_result(None)
                self._forget(superstep, task_id)

    def _forget(self, superstep: Superstep, task_id: str) -> None:
        """Nobody need wait for what is stored; a thread that pauses here may never come back to it."""
        tasks = self._writes.get(superstep, {})
        tasks.pop(task_id, None)
        if not tasks:
            self._writes.pop(superstep, None)

    async def written(self, superstep: Superstep) -> None:
        """Come back when all of them are stored. Raises the error of one that could not be."""
        for done in list(self._writes.pop(superstep, {}).values()):
            if error := await done:
                raise error
