"""A set of candidates with everything worked out that stays the same from request to request.

Columns, one number for each candidate: a request is then a few passes over lists of floats, and no object
is made per candidate. The lists that follow health and beliefs are remembered until those change; they are
replaced, never altered, so that a ranking can be explained later by the numbers it was made from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from routing.candidate import Candidate
from routing.eligibility import doubt, eligible
from routing.health import BLANK, PAID_MODELS, WHOLE_ACCOUNT, HealthSnapshot, Key, Vitals
from routing.learning import NO_BELIEFS, Beliefs
from routing.needs import Needs
from routing.siblings import Siblings
from routing.types import TaskClass

UNKNOWN_TTFT = 1.5
"""Seconds; about what hosted models without a thinking phase take."""
UNKNOWN_SPEED = 50.0
"""Tokens per second of a hosted model."""
UNKNOWN_LOCAL_SPEED = 15.0
"""Tokens per second of a model on the user's own machine."""
UNKNOWN_PRICES = (1.0, 4.0)
"""US dollars per million prompt and answer tokens: a little above the median of `routing/data`."""
USUAL_SCARCITY = 0.1
"""How scarce a free allowance is taken to be that nobody told the rest of, 0..1."""
LEAST_CHANCE = 0.05
"""Success rates and qualities count as at least this much, so that nothing costs infinitely."""
FRESH = 30.0
"""Seconds for which the fading of old measurements is not worked out anew."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Who can serve a kind of request, its size apart; numbers of candidates, in the order of their names."""

    sure: tuple[int, ...]
    doubtful: tuple[int, ...]
    refused: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Qualities:
    """How good each candidate is at one kind of task."""

    beliefs: Beliefs
    values: list[float]
    """Expected, 0..1."""
    proven: list[float]
    """The same, as far as it is more than luck."""
    steps: list[float]
    """That negated and in hundredths: ratings are not exact to the third digit, so neighbours are equals."""


@dataclass(frozen=True, slots=True)
class Paces:
    """What health says of each candidate's speed. Failed tries are counted into the times."""

    waits: list[float]
    """Expected seconds to the first token of an empty prompt."""
    per_token: list[float]
    """Expected seconds for each token."""
    trust: list[float]
    """Expected success rate."""
    vitals: Sequence[Vitals | None]
    """What that was worked out from."""
    moment: float
    """And as of when."""


class Slate:
    """Candidates, each once, numbered in the order given."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.candidates = tuple({each.key: each for each in candidates}.values())
        self.keys = [each.key for each in self.candidates]
        self.numbers = {key: number for number, key in enumerate(self.keys)}
        self.of_account: dict[str, list[int]] = defaultdict(list)
        for number, (account_id, _) in enumerate(self.keys):
            self.of_account[account_id].append(number)
        self.siblings = Siblings(self.candidates)
        cards = [each.card for each in self.candidates]
        prices = [_known(each.prices, UNKNOWN_PRICES) for each in self.candidates]
        self.prompt_price = [prompt / 1e6 for prompt, _ in prices]
        self.answer_price = [answer / 1e6 for _, answer in prices]
        self.windows = [card.context_window or inf for card in cards]
        self.max_outputs = [card.max_output or inf for card in cards]
        self.least_window = min(self.windows, default=inf)
        self.least_max_output = min(self.max_outputs, default=inf)
        self.scarcity = [USUAL_SCARCITY if each.is_metered else 0.0 for each in self.candidates]
        self.ratings = [card.quality for card in cards]
        self._usual_pace = [_usual_pace(each) for each in self.candidates]
        self._by_name = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        self._fits: dict[tuple[bool, ...], Fit] = {}
        self._qualities: dict[TaskClass, Qualities] = {}
        self._paces = Paces([], [], [], [], -1.0)

    def __len__(self) -> int:
        return len(self.candidates)

    def fit(self, needs: Needs, *, free_only: bool) -> Fit:
        """Who can, may and cannot serve requests with such features."""
        place = (needs.tools, needs.vision, needs.json_schema, needs.prefers_tools, free_only)
        if place not in self._fits:
            features = replace(needs, prompt_tokens=0, least_prompt_tokens=0, output_tokens=None)
            self._fits[place] = self._fitted(features, free_only=free_only)
        return self._fits[place]

    def qualities(self, task: TaskClass, beliefs: Beliefs = NO_BELIEFS) -> Qualities:
        """How good each candidate is at such tasks."""
        known = self._qualities.get(task)
        if known is None or known.beliefs is not beliefs:
            rated = [*zip((each.kind for each in self.candidates), self.ratings, strict=True)]
            values = [beliefs.quality(task, key, prior) for key, prior in rated]
            proven = [beliefs.proven(task, key, prior) for key, prior in rated]
            known = Qualities(beliefs, values, proven, [-round(value, 2) for value in proven])
            self._qualities[task] = known
        return known

    def paces(self, snapshot: HealthSnapshot) -> Paces:
        """How fast each candidate is, measured where it was, else by its card, else as usual."""
        vitals = list(map(snapshot.records.get, self.keys))
        moment = snapshot.now // FRESH * FRESH
        if moment != self._paces.moment:
            waits, per_token, trust = ([0.0] * len(self) for _ in range(3))
            self._paces = Paces(waits, per_token, trust, vitals, moment)
            stale: Iterable[int] = range(len(self))
        else:
            pairs = zip(vitals, self._paces.vitals, strict=True)
            stale = [n for n, (new, old) in enumerate(pairs) if new is not old]
        if stale:
            self._paces = self._paced(vitals, stale, moment)
        return self._paces

    def lefts(self, snapshot: HealthSnapshot) -> Mapping[int, float]:
        """The shares of their allowances that are left, by number, as far as they are known."""
        found: dict[int, float] = {}

        def told(numbers: Iterable[int], left: float) -> None:
            for number in numbers:
                found[number] = min(left, found.get(number, 1.0))

        for key, allowance in snapshot.allowances.items():
            if allowance.until > snapshot.now:
                told(self._at(key), allowance.left)
        for account_id, room in snapshot.rooms.items():
            told(self.of_account.get(account_id, ()), room.left)
        return found

    def blocked(self, snapshot: HealthSnapshot) -> set[int]:
        """Who is left alone just now."""
        found: set[int] = set()
        for key in snapshot.troubled:
            found.update(
                number
                for number in self._at(key)
                if snapshot.block(self.keys[number], is_free=self.candidates[number].is_free)
            )
        return found

    def _at(self, key: Key) -> Sequence[int]:
        """The numbers that a key stands for: of one model, or of all of an account."""
        if key[1] in (WHOLE_ACCOUNT, PAID_MODELS):
            return self.of_account.get(key[0], ())
        return (self.numbers[key],) if key in self.numbers else ()

    def _fitted(self, features: Needs, *, free_only: bool) -> Fit:
        sure: list[int] = []
        doubtful: list[int] = []
        refused: list[int] = []
        for number in self._by_name:
            candidate = self.candidates[number]
            if eligible(candidate, features, free_only=free_only) is not None:
                refused.append(number)
            else:
                (doubtful if doubt(candidate, features) else sure).append(number)
        return Fit(tuple(sure), tuple(doubtful), tuple(refused))

    def _paced(self, vitals: Sequence[Vitals | None], stale: Iterable[int], moment: float) -> Paces:
        waits, per_token, trust = (
            column.copy() for column in (self._paces.waits, self._paces.per_token, self._paces.trust)
        )
        for number in stale:
            known = vitals[number] or BLANK
            trusted = max(known.trust(moment), LEAST_CHANCE)
            wait, each = known.pace(moment, *self._usual_pace[number])
            waits[number], per_token[number], trust[number] = wait / trusted, each / trusted, trusted
        return Paces(waits, per_token, trust, vitals, moment)


def _known(prices: tuple[float | None, float | None], usual: tuple[float, float]) -> tuple[float, float]:
    prompt, answer = (u if price is None else price for price, u in zip(prices, usual, strict=True))
    return prompt, answer


def _usual_pace(candidate: Candidate) -> tuple[float, float]:
    card = candidate.card
    usual = UNKNOWN_LOCAL_SPEED if candidate.spec.is_local else UNKNOWN_SPEED
    return UNKNOWN_TTFT if card.ttft_seconds is None else card.ttft_seconds, card.tokens_per_second or usual
