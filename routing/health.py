"""How each model at each provider is doing, learned from the traffic itself.

Times are seconds on whatever clock the caller passes in; nothing here reads one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

Key = tuple[str, str]
"""Provider and model."""
Cause = Literal["faults", "rate limit", "refused"]
Claim = Literal["open", "probe", "closed"]

SMOOTHING = 0.2
"""Weight of the newest observation in the averages of times: about the last ten count."""
TRUST_SMOOTHING = 0.1
"""The same for the success rate: one failure in ten is nothing to run from; outages are met by a rest."""
PREFILL_SPEED = 3000.0
"""Prompt tokens per second that a hosted model reads, unless they are in its cache. Taken out of measured
waits, so that one long document does not make its model look slow."""
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
FAULTS_FADE = 300.0
"""Half-life of a bad success rate in seconds: who is asked no more could not better it otherwise."""
PACE_FADES = 3600.0
"""Half-life of long times in seconds: an hour of rush must not brand a provider for the day."""
USE_FADES = 60.0
"""Half-life of what counts as used lately, in seconds: providers count tokens by the minute."""
_FEWEST_TOKENS = 16
"""Shorter answers say nothing about speed."""
WHOLE_ACCOUNT = ""
"""Stands for the model in the key of a whole provider."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is known of one model at one provider; None = not measured."""

    latency: float | None = None
    """Seconds to a whole answer."""
    ttft: float | None = None
    """Seconds to the first text or tool call of a stream, the reading of the prompt left out."""
    speed: float | None = None
    """Answer tokens per second."""
    success_rate: float = 1.0
    """Share of attempts that were answered."""
    seen_at: float = -inf
    """When success or failure was last observed."""
    timed_at: float = -inf
    """When latency, ttft or speed was last measured."""
    used: float = 0.0
    """Tokens sent and got, those of `USE_FADES` seconds ago counting half; as of `used_at`."""
    used_at: float = 0.0
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

    def trust(self, now: float) -> float:
        """The success rate to expect: old failures are forgiven."""
        return 1 - (1 - self.success_rate) * _faded(now - self.seen_at, FAULTS_FADE)

    def pace(self, now: float, ttft: float, speed: float) -> tuple[float, float]:
        """Seconds to the first token of an empty prompt, and for each further one, to expect.

        `ttft` and `speed` are what else is known. Measured times that are worse fade back to them; better
        ones stay, because the next request will show whether they still hold.
        """
        age = now - self.timed_at
        # Where only whole answers were timed, the wait for the first token is in the speed already.
        wait = self.ttft if self.ttft is not None else ttft if self.speed is None else 0.0
        return _forgiven(wait, ttft, age), _forgiven(1 / (self.speed or speed), 1 / speed, age)

    def load(self, now: float) -> float:
        """Tokens used lately."""
        return self.used * _faded(now - self.used_at, USE_FADES)


@dataclass(frozen=True, slots=True)
class Block:
    """Why a model is not asked just now."""

    seconds: float
    cause: Cause
    words: str = ""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a provider still lets us have for a while."""

    left: float
    """Share of the whole, 0..1."""
    until: float
    """When it is full again."""


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """All of it at one moment. Never changes."""

    now: float = 0.0
    records: Mapping[Key, Vitals] = field(default_factory=dict)
    troubled: frozenset[Key] = frozenset()
    """Those that may be blocked, so that the others need not be looked at."""
    allowances: Mapping[Key, Allowance] = field(default_factory=dict)

    def of(self, key: Key) -> Vitals:
        """What is known of a model; a blank record if nothing is."""
        return self.records.get(key, BLANK)

    def left(self, key: Key) -> float | None:
        """The share of its allowance that a model, or its whole account, may still use; None = not known."""
        if not self.allowances:
            return None
        found = (self.allowances.get(place) for place in (key, (key[0], WHOLE_ACCOUNT)))
        return min((each.left for each in found if each and each.until > self.now), default=None)

    def block(self, key: Key) -> Block | None:
        """Why the model, or all of its provider, is left alone now; None = it may be asked."""
        own, account = self._own_block(key), self._own_block((key[0], WHOLE_ACCOUNT))
        if own and account:
            return max(own, account, key=lambda block: block.seconds)
        return own or account

    def is_up(self, provider: str) -> bool:
        """Whether anything at the provider may be asked now, as far as we know."""
        models = [key for key in self.records if key[0] == provider and key[1] != WHOLE_ACCOUNT]
        if not models:
            return self._own_block((provider, WHOLE_ACCOUNT)) is None
        return any(self.block(key) is None for key in models)

    def _own_block(self, key: Key) -> Block | None:
        vitals = self.of(key)
        if vitals.cause and vitals.blocked_until > self.now:
            return Block(vitals.blocked_until - self.now, vitals.cause, vitals.words)
        if vitals.tripped and vitals.probing:
            return Block(PROBE_WAIT, "faults")
        return None


BLANK = Vitals()
"""Of a model that was never asked."""


class Health:
    """The running record. One for each router; used from one event loop."""

    def __init__(self) -> None:
        self._records: dict[Key, Vitals] = {}
        self._troubled: set[Key] = set()
        self._allowances: dict[Key, Allowance] = {}

    def snapshot(self, now: float) -> HealthSnapshot:
        """The state at `now`."""
        return HealthSnapshot(now, dict(self._records), frozenset(self._troubled), dict(self._allowances))

    def answered(self, key: Key, now: float) -> None:
        """It answers: whatever was wrong before is over."""
        old = self._of(key)
        rate = _average(old.trust(now), 1.0, TRUST_SMOOTHING)
        self._put(
            key,
            replace(old, success_rate=rate, seen_at=now, faults=0, blocked_until=0.0, cause=None, words=""),
        )

    def measured(
        self,
        key: Key,
        now: float,
        *,
        ttft: float | None = None,
        latency: float | None = None,
        tokens: int | None = None,
        prompt: int = 0,
    ) -> None:
        """It took so many seconds to begin, and to end an answer of so many tokens, which it used.

        `prompt` tokens had to be read before.
        """
        old, reading = self._of(key), prompt / PREFILL_SPEED
        speed = None
        if latency and tokens and tokens >= _FEWEST_TOKENS:
            # A whole answer does not tell when it began: as usual, or else the wait counts into the speed.
            wait = ttft if ttft is not None else min((old.ttft or 0.0) + reading, latency / 2)
            speed = tokens / max(latency - wait, 1e-3)
        if ttft is not None:
            ttft = max(0.0, ttft - reading)
        self._put(
            key,
            replace(
                old,
                latency=old.latency if latency is None else _average(old.latency, latency),
                ttft=old.ttft if ttft is None else _average(old.ttft, ttft),
                speed=old.speed if speed is None else _average(old.speed, speed),
                timed_at=now,
                used=old.load(now) + (tokens or 0),
                used_at=now,
            ),
        )

    def recalled(self, key: Key, now: float, *, ttft: float | None, speed: float | None) -> None:
        """This was measured before the last restart."""
        self._put(key, replace(self._of(key), ttft=ttft, speed=speed, timed_at=now))

    def used(self, key: Key, now: float, tokens: int) -> None:
        """So many tokens were sent to it."""
        old = self._of(key)
        self._put(key, replace(old, used=old.load(now) + tokens, used_at=now))

    def allowed(self, key: Key, left: float, until: float) -> None:
        """The provider told what share of its allowance is left until it is full again.

        The model in the key is `WHOLE_ACCOUNT` where the allowance is of all models together.
        """
        self._allowances[key] = Allowance(min(1.0, max(0.0, left)), until)

    def faulted(self, key: Key, now: float) -> None:
        """One attempt failed."""
        old = self._of(key)
        self._put(key, replace(old, success_rate=_average(old.trust(now), 0.0, TRUST_SMOOTHING), seen_at=now))

    def gave_up(self, key: Key, now: float) -> None:
        """A request gave up on it; after several in a row it is left alone, longer each time."""
        old = self._of(key)
        new = replace(old, faults=old.faults + 1)
        if new.tripped:
            doublings = min(new.faults - FAULTS_BEFORE_COOLING, 16)
            rest = min(FIRST_COOLING * 2**doublings, LONGEST_COOLING)
            new = replace(new, blocked_until=now + rest, cause="faults")
        self._put(key, new)

    def limited(self, key: Key, now: float, seconds: float) -> None:
        """It wants to be left alone for so many seconds."""
        until = now + min(seconds, LONGEST_LIMIT)
        self._put(key, replace(self._of(key), blocked_until=until, cause="rate limit"))

    def refused(self, key: Key, now: float, words: str, *, whole_account: bool) -> None:
        """The provider refuses this model, or with `whole_account` our key: left alone for a while."""
        place = (key[0], WHOLE_ACCOUNT) if whole_account else key
        self._put(place, replace(self._of(place), blocked_until=now + PARKED, cause="refused", words=words))

    def claim(self, key: Key) -> Claim:
        """Whether this request may ask the model now: a tripped one takes one request at a time.

        A `probe` ends with `release`.
        """
        vitals = self._of(key)
        if not vitals.tripped:
            return "open"
        if vitals.probing:
            return "closed"
        self._put(key, replace(vitals, probing=True))
        return "probe"

    def release(self, key: Key) -> None:
        """The probe is over."""
        self._put(key, replace(self._of(key), probing=False))

    def forget(self, providers: Collection[str]) -> None:
        """Drop what is known of these: their key or address is another one now."""
        self._records = {key: value for key, value in self._records.items() if key[0] not in providers}
        self._troubled &= self._records.keys()
        self._allowances = {key: each for key, each in self._allowances.items() if key[0] not in providers}

    def _of(self, key: Key) -> Vitals:
        return self._records.get(key, BLANK)

    def _put(self, key: Key, vitals: Vitals) -> None:
        self._records[key] = vitals
        (self._troubled.add if vitals.cause or vitals.tripped else self._troubled.discard)(key)


def _average(old: float | None, new: float, weight: float = SMOOTHING) -> float:
    return new if old is None else old + weight * (new - old)


def _forgiven(measured: float, usual: float, age: float) -> float:
    return measured if measured <= usual else usual + (measured - usual) * _faded(age, PACE_FADES)


def _faded(age: float, half_life: float) -> float:
    return float(0.5 ** (max(0.0, age) / half_life))
