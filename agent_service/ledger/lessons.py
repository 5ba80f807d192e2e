"""What the router learned, kept over a restart: routing's `LearningStore` on the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import orjson
from sqlalchemy.exc import SQLAlchemyError

from checkpoints.columns import storable
from checkpoints.errors import DatabaseUnusable
from checkpoints.router_memory import LONGEST_KEY, RouterMemory
from routing.learning import Lesson, as_data, from_data
from routing.router import ModelRouter

logger = logging.getLogger(__name__)

SAVE_SECONDS = 30.0
_PREFIX = "lesson:"


class LessonShelf:
    """Implements routing's `LearningStore`: a row a model, so replicas overwrite little of each other."""

    def __init__(self, memory: RouterMemory) -> None:
        self._memory = memory
        self._saved: dict[str, bytes] = {}

    async def load(self) -> list[Lesson]:
        """All that can be read; a damaged row is left out, and the log says so."""
        self._saved = await self._memory.load(_PREFIX)
        return [lesson for name, data in self._saved.items() for lesson in _read(name, data)]

    async def save(self, lessons: Iterable[Lesson]) -> None:
        """Keep these, as far as they changed."""
        written = {_name(each): orjson.dumps(as_data([each])) for each in lessons}
        changed = {name: data for name, data in written.items() if self._saved.get(name) != data}
        await self._memory.save(changed)
        self._saved |= changed


class Remembering:
    """Lets a router go on from what it learned before, and saves what it learns. Use it with `async with`."""

    def __init__(self, router: ModelRouter, shelf: LessonShelf) -> None:
        self._router, self._shelf = router, shelf

    async def __aenter__(self) -> Self:
        await self._router.recall(self._shelf)
        self._chore = asyncio.create_task(self._save_for_ever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chore.cancel()
        await asyncio.gather(self._chore, return_exceptions=True)
        await self._save()

    async def _save_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await self._save()

    async def _save(self) -> None:
        try:
            await self._router.remember(self._shelf)
        except (SQLAlchemyError, DatabaseUnusable) as error:
            logger.error("what the router learned could not be saved: %s", error)


def _name(lesson: Lesson) -> str:
    return storable(f"{_PREFIX}{lesson.provider}/{lesson.model}")[:LONGEST_KEY]


def _read(name: str, data: bytes) -> list[Lesson]:
    try:
        return from_data(orjson.loads(data))
    except ValueError as error:  # orjson's error is one, too
        logger.warning("what the router learned of %s cannot be read: %s", name.removeprefix(_PREFIX), error)
        return []
