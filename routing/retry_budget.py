"""How often requests may be repeated, all of them together."""

from __future__ import annotations

from collections import deque


class RetryBudget:
    """How many repeats are allowed: a share of the traffic, so that repeats never become the traffic."""

    def __init__(self, share: float = 0.2, floor: int = 10, window: int = 10) -> None:
        self._share, self._floor, self._window = share, floor, window
        self._seconds: deque[list[int]] = deque()  # [second, requests, repeats]

    def request(self, now: float) -> None:
        """A request came in."""
        self._at(now)[1] += 1

    def spend(self, now: float) -> bool:
        """Take one repeat from the budget, if there is one left."""
        current = self._at(now)
        requests, repeats = (sum(each[i] for each in self._seconds) for i in (1, 2))
        if repeats >= max(self._floor, int(self._share * requests)):
            return False
        current[2] += 1
        return True

    def _at(self, now: float) -> list[int]:
        second = int(now)
        while self._seconds and self._seconds[0][0] <= second - self._window:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        return self._seconds[-1]
