"""How much of an account was used in this second, minute and day, against what its owner lets us use.

Windows are those of the clock: a day ends at midnight UTC. Times are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from routing.config import RateLimits

SPANS = {"second": 1, "minute": 60, "day": 86_400}
BUSY_WAIT = 1.0
"""Seconds after which to come back to an account that is busy with as many calls as it takes."""


@dataclass(slots=True)
class Window:
    """One span of time."""

    seconds: int
    number: int = 0
    """How many such spans passed since 1970."""
    requests: int = 0
    tokens: int = 0

    def at(self, now: float) -> Window:
        """Itself, emptied if its time is over."""
        number = int(now // self.seconds)
        if number != self.number:
            self.number, self.requests, self.tokens = number, 0, 0
        return self

    def ends_in(self, now: float) -> float:
        """Seconds."""
        return self.seconds - now % self.seconds


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of an account by the limits of its owner."""

    left: float
    """Share of the tightest limit, 0..1."""
    full_in: float
    """Seconds until that is whole again."""
    wait: float = 0.0
    """Seconds until it may be asked; 0 = now."""
    words: str = ""
    """Which limit is reached."""


class Tally:
    """What is counted of one account."""

    def __init__(self) -> None:
        self.windows = {name: Window(seconds) for name, seconds in SPANS.items()}
        self.in_flight = 0

    def add(self, now: float, *, requests: int = 0, tokens: int = 0) -> None:
        """So much was used."""
        for window in self.windows.values():
            current = window.at(now)
            current.requests += requests
            current.tokens += tokens

    def take_back(self, then: float, *, requests: int = 0, tokens: int = 0) -> None:
        """So much of what was added at `then` was not used after all."""
        for window in self.windows.values():
            if window.number == int(then // window.seconds):
                window.requests = max(0, window.requests - requests)
                window.tokens = max(0, window.tokens - tokens)

    def room(self, limits: RateLimits, now: float) -> Room:
        """What the limits leave at this moment."""
        tightest, wait, words = Room(1.0, inf), 0.0, ""
        for used, limit, window, what in self._measured(limits, now):
            left = max(0.0, 1 - used / limit)
            if left < tightest.left:
                tightest = Room(left, window.ends_in(now))
            if not left and window.ends_in(now) > wait:
                wait, words = window.ends_in(now), f"{limit:,} {what} are used up"
        if limits.concurrent is not None and self.in_flight >= limits.concurrent and not wait:
            wait, words = BUSY_WAIT, f"{self.in_flight} calls are under way, as many as it may have at once"
        return Room(tightest.left, tightest.full_in, wait, words)

    def _measured(self, limits: RateLimits, now: float) -> list[tuple[int, int, Window, str]]:
        """Used, limit, window and words of each limit that there is."""
        found = []
        for name, window in self.windows.items():
            current = window.at(now)
            for what, used in (("requests", current.requests), ("tokens", current.tokens)):
                limit = getattr(limits, f"{what}_per_{name}", None)
                if limit is not None:
                    found.append((used, limit, current, f"{what} a {name}"))
        return found
