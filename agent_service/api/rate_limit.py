"""A token bucket for each principal."""

from __future__ import annotations

from collections.abc import Callable


class RateLimit:
    """Allows so many requests a minute, and as many at once after a quiet minute. None = no limit."""

    def __init__(self, per_minute: int | None, clock: Callable[[], float]) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> float:
        """Count one request of that principal: 0.0, or the seconds until there is room for it."""
        if self._per_minute is None:
            return 0.0
        now, rate = self._clock(), self._per_minute / 60
        level, since = self._buckets.get(name, (float(self._per_minute), now))
        level = min(float(self._per_minute), level + (now - since) * rate)
        granted = level >= 1
        self._buckets[name] = (level - granted, now)
        return 0.0 if granted else (1 - level) / rate
