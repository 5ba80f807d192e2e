"""What the router has seen so far: how models do, how good they are, and where caches are warm."""

from __future__ import annotations

from collections.abc import Callable

from routing.affinity import Affinity
from routing.candidate import Candidate
from routing.config import ProviderSpec
from routing.errors import (
    KeyRefused,
    ProviderError,
    ProviderUnavailable,
    ProviderUnreachable,
    RateLimited,
)
from routing.fallback import KEY_STATUSES
from routing.health import Health
from routing.learning import Learning, LearningStore, Lesson


class Experience:
    """One for each router; used from one event loop.

    What becomes of a call says nothing any more once its account has another key or address.
    """

    def __init__(
        self,
        health: Health | None,
        learning: Learning | None,
        clock: Callable[[], float],
        is_current: Callable[[ProviderSpec], bool],
    ) -> None:
        """`is_current` tells whether the account in service is still that one."""
        self.health, self.learning = health or Health(), learning or Learning()
        self.affinity = Affinity()
        self._clock, self._is_current = clock, is_current

    def answered(self, candidate: Candidate) -> None:
        """It answers."""
        if self._is_current(candidate.spec):
            self.health.answered(candidate.key, self._clock())

    def measured(
        self, candidate: Candidate, *, ttft: float | None, latency: float, tokens: int | None, prompt: int
    ) -> None:
        """Its answer is whole; see `Health.measured`."""
        if self._is_current(candidate.spec):
            self.health.measured(
                candidate.key, self._clock(), ttft=ttft, latency=latency, tokens=tokens, prompt=prompt
            )

    def cut(self, candidate: Candidate) -> None:
        """Its answer broke off."""
        if self._is_current(candidate.spec):
            self.health.faulted(candidate.key, self._clock())
            self.health.gave_up(candidate.key, self._clock())

    def failed(
        self, candidate: Candidate, error: ProviderError, *, gave_up: bool, cooling: float, seconds: float
    ) -> None:
        """An attempt failed after so many seconds; `cooling` is for a rate limit that names no time."""
        key, now = candidate.key, self._clock()
        if not self._is_current(candidate.spec):
            return
        if isinstance(error, RateLimited):
            self.health.limited(key, now, cooling if error.retry_after is None else error.retry_after)
        elif isinstance(error, KeyRefused):
            about_key, disabled = error.status in KEY_STATUSES, error.status == 401
            self.health.refused(key, now, str(error), whole_account=about_key, until_changed=disabled)
        elif isinstance(error, ProviderUnavailable):
            self.health.faulted(key, now)
            if gave_up:
                away = isinstance(error, ProviderUnreachable)
                self.health.gave_up(key, now, str(error), whole_account=away, seconds=seconds)

    async def recall(self, store: LearningStore) -> None:
        """Go on from what was learned before a restart."""
        lessons, now = list(await store.load()), self._clock()
        self.learning.take(lessons)
        for lesson in lessons:
            if lesson.ttft is not None or lesson.speed is not None:
                key = (lesson.provider, lesson.model)
                self.health.recalled(key, now, ttft=lesson.ttft, speed=lesson.speed)

    async def remember(self, store: LearningStore) -> None:
        """Save what was learned so far."""
        await store.save(self.lessons())

    def lessons(self) -> list[Lesson]:
        """What was learned so far; last the models whose answers were checked last."""
        evidence, snapshot = self.learning.evidence(), self.health.snapshot(self._clock())
        timed = [key for key, each in snapshot.records.items() if each.ttft or each.speed]
        keys = dict.fromkeys([*(key for key in timed if key not in evidence), *evidence])
        found = [(key, snapshot.of(key)) for key in keys]
        return [Lesson(*key, evidence.get(key, {}), each.ttft, each.speed) for key, each in found]
