"""How each model at each account is doing, learned from the traffic itself.

Times are seconds on whatever clock the caller passes in; nothing here reads one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import inf
from typing import Literal

from routing.config import RateLimits
from routing.standing import Rest, Standing
from routing.vitals import (
    BLANK,
    FAULTS_BEFORE_COOLING,
    FAULTS_FADE,
    PACE_FADES,
    PAID_MODELS,
    USE_FADES,
    WHOLE_ACCOUNT,
    Allowance,
    Block,
    Cause,
    HealthSnapshot,
    Key,
    Vitals,
)
from routing.windows import Tally

__all__ = [
    "BLANK",
    "FAULTS_BEFORE_COOLING",
    "FAULTS_FADE",
    "PACE_FADES",
    "PAID_MODELS",
    "USE_FADES",
    "WHOLE_ACCOUNT",
    "Allowance",
    "Block",
    "Cause",
    "Health",
    "HealthSnapshot",
    "Key",
    "Vitals",
]

Claim = Literal["open", "probe", "closed"]
SMOOTHING = 0.2
"""Weight of the newest observation in the averages of times: about the last ten count."""
TRUST_SMOOTHING = 0.1
"""The same for the success rate: one failure in ten is nothing to run from; outages are met by a rest."""
PREFILL_SPEED = 3000.0
"""Prompt tokens per second that a hosted model reads, unless they are in its cache. Taken out of measured
waits, so that one long document does not make its model look slow."""
FIRST_COOLING = 5.0
"""Seconds of the first rest; each further fault doubles it."""
LONGEST_COOLING = 300.0
"""Coming back every 60 or 30 seconds was replayed (tests/benchmarks/test_routing_replay.py): the quality is
the same, and each look at a model that is still down makes somebody wait."""
LONGEST_LIMIT = 3600.0
"""A provider may ask for a day of silence; once an hour it is asked whether it still means it."""
PARKED = 300.0
"""Seconds that a refused key or model is left alone: accounts get topped up, too."""
_FEWEST_TOKENS = 16
"""Shorter answers say nothing about speed."""


class Health:
    """The running record. One for each router; used from one event loop."""

    def __init__(self, epoch: float = 0.0) -> None:
        """`epoch` is what to add to the caller's clock to get seconds since 1970, for what is kept over a
        restart and for days that end at midnight."""
        self._epoch = epoch
        self._records: dict[Key, Vitals] = {}
        self._troubled: set[Key] = set()
        self._allowances: dict[Key, Allowance] = {}
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._limits: Mapping[str, RateLimits] = {}

    def limit(self, limits: Mapping[str, RateLimits]) -> None:
        """These accounts have limits of their owners, and no others have."""
        self._limits = dict(limits)

    def snapshot(self, now: float) -> HealthSnapshot:
        """The state at `now`."""
        rooms = {
            each: self._tallies[each].room(limits, now + self._epoch) for each, limits in self._limits.items()
        }
        troubled = frozenset(self._troubled)
        if busy := [(each, WHOLE_ACCOUNT) for each, room in rooms.items() if room.wait]:
            troubled = troubled.union(busy)
        return HealthSnapshot(now, dict(self._records), troubled, dict(self._allowances), rooms)

    def answered(self, key: Key, now: float) -> None:
        """It answers: whatever was wrong before is over."""
        old = self._of(key)
        rate = _average(old.trust(now), 1.0, TRUST_SMOOTHING)
        self._put(
            key,
            replace(
                old,
                success_rate=rate,
                seen_at=now,
                attempts=0,
                faults=0,
                blocked_until=0.0,
                cause=None,
                words="",
            ),
        )
        whole = (key[0], WHOLE_ACCOUNT)
        if whole in self._troubled and self._of(whole).cause == "faults":
            self._lift([whole])

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
        self._tallies[key[0]].add(now + self._epoch, tokens=tokens or 0)

    def recalled(self, key: Key, now: float, *, ttft: float | None, speed: float | None) -> None:
        """This was measured before the last restart."""
        self._put(key, replace(self._of(key), ttft=ttft, speed=speed, timed_at=now))

    def used(self, key: Key, now: float, tokens: int) -> None:
        """A request of so many tokens goes to it; `ended` tells when it is over."""
        old = self._of(key)
        self._put(key, replace(old, used=old.load(now) + tokens, used_at=now))
        tally = self._tallies[key[0]]
        tally.add(now + self._epoch, requests=1, tokens=tokens)
        tally.in_flight += 1

    def ended(self, key: Key) -> None:
        """A request that was told to `used` is over."""
        self._tallies[key[0]].in_flight -= 1

    def allowed(self, key: Key, left: float, until: float) -> None:
        """The provider told what share of its allowance is left until it is full again.

        The model in the key is `WHOLE_ACCOUNT` where the allowance is of all models together.
        """
        self._allowances[key] = Allowance(min(1.0, max(0.0, left)), until)

    def faulted(self, key: Key, now: float) -> None:
        """One attempt failed."""
        old = self._of(key)
        rate = _average(old.trust(now), 0.0, TRUST_SMOOTHING)
        self._put(key, replace(old, success_rate=rate, seen_at=now, attempts=old.attempts + 1))

    def gave_up(self, key: Key, now: float, words: str = "", *, whole_account: bool = False) -> None:
        """A request gave up on it; after several faults in a row it is left alone, longer each time.

        With `whole_account` so are the other models of the account.
        """
        old = self._of(key)
        faults = old.faults + 1
        if old.attempts >= FAULTS_BEFORE_COOLING:
            faults = max(faults, FAULTS_BEFORE_COOLING)
        self._put(key, replace(old, faults=faults))
        if faults >= FAULTS_BEFORE_COOLING:
            doublings = min(faults - FAULTS_BEFORE_COOLING, 16)
            until = now + min(FIRST_COOLING * 2**doublings, LONGEST_COOLING)
            self._block(key, until, "faults", words)
            if whole_account:
                self._block((key[0], WHOLE_ACCOUNT), until, "faults", words)

    def limited(self, key: Key, now: float, seconds: float) -> None:
        """It wants to be left alone for so many seconds."""
        until = now + min(seconds, LONGEST_LIMIT)
        self._put(key, replace(self._of(key), blocked_until=until, cause="rate limit"))

    def refused(
        self, key: Key, now: float, words: str, *, whole_account: bool, until_changed: bool = False
    ) -> None:
        """The provider refuses this model, or with `whole_account` our key.

        It is left alone for a while; with `until_changed` until `forget` or `proven`.
        """
        place = (key[0], WHOLE_ACCOUNT) if whole_account else key
        if until_changed:
            self._block(place, inf, "disabled", words)
        else:
            self._block(place, now + PARKED, "refused", words)

    def proven(self, account_id: str) -> None:
        """Its key was tried and is good, whatever was thought of it before."""
        self._lift(place for place in self._troubled if place[0] == account_id and place[1] != PAID_MODELS)

    def capped(self, account_id: str, now: float, seconds: float, words: str) -> None:
        """What its owner lets it cost is used up: only its free models are asked for so long."""
        self._block((account_id, PAID_MODELS), now + seconds, "cap", words)

    def uncapped(self, account_ids: Iterable[str]) -> None:
        """These may cost something again."""
        self._lift((each, PAID_MODELS) for each in account_ids)

    def claim(self, key: Key, now: float) -> Claim:
        """Whether this request may ask the model now: a tripped one takes one request at a time.

        A `probe` ends with `release`.
        """
        limits = self._limits.get(key[0])
        if limits is not None and self._tallies[key[0]].room(limits, now + self._epoch).wait:
            return "closed"
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

    def forget(self, account_ids: Collection[str]) -> None:
        """Drop what is known of these: their key or address is another one now."""
        self._records = {key: value for key, value in self._records.items() if key[0] not in account_ids}
        self._troubled &= self._records.keys()
        self._allowances = {key: each for key, each in self._allowances.items() if key[0] not in account_ids}
        for each in account_ids:
            if tally := self._tallies.get(each):
                tally.windows = Tally().windows  # calls under way are still to end

    def standing(self, account_id: str, now: float) -> Standing:
        """What to remember of the account over a restart."""
        snapshot, epoch = self.snapshot(now), self._epoch
        rests = []
        for place in sorted(self._troubled):
            vitals = self._of(place)
            if (
                place[0] == account_id
                and vitals.cause
                and vitals.blocked_until > now
                and place[1] != PAID_MODELS
            ):
                until = None if vitals.blocked_until == inf else vitals.blocked_until + epoch
                rests.append(Rest(place[1], vitals.cause, vitals.words, until, vitals.faults))
        left = {
            key[1]: (each.left, each.until + epoch)
            for key, each in snapshot.allowances.items()
            if key[0] == account_id and each.until > now
        }
        day = self._tallies[account_id].windows["day"].at(now + epoch)
        today = (day.number, day.requests, day.tokens) if day.requests else (0, 0, 0)
        return Standing(tuple(rests), left, today)

    def resume(self, account_id: str, standing: Standing, now: float) -> None:
        """Go on from what was remembered, as far as it still holds."""
        epoch = self._epoch
        for rest in standing.rests:
            until = inf if rest.until is None else min(rest.until - epoch, now + LONGEST_LIMIT)
            if until > now:
                self._block((account_id, rest.model), until, rest.cause, rest.words, rest.faults)
        for model, (left, until) in standing.left.items():
            if until - epoch > now:
                self.allowed((account_id, model), left, until - epoch)
        number, requests, tokens = standing.today
        day = self._tallies[account_id].windows["day"].at(now + epoch)
        if number == day.number:
            day.requests, day.tokens = day.requests + requests, day.tokens + tokens

    def _block(self, place: Key, until: float, cause: Cause, words: str, faults: int = 0) -> None:
        old = self._of(place)
        self._put(
            place,
            replace(old, blocked_until=until, cause=cause, words=words, faults=max(faults, old.faults)),
        )

    def _lift(self, places: Iterable[Key]) -> None:
        for place in [*places]:
            if place in self._troubled:
                old = self._of(place)
                self._put(place, replace(old, blocked_until=0.0, cause=None, words="", attempts=0, faults=0))

    def _of(self, key: Key) -> Vitals:
        return self._records.get(key, BLANK)

    def _put(self, key: Key, vitals: Vitals) -> None:
        self._records[key] = vitals
        (self._troubled.add if vitals.cause or vitals.tripped else self._troubled.discard)(key)


def _average(old: float | None, new: float, weight: float = SMOOTHING) -> float:
    return new if old is None else old + weight * (new - old)
