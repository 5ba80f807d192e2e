"""How each model at each provider is doing, learned from the traffic itself.

Times are seconds on whatever clock the caller passes in; nothing here reads one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

Key = tuple[str, str]
"""Provider and model."""
Cause = Literal["faults", "rate limit", "refused"]
Claim = Literal["open", "probe", "closed"]

SMOOTHING = 0.2
"""Weight of the newest observation in the moving averages: about the last ten count."""
FAULTS_BEFORE_COOLING = 3
"""Requests in a row that gave up on a model before it gets a rest."""
FIRST_COOLING = 5.0
"""Seconds of the first rest; each further fault doubles it."""
LONGEST_COOLING = 300.0
LONGEST_LIMIT = 3600.0
"""A provider may ask for a day of silence; once an hour it is asked whether it still means it."""
PARKED = 300.0
"""Seconds that a refused key or model is left alone: accounts get topped up, too."""
PROBE_WAIT = 1.0
"""Seconds after which to come back while somebody else probes a rested model."""
_FEWEST_TOKENS = 16
"""Shorter answers say nothing about speed."""
_WHOLE_ACCOUNT = ""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is known of one model at one provider; None = not measured."""

    latency: float | None = None
    """Seconds to a whole answer."""
    ttft: float | None = None
    """Seconds to the first text or tool call of a stream."""
    speed: float | None = None
    """Answer tokens per second."""
    success_rate: float = 1.0
    """Share of attempts that were answered."""
    faults: int = 0
    """Requests in a row that gave up on it."""
    blocked_until: float = 0.0
    cause: Cause | None = None
    """Why it is, or was last, left alone."""
    words: str = ""
    """What the provider said when it refused the key or model; redacted."""
    probing: bool = False
    """Whether a request is just finding out if it works again."""

    @property
    def tripped(self) -> bool:
        """Whether it failed so often that one request at a time may try it."""
        return self.faults >= FAULTS_BEFORE_COOLING


@dataclass(frozen=True, slots=True)
class Block:
    """Why a model is not asked just now."""

    seconds: float
    cause: Cause
    words: str = ""


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """All of it at one moment. Never changes."""

    now: float = 0.0
    records: Mapping[Key, Vitals] | None = None

    def of(self, key: Key) -> Vitals:
        """What is known of a model; a blank record if nothing is."""
        return (self.records or {}).get(key, _BLANK)

    def block(self, key: Key) -> Block | None:
        """Why the model, or all of its provider, is left alone now; None = it may be asked."""
        own, account = self._own_block(key), self._own_block((key[0], _WHOLE_ACCOUNT))
        if own and account:
            return max(own, account, key=lambda block: block.seconds)
        return own or account

    def is_up(self, provider: str) -> bool:
        """Whether anything at the provider may be asked now, as far as we know."""
        models = [key for key in self.records or {} if key[0] == provider and key[1] != _WHOLE_ACCOUNT]
        if not models:
            return self._own_block((provider, _WHOLE_ACCOUNT)) is None
        return any(self.block(key) is None for key in models)

    def _own_block(self, key: Key) -> Block | None:
        vitals = self.of(key)
        if vitals.cause and vitals.blocked_until > self.now:
            return Block(vitals.blocked_until - self.now, vitals.cause, vitals.words)
        if vitals.tripped and vitals.probing:
            return Block(PROBE_WAIT, "faults")
        return None


_BLANK = Vitals()


class Health:
    """The running record. One for each router; used from one event loop."""

    def __init__(self) -> None:
        self._records: dict[Key, Vitals] = {}

    def snapshot(self, now: float) -> HealthSnapshot:
        """The state at `now`."""
        return HealthSnapshot(now, dict(self._records))

    def answered(self, key: Key) -> None:
        """It answers: whatever was wrong before is over."""
        old = self._of(key)
        rate = old.success_rate + SMOOTHING * (1 - old.success_rate)
        self._records[key] = replace(old, success_rate=rate, faults=0, blocked_until=0.0, cause=None)

    def measured(
        self, key: Key, *, ttft: float | None = None, latency: float | None = None, tokens: int | None = None
    ) -> None:
        """It took so many seconds to begin, and to end an answer of so many tokens."""
        old = self._of(key)
        speed = None
        if latency and tokens and tokens >= _FEWEST_TOKENS:
            # A whole answer does not tell when it began: there the wait counts into the speed.
            speed = tokens / max(latency - (ttft or 0.0), 1e-3)
        self._records[key] = replace(
            old,
            latency=_average(old.latency, latency),
            ttft=_average(old.ttft, ttft),
            speed=_average(old.speed, speed),
        )

    def faulted(self, key: Key) -> None:
        """One attempt failed."""
        old = self._of(key)
        self._records[key] = replace(old, success_rate=old.success_rate * (1 - SMOOTHING))

    def gave_up(self, key: Key, now: float) -> None:
        """A request gave up on it; after several in a row it is left alone, longer each time."""
        old = self._of(key)
        new = replace(old, faults=old.faults + 1)
        if new.tripped:
            doublings = min(new.faults - FAULTS_BEFORE_COOLING, 16)
            rest = min(FIRST_COOLING * 2**doublings, LONGEST_COOLING)
            new = replace(new, blocked_until=now + rest, cause="faults")
        self._records[key] = new

    def limited(self, key: Key, now: float, seconds: float) -> None:
        """It wants to be left alone for so many seconds."""
        until = now + min(seconds, LONGEST_LIMIT)
        self._records[key] = replace(self._of(key), blocked_until=until, cause="rate limit")

    def refused(self, key: Key, now: float, words: str, *, whole_account: bool) -> None:
        """The provider refuses this model, or with `whole_account` our key: left alone for a while."""
        place = (key[0], _WHOLE_ACCOUNT) if whole_account else key
        self._records[place] = replace(
            self._of(place), blocked_until=now + PARKED, cause="refused", words=words
        )

    def claim(self, key: Key) -> Claim:
        """Whether this request may ask the model now: a tripped one takes one request at a time.

        A `probe` ends with `release`.
        """
        vitals = self._of(key)
        if not vitals.tripped:
            return "open"
        if vitals.probing:
            return "closed"
        self._records[key] = replace(vitals, probing=True)
        return "probe"

    def release(self, key: Key) -> None:
        """The probe is over."""
        self._records[key] = replace(self._of(key), probing=False)

    def forget(self, providers: Collection[str]) -> None:
        """Drop what is known of these: their key or address is another one now."""
        self._records = {key: value for key, value in self._records.items() if key[0] not in providers}

    def _of(self, key: Key) -> Vitals:
        return self._records.get(key, _BLANK)


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


def _average(old: float | None, new: float | None) -> float | None:
    if old is None or new is None:
        return old if new is None else new
    return old + SMOOTHING * (new - old)
