"""What the router learned, kept over a restart: routing's `LearningStore` on the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import orjson
from sqlalchemy.exc import SQLAlchemyError

from agent_service.agent.findings import Finding
from agent_service.chores import repeat
from checkpoints.columns import storable
from checkpoints.errors import DatabaseUnusable
from checkpoints.router_memory import LONGEST_KEY, RouterMemory
from routing.learning import Evidence, Lesson, as_data, from_data
from routing.router import ModelRouter

logger = logging.getLogger(__name__)

SAVE_SECONDS = 30.0
_PREFIX = "lesson:"
_JUDGED = "judged:"


class LessonShelf:
    """Implements routing's `LearningStore`: a row a model, to which each replica adds what it has learned."""

    def __init__(self, memory: RouterMemory) -> None:
        self._memory = memory
        self._saved: dict[str, Lesson] = {}
        """What this process knew when it last loaded or saved."""
        self._marks: dict[str, bytes] = {}
        """Not saved yet."""

    async def load(self) -> list[Lesson]:
        """All that can be read; a damaged row is left out, and the log says so."""
        rows = await self._memory.load(_PREFIX)
        self._saved = {name: lesson for name, data in rows.items() for lesson in _read(name, data)}
        return list(self._saved.values())

    async def save(self, lessons: Iterable[Lesson]) -> None:
        """Keep these, as far as they changed, and all marks: in one transaction."""
        known, marks = {_name(each): each for each in lessons}, dict(self._marks)
        changed = {name: each for name, each in known.items() if self._saved.get(name) != each}
        if not changed and not marks:
            return

        def merged(stored: Mapping[str, bytes]) -> dict[str, bytes]:
            rows = {name: _read(name, stored[name]) for name in changed if name in stored}
            return marks | {
                name: orjson.dumps(as_data([_onto(rows.get(name), each, self._saved.get(name))]))
                for name, each in changed.items()
            }

        await self._memory.update([*changed], merged)
        self._saved |= changed
        self._marks = {name: data for name, data in self._marks.items() if marks.get(name) != data}

    def mark(self, thread_id: str, latest: int) -> None:
        """Note that a thread's changes are judged up to that one; it is kept with the next lessons."""
        self._marks[_JUDGED + thread_id] = b"%d" % latest

    async def marked(self, thread_id: str) -> int:
        """How far a thread's changes are judged; 0 if none is."""
        name = _JUDGED + thread_id
        data = self._marks.get(name) or await self._memory.get(name) or b"0"
        return int(data)


class Remembering:
    """Lets a router go on from what it learned before, and saves what it learns. Use it with `async with`.

    Implements `agent.findings.OutcomeBook`. What a change taught and the mark that it was judged are saved
    together: after a crash either both are there, or neither, and then it is judged again.
    """

    def __init__(self, router: ModelRouter, shelf: LessonShelf) -> None:
        self._router, self._shelf = router, shelf
        self._saving = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._router.recall(self._shelf)
        self._chore = asyncio.create_task(repeat(self._save, SAVE_SECONDS, after=SAVE_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._saving:  # what was broken off might be saved, and be added once more
            self._chore.cancel()
        await asyncio.gather(self._chore, return_exceptions=True)
        await self._save()

    async def judged(self, thread_id: str) -> int:
        """The number of the thread's latest effect that was judged; 0 before the first."""
        return await self._shelf.marked(thread_id)

    async def learn(self, thread_id: str, latest: int, findings: Sequence[Finding]) -> None:
        """Take the findings, and that the thread's effects are judged up to that number."""
        for finding in findings:
            self._router.report(finding.maker.model, finding.maker.task, finding.outcome)
        self._shelf.mark(thread_id, latest)
        await asyncio.shield(self._save())  # whoever waits may be cancelled

    async def _save(self) -> None:
        try:
            async with self._saving:
                await self._router.remember(self._shelf)
        except (SQLAlchemyError, DatabaseUnusable) as error:
            logger.error("what the router learned could not be saved: %s", error)


def _name(lesson: Lesson) -> str:
    return storable(f"{_PREFIX}{lesson.provider}/{lesson.model}")[:LONGEST_KEY]


def _onto(stored: Sequence[Lesson] | None, lesson: Lesson, before: Lesson | None) -> Lesson:
    """The stored lesson with what this process has learned since `before`."""
    if not stored:
        return lesson
    base, earlier = stored[0].evidence, before.evidence if before else {}
    added = {
        task: each.onto(base.get(task, Evidence()), earlier.get(task, Evidence()))
        for task, each in lesson.evidence.items()
    }
    return replace(lesson, evidence={**base, **added})


def _read(name: str, data: bytes) -> list[Lesson]:
    try:
        return from_data(orjson.loads(data))
    except ValueError as error:  # orjson's error is one, too
        logger.warning("what the router learned of %s cannot be read: %s", name.removeprefix(_PREFIX), error)
        return []
