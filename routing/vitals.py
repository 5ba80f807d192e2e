"""What is known of each model at each account at one moment, and what follows from it. Never changes.

Times are seconds on whatever clock the caller passes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, NamedTuple

from routing.windows import Room

Key = tuple[str, str]
"""Account (`ProviderSpec.account_id`) and model."""
Cause = Literal["faults", "rate limit", "allowance", "refused", "money", "disabled", "cap", "limit"]
"""`rate limit`: it refused a request; `allowance`: it told that it would. `refused`: for a while; `money`: so
is an account that has none left; `disabled`: until the key is another one, or is found to be good after all.
`cap` and `limit` are the owner's, of money and of use."""
FORESEEN: frozenset[Cause] = frozenset({"faults", "allowance"})
"""Nobody forbade to ask: when nobody else is left, there is nothing to lose by it."""
PASSING: frozenset[Cause] = FORESEEN | {"rate limit"}
"""What keeps no request from asking again after the pause that it was told itself."""

FAULTS_BEFORE_COOLING = 3
"""Requests in a row that gave up on a model, or attempts in a row that failed, before it gets a rest."""
PROBE_WAIT = 1.0
"""Seconds after which to come back while somebody else probes a rested model."""
FAULTS_FADE = 300.0
"""Half-life of a bad success rate in seconds: who is asked no more could not better it otherwise."""
PACE_FADES = 3600.0
"""Half-life of long times in seconds: an hour of rush must not brand a provider for the day."""
USE_FADES = 60.0
"""Half-life of what counts as used lately, in seconds: providers count tokens by the minute."""
WHOLE_ACCOUNT = ""
"""Stands for the model in the key of a whole account."""
PAID_MODELS = "$"
"""Stands for the model in the key of all that is not free at an account."""
NO_MODELS = frozenset({WHOLE_ACCOUNT, PAID_MODELS})


class Vitals(NamedTuple):
    """What is known of one model at one account; None = not measured.

    Each request makes four new ones of old ones, which takes a dataclass three times as long.
    """

    ttft: float | None = None
    """Seconds to the first text or tool call of a stream, the reading of the prompt left out."""
    speed: float | None = None
    """Answer tokens per second."""
    success_rate: float = 1.0
    """Share of attempts that were answered."""
    seen_at: float = -inf
    """When success or failure was last observed."""
    timed_at: float = -inf
    """When ttft or speed was last measured."""
    used: float = 0.0
    """Tokens sent and got, those of `USE_FADES` seconds ago counting half; as of `used_at`."""
    used_at: float = 0.0
    attempts: int = 0
    """Those in a row that failed."""
    faults: int = 0
    """Requests in a row that gave up on it; as many as trip it when one tried so often."""
    blocked_until: float = 0.0
    cause: Cause | None = None
    """Why it is, or was last, left alone."""
    words: str = ""
    """What the provider said, or what went wrong; redacted."""
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
    """How long still; infinite = until somebody does something about it."""
    cause: Cause
    words: str = ""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a provider still lets us have for a while."""

    left: float
    """Share of the whole, 0..1."""
    until: float
    """When it is full again."""

    @property
    def is_used_up(self) -> bool:
        return self.left <= 0


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """All of it at one moment. Never changes."""

    now: float = 0.0
    records: Mapping[Key, Vitals] = field(default_factory=dict)
    troubled: frozenset[Key] = frozenset()
    """Those that may be blocked, so that the others need not be looked at."""
    allowances: Mapping[Key, Allowance] = field(default_factory=dict)
    rooms: Mapping[str, Room] = field(default_factory=dict)
    """Of each account with limits of its owner, what they leave."""

    def of(self, key: Key) -> Vitals:
        """What is known of a model; a blank record if nothing is."""
        return self.records.get(key, BLANK)

    def left(self, key: Key) -> float | None:
        """The share of its allowance that a model, or its whole account, may still use; None = not known."""
        if not self.allowances and not self.rooms:
            return None
        found = (self.allowances.get(place) for place in (key, (key[0], WHOLE_ACCOUNT)))
        shares = [each.left for each in found if each and each.until > self.now]
        if room := self.rooms.get(key[0]):
            shares.append(room.left)
        return min(shares, default=None)

    def block(self, key: Key, *, is_free: bool = False) -> Block | None:
        """Why the model, or all of its account, is left alone now; None = it may be asked."""
        blocks = self.blocks(key, is_free=is_free)
        return max(blocks, key=lambda block: block.seconds, default=None)

    def blocks(self, key: Key, *, is_free: bool = False) -> list[Block]:
        """All reasons why the model, or all of its account, is left alone now."""
        account_id, _ = key
        whole = (account_id, WHOLE_ACCOUNT)
        found = []
        for place in (key, whole) if is_free else (key, whole, (account_id, PAID_MODELS)):
            if place in self.records and (block := self._own_block(place)):
                found.append(block)
            allowance = self.allowances.get(place)
            if allowance and allowance.is_used_up and allowance.until > self.now:
                found.append(Block(allowance.until - self.now, "allowance"))
        if (room := self.rooms.get(account_id)) and room.wait:
            found.append(Block(room.wait, "limit", room.words))
        return found

    def is_up(self, account_id: str, models: Iterable[str]) -> bool:
        """Whether any of these models of the account may be asked now, or some other if none is named."""
        asked = [*models] or [WHOLE_ACCOUNT]
        return any(self.block((account_id, model), is_free=True) is None for model in asked)

    def _own_block(self, key: Key) -> Block | None:
        vitals = self.of(key)
        if vitals.cause and vitals.blocked_until > self.now:
            return Block(vitals.blocked_until - self.now, vitals.cause, vitals.words)
        if vitals.tripped and vitals.probing:
            return Block(PROBE_WAIT, "faults")
        return None


BLANK = Vitals()
"""Of a model that was never asked."""


def _forgiven(measured: float, usual: float, age: float) -> float:
    return measured if measured <= usual else usual + (measured - usual) * _faded(age, PACE_FADES)


def _faded(age: float, half_life: float) -> float:
    return float(0.5 ** (max(0.0, age) / half_life))
