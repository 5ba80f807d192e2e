"""How each model at each account is doing, learned from the traffic itself.

Times are seconds on whatever clock the caller passes in; nothing here reads one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from math import inf
from typing import Literal

from routing.config import RateLimits
from routing.records import Known, Records
from routing.standing import Rest, Standing
from routing.vitals import (
    BLANK,
    FAULTS_BEFORE_COOLING,
    FAULTS_FADE,
    FORESEEN,
    PACE_FADES,
    PAID_MODELS,
    PASSING,
    USE_FADES,
    WHOLE_ACCOUNT,
    Allowance,
    Block,
    Cause,
    HealthSnapshot,
    Key,
    Vitals,
)
from routing.windows import Room, Tally

__all__ = [
    "BLANK",
    "FAULTS_BEFORE_COOLING",
    "FAULTS_FADE",
    "FORESEEN",
    "PACE_FADES",
    "PAID_MODELS",
    "PASSING",
    "USE_FADES",
    "WHOLE_ACCOUNT",
    "Allowance",
    "Block",
    "Cause",
    "Claim",
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
MOST_OFTEN = 15.0
"""The longest rest of what fails at once."""
LONGEST_COOLING = 300.0
"""And of what takes its time."""
FOR_NOTHING = 1 / 30
"""Share of the time that may be spent on finding out that it is still down. With the longest rest in any case
the best model was missed for minutes after an outage, which cost `best_quality` 0.0008 of its quality
(tests/benchmarks/test_routing_replay.py)."""
LONGEST_LIMIT = 3600.0
"""A provider may ask for a day of silence; once an hour it is asked whether it still means it."""
REMEMBERED_RATE = 0.99
"""Success rates to be expected from here on are not worth keeping over a restart."""
PARKED = 300.0
"""Seconds that a refused key or model is left alone: accounts get topped up, too."""
_FEWEST_TOKENS = 16
"""Shorter answers say nothing about speed."""


class Health:
    """The running record. One for each router; used from one event loop."""

    def __init__(self, epoch: float = 0.0, known: Known = lambda account_id: ()) -> None:
        """`epoch` is what to add to the caller's clock to get seconds since 1970, for what is kept over a
        restart and for days that end at midnight. Of models that are not `known` only some are remembered."""
        self._epoch = epoch
        self._records = Records(known)
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._limits: Mapping[str, RateLimits] = {}
        self._doubted: set[str] = set()
        self._proofs: Counter[str] = Counter()

    def limit(self, limits: Mapping[str, RateLimits]) -> None:
        """These accounts have limits of their owners, and no others have."""
        self._limits = dict(limits)

    def snapshot(self, now: float) -> HealthSnapshot:
        """The state at `now`."""
        rooms = self._rooms(self._limits, now)
        troubled = frozenset(self._records.troubled)
        if busy := [(each, WHOLE_ACCOUNT) for each, room in rooms.items() if room.wait]:
            troubled = troubled.union(busy)
        return HealthSnapshot(
            now, dict(self._records.vitals), troubled, dict(self._records.allowances), rooms
        )

    def answered(self, key: Key, now: float) -> None:
        """It answers: whatever was wrong before is over, but for the rest that the provider wants.

        Nobody is asked during that, so the answer is to a request that was sent before.
        """
        old = self._records.of(key)
        rate = _average(old.trust(now), 1.0, TRUST_SMOOTHING)
        well = old._replace(success_rate=rate, seen_at=now, attempts=0, faults=0)
        if old.cause and (old.cause != "rate limit" or old.blocked_until <= now):
            well = well._replace(blocked_until=0.0, cause=None, words="")
        self._records.put(key, well)
        self._doubted.discard(key[0])
        whole = (key[0], WHOLE_ACCOUNT)
        if self._records.of(whole).cause == "faults":
            self._records.lift([whole])

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
        """It took so many seconds to begin, and to end an answer of so many tokens.

        `prompt` tokens had to be read before.
        """
        old, reading = self._records.of(key), prompt / PREFILL_SPEED
        speed = None
        if latency and tokens and tokens >= _FEWEST_TOKENS:
            # A whole answer does not tell when it began: as usual, or else the wait counts into the speed.
            wait = ttft if ttft is not None else min((old.ttft or 0.0) + reading, latency / 2)
            speed = tokens / max(latency - wait, 1e-3)
        if ttft is not None:
            ttft = max(0.0, ttft - reading)
        self._records.put(
            key,
            old._replace(
                ttft=old.ttft if ttft is None else _average(old.ttft, ttft),
                speed=old.speed if speed is None else _average(old.speed, speed),
                timed_at=now,
            ),
        )

    def recalled(self, key: Key, now: float, *, ttft: float | None, speed: float | None) -> None:
        """This was measured before the last restart."""
        self._records.put(key, self._records.of(key)._replace(ttft=ttft, speed=speed, timed_at=now))

    def used(self, key: Key, now: float, tokens: int) -> None:
        """A request of so many tokens goes to it; `ended` or `withdrawn` tells when that is over."""
        old = self._records.of(key)
        self._records.put(key, old._replace(used=old.load(now) + tokens, used_at=now))
        tally = self._tallies[key[0]]
        tally.add(now + self._epoch, requests=1, tokens=tokens)
        tally.in_flight += 1

    def ended(self, key: Key, now: float, tokens: int) -> None:
        """A request that was told to `used` is over, after so many tokens of an answer."""
        old = self._records.of(key)
        self._records.put(key, old._replace(used=old.load(now) + tokens, used_at=now))
        tally = self._tallies[key[0]]
        tally.add(now + self._epoch, tokens=tokens)
        tally.in_flight -= 1

    def withdrawn(self, key: Key, began: float, tokens: int) -> None:
        """A request that was told to `used` at `began` did not go out after all."""
        old = self._records.of(key)
        self._records.put(key, old._replace(used=max(0.0, old.used - tokens)))
        tally = self._tallies[key[0]]
        tally.take_back(began + self._epoch, requests=1, tokens=tokens)
        tally.in_flight -= 1

    def allowed(self, key: Key, now: float, left: float, seconds: float) -> None:
        """The provider told what share of its allowance is left, and in how many seconds it is full again.

        The model in the key is `WHOLE_ACCOUNT` where the allowance is of all models together.
        """
        left = min(1.0, max(0.0, left))
        # Many are filled bit by bit: who has nothing is asked again long before a day's worth is there.
        self._records.allow(key, Allowance(left, now + (seconds if left else min(seconds, LONGEST_LIMIT))))

    def faulted(self, key: Key, now: float) -> None:
        """One attempt failed."""
        old = self._records.of(key)
        rate = _average(old.trust(now), 0.0, TRUST_SMOOTHING)
        self._records.put(key, old._replace(success_rate=rate, seen_at=now, attempts=old.attempts + 1))

    def gave_up(
        self, key: Key, now: float, words: str = "", *, whole_account: bool = False, seconds: float = inf
    ) -> None:
        """A request gave up on it; after several faults in a row it is left alone, longer each time.

        How long at most depends on the seconds that the last try took; infinite = nobody knows. With
        `whole_account` the other models of the account are left alone, too.
        """
        old = self._records.of(key)
        faults = old.faults + 1
        if old.attempts >= FAULTS_BEFORE_COOLING:
            faults = max(faults, FAULTS_BEFORE_COOLING)
        self._records.put(key, old._replace(faults=faults))
        if faults >= FAULTS_BEFORE_COOLING:
            doublings = min(faults - FAULTS_BEFORE_COOLING, 16)
            longest = min(LONGEST_COOLING, max(MOST_OFTEN, seconds / FOR_NOTHING))
            until = now + min(FIRST_COOLING * 2**doublings, longest)
            self._block(key, until, "faults", words)
            if whole_account:
                self._block((key[0], WHOLE_ACCOUNT), until, "faults", words)

    def limited(self, key: Key, now: float, seconds: float) -> None:
        """It wants to be left alone for so many seconds."""
        until = now + min(seconds, LONGEST_LIMIT)
        self._records.put(key, self._records.of(key)._replace(blocked_until=until, cause="rate limit"))

    def refused(
        self, key: Key, now: float, words: str, *, whole_account: bool, until_changed: bool = False
    ) -> None:
        """The provider refuses this model, or with `whole_account` all of them: our money is used up.

        It is left alone for a while or until `forget` or `proven`; with `until_changed`, which is said of
        our key, not before these.
        """
        place = (key[0], WHOLE_ACCOUNT) if whole_account else key
        if until_changed:
            self._block(place, inf, "disabled", words)
        else:
            self._block(place, now + PARKED, "money" if whole_account else "refused", words)

    def doubt(self, account_id: str) -> None:
        """Its key was not seen to be good; it is asked all the same, and an answer ends the doubt."""
        self._doubted.add(account_id)

    @property
    def doubted(self) -> frozenset[str]:
        """The accounts that did not answer since their keys were doubted."""
        return frozenset(self._doubted)

    @property
    def proofs(self) -> Mapping[str, int]:
        """How often each account was proven good so far."""
        return self._proofs

    def proven(self, account_id: str) -> None:
        """Its key was tried and is good, whatever was thought of it before."""
        self._proofs[account_id] += 1
        self._doubted.discard(account_id)
        troubled = self._records.troubled
        self._records.lift(each for each in troubled if each[0] == account_id and each[1] != PAID_MODELS)

    def capped(self, account_id: str, now: float, seconds: float, words: str) -> None:
        """What its owner lets it cost is used up: only its free models are asked for so long."""
        self._block((account_id, PAID_MODELS), now + seconds, "cap", words)

    def uncapped(self, account_ids: Iterable[str]) -> None:
        """These may cost something again."""
        self._records.lift((each, PAID_MODELS) for each in account_ids)

    def claim(self, key: Key, now: float, *, is_free: bool = False, despite: Collection[Cause] = ()) -> Claim:
        """Whether this request may ask the model now, whatever a ranking said that was made a while ago.

        It may not while that is to be left alone, unless for a cause named in `despite`. A tripped one
        takes one request at a time; a `probe` ends with `release`.
        """
        records, vitals = self._records, self._records.of(key)
        limits = {key[0]: self._limits[key[0]]} if key[0] in self._limits else {}
        # Looked at once and not kept, so nothing is copied for it.
        at_once = HealthSnapshot(
            now, records.vitals, allowances=records.allowances, rooms=self._rooms(limits, now)
        )
        blocks = at_once.blocks(key, is_free=is_free)
        if any(block.cause not in despite for block in blocks) or (vitals.tripped and vitals.probing):
            return "closed"
        if not vitals.tripped:
            return "open"
        self._records.put(key, vitals._replace(probing=True))
        return "probe"

    def release(self, key: Key) -> None:
        """The probe is over."""
        self._records.put(key, self._records.of(key)._replace(probing=False))

    def forget(self, account_ids: Collection[str]) -> None:
        """Drop what is known of these: their key or address is another one now."""
        self._records.forget(account_ids)
        self._doubted.difference_update(account_ids)
        for each in account_ids:
            if tally := self._tallies.get(each):
                tally.windows = Tally().windows  # calls under way are still to end

    def standing(self, account_id: str, snapshot: HealthSnapshot) -> Standing:
        """What to remember of the account over a restart, as of that snapshot."""
        now, epoch = snapshot.now, self._epoch
        rests = []
        for place in sorted(each for each in snapshot.troubled if each[0] == account_id):
            vitals = snapshot.of(place)
            if vitals.cause and vitals.blocked_until > now and place[1] != PAID_MODELS:
                until = None if vitals.blocked_until == inf else vitals.blocked_until + epoch
                rests.append(Rest(place[1], vitals.cause, vitals.words, until, vitals.faults))
        left = {
            key[1]: (each.left, each.until + epoch)
            for key, each in snapshot.allowances.items()
            if key[0] == account_id and each.until > now
        }
        day = self._tallies[account_id].windows["day"].at(now + epoch)
        today = (day.number, day.requests, day.tokens) if day.requests else (0, 0, 0)
        rates = {
            key[1]: (each.success_rate, each.seen_at + epoch)
            for key, each in snapshot.records.items()
            if key[0] == account_id and each.trust(now) < REMEMBERED_RATE
        }
        return Standing(tuple(rests), left, today, rates, account_id in self._doubted)

    def resume(self, account_id: str, standing: Standing, now: float) -> None:
        """Go on from what was remembered, as far as it still holds."""
        epoch = self._epoch
        for rest in standing.rests:
            until = inf if rest.until is None else min(rest.until - epoch, now + LONGEST_LIMIT)
            if until > now:
                self._block((account_id, rest.model), until, rest.cause, rest.words, rest.faults)
        for model, (left, until) in standing.left.items():
            if until - epoch > now:
                self.allowed((account_id, model), now, left, until - epoch - now)
        for model, (rate, seen_at) in standing.rates.items():
            key = (account_id, model)
            seen = min(seen_at - epoch, now)
            self._records.put(key, self._records.of(key)._replace(success_rate=rate, seen_at=seen))
        if standing.doubted:
            self._doubted.add(account_id)
        number, requests, tokens = standing.today
        day = self._tallies[account_id].windows["day"].at(now + epoch)
        if number == day.number:
            day.requests, day.tokens = day.requests + requests, day.tokens + tokens

    def _block(self, place: Key, until: float, cause: Cause, words: str, faults: int = 0) -> None:
        old = self._records.of(place)
        self._records.put(
            place,
            old._replace(blocked_until=until, cause=cause, words=words, faults=max(faults, old.faults)),
        )

    def _rooms(self, limits: Mapping[str, RateLimits], now: float) -> dict[str, Room]:
        return {each: self._tallies[each].room(limits[each], now + self._epoch) for each in limits}


def _average(old: float | None, new: float, weight: float = SMOOTHING) -> float:
    return new if old is None else old + weight * (new - old)
