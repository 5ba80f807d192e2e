"""Which model shall answer: who can, and in which order to ask. Pure: no clock, no network.

The three qualities (DESIGN section 7), with T = time to the first token + answer tokens / speed,
S = success rate, Q = quality, C = cost at list prices:

- `fastest`: least T/S, among those with Q above a floor;
- `best_quality`: highest Q; C, then T/S, break ties;
- `balanced`: least (C + price of time x T/S) / Q, what a *good* answer may be expected to cost, among
  those with Q above a higher floor.

Floors are soft: who is below comes later, not never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routing.config import ModelCard, ProviderSpec
from routing.health import Block, HealthSnapshot, Key, Vitals
from routing.needs import Needs
from routing.types import Quality

UNKNOWN_QUALITY = 0.4
"""Below nine tenths of the rated models in `routing/data`: what nobody rated is rarely the best."""
UNKNOWN_TTFT = 1.5
"""Seconds; about what hosted models without a thinking phase take."""
UNKNOWN_SPEED = 50.0
"""Tokens per second of a hosted model."""
UNKNOWN_LOCAL_SPEED = 15.0
"""Tokens per second of a model on the user's own machine."""
UNKNOWN_PRICES = (1.0, 4.0)
"""US dollars per million prompt and answer tokens: a little above the median of `routing/data`."""
USUAL_ANSWER = 600
"""Tokens of an answer to a coding request, where the request names no limit below."""
FLOORS: Mapping[Quality, float] = {"fastest": 0.35, "balanced": 0.6, "best_quality": 0.0}
SECOND_PRICE = 0.002
"""US dollars that a second of waiting is worth: ten seconds weigh as much as two cents."""
LEAST_CHANCE = 0.05
"""Success rates and qualities count as at least this much, so that nothing costs infinitely."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model at a provider."""

    spec: ProviderSpec
    card: ModelCard

    @property
    def key(self) -> Key:
        return self.spec.name, self.card.id

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.spec.name}/{self.card.id}"

    @property
    def is_free(self) -> bool:
        """Whether an answer costs nothing: by its card, its prices, or its provider's tier."""
        if self.spec.is_local or self.card.free is not None:
            return self.spec.is_local or bool(self.card.free)
        prices = (self.card.input_price, self.card.output_price)
        return prices == (0, 0) or (self.spec.tier == "free" and prices == (None, None))

    @property
    def prices(self) -> tuple[float | None, float | None]:
        """US dollars per million prompt and answer tokens; None = unknown."""
        return (0.0, 0.0) if self.is_free else (self.card.input_price, self.card.output_price)

    @property
    def takes_tools(self) -> bool | None:
        """Whether it can call tools; None = not known."""
        calling = self.card.tool_calling or self.spec.tool_calling
        if calling != "native":
            return calling == "constrained"
        return True if self.card.tool_calling == "native" else self.card.tools


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers that a place in the order comes from."""

    quality: float
    success_rate: float
    seconds: float
    """Expected time to a finished answer, failed tries included."""
    cost: float
    """US dollars expected for the answer."""

    @property
    def expense(self) -> float:
        """US dollars that a good answer may be expected to cost, waiting included."""
        return (self.cost + SECOND_PRICE * self.seconds) / max(self.quality, LEAST_CHANCE)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place, and why it stands there."""

    candidate: Candidate
    scores: Scores
    reason: str
    """One sentence without a full stop: why it won, or why it lost against the winner."""
    refusal: str | None = None
    """Why it can never serve this request; None = it can."""
    block: Block | None = None
    """Why it is not asked just now; None = it may be."""
    doubt: str | None = None
    """Why it only may be able to serve this request; None = it surely is."""

    @property
    def is_ready(self) -> bool:
        return self.refusal is None and self.block is None


def eligible(candidate: Candidate, needs: Needs, *, free_only: bool = False) -> str | None:
    """Why the candidate can never serve such a request; None = it can, or may."""
    card = candidate.card
    if free_only and not candidate.is_free:
        return "is not free, and only free models are allowed (router.free_only)"
    if needs.tools and candidate.takes_tools is False:
        return "cannot call tools"
    if needs.vision and card.vision is False:
        return "cannot take images"
    if needs.json_schema and card.json_schema is False:
        return "cannot hold its answer to a JSON schema"
    output = needs.output_tokens or 0
    if card.max_output and output > card.max_output:
        return f"answers with at most {card.max_output:,} tokens, and {output:,} are asked for"
    least = needs.least_prompt_tokens + output
    if card.context_window and least > card.context_window:
        return f"has a window of {card.context_window:,} tokens, and the request takes at least {least:,}"
    return None


def rank(
    candidates: Sequence[Candidate],
    quality: Quality,
    snapshot: HealthSnapshot,
    needs: Needs | None = None,
    *,
    free_only: bool = False,
    in_order: bool = False,
) -> list[Ranked]:
    """All candidates, in the order in which to ask them, each with its scores and the reason.

    First those that surely can serve the request, then those that may, then those that are left alone
    just now, and last those that never can. With `in_order` the given order decides instead of the
    scores and doubts: it is the user's own chain.
    """
    needs = needs or Needs()
    places = []
    for position, candidate in enumerate(candidates):
        entry = Ranked(
            candidate,
            score(candidate, snapshot.of(candidate.key), needs),
            reason="",
            refusal=eligible(candidate, needs, free_only=free_only),
            block=snapshot.block(candidate.key),
            doubt=None if in_order else _doubt(candidate, needs),
        )
        places.append((_group(entry), *_order(entry, quality, position if in_order else None), entry))
    places.sort(key=lambda place: place[:-1])
    ordered = [place[-1] for place in places]
    return [_explained(entry, ordered, quality, in_order=in_order) for entry in ordered]


def score(candidate: Candidate, vitals: Vitals, needs: Needs) -> Scores:
    """What may be expected of a candidate: measured where it was, else its card, else the defaults."""
    card = candidate.card
    local = candidate.spec.is_local
    tokens = min(needs.output_tokens or USUAL_ANSWER, USUAL_ANSWER)
    ttft = _first(vitals.ttft, card.ttft_seconds, UNKNOWN_TTFT)
    speed = _first(vitals.speed, card.tokens_per_second, UNKNOWN_LOCAL_SPEED if local else UNKNOWN_SPEED)
    prices = [_first(known, usual) for known, usual in zip(candidate.prices, UNKNOWN_PRICES, strict=True)]
    return Scores(
        quality=_first(card.quality, UNKNOWN_QUALITY),
        success_rate=vitals.success_rate,
        seconds=(ttft + tokens / speed) / max(vitals.success_rate, LEAST_CHANCE),
        cost=(needs.prompt_tokens * prices[0] + tokens * prices[1]) / 1e6,
    )


def _doubt(candidate: Candidate, needs: Needs) -> str | None:
    card = candidate.card
    if (needs.tools or needs.prefers_tools) and not candidate.takes_tools:
        return "is not known to call tools"
    if needs.vision and card.vision is None:
        return "is not known to take images"
    if needs.json_schema and card.json_schema is None:
        return "is not known to hold its answer to a JSON schema"
    size = needs.prompt_tokens + (needs.output_tokens or 0)
    if card.context_window and size > card.context_window:
        return f"may be too small: {card.context_window:,} tokens, and the request may take {size:,}"
    return None


def _group(entry: Ranked) -> int:
    if entry.refusal is not None:
        return 3
    return 2 if entry.block else 1 if entry.doubt else 0


def _order(entry: Ranked, quality: Quality, position: int | None) -> tuple[Any, ...]:
    """The sort key within a group; ends in the name, so that the order is total."""
    if position is not None:
        return (position,)
    scores, low = entry.scores, entry.scores.quality < FLOORS[quality]
    objectives: dict[Quality, tuple[float, ...]] = {
        "fastest": (scores.seconds, -scores.quality, scores.cost),
        # Ratings are not exact to the third digit, so neighbours count as equal.
        "best_quality": (-round(scores.quality, 2), scores.cost, scores.seconds),
        "balanced": (scores.expense, -scores.quality),
    }
    return (low, *objectives[quality], entry.candidate.key)


def _explained(entry: Ranked, ordered: list[Ranked], quality: Quality, *, in_order: bool) -> Ranked:
    winner = ordered[0]
    if entry.refusal is not None:
        reason = entry.refusal
    elif entry.block:
        reason = f"left alone for {entry.block.seconds:.0f} s: {entry.block.cause}"
    elif in_order:
        reason = f"number {ordered.index(entry) + 1} of the chain"
    elif entry is winner:
        reason = _praise(entry, quality)
    elif entry.doubt and not winner.doubt:
        reason = entry.doubt
    else:
        reason = _comparison(entry.scores, winner, quality)
    return Ranked(entry.candidate, entry.scores, reason, entry.refusal, entry.block, entry.doubt)


def _praise(entry: Ranked, quality: Quality) -> str:
    scores = entry.scores
    text = {
        "fastest": f"the fastest: a finished answer in about {scores.seconds:.1f} s",
        "best_quality": f"the highest quality: {scores.quality:.2f}",
        "balanced": f"the best value: {_dollars(scores.expense)} for a good answer, waiting included",
    }[quality]
    below = scores.quality < FLOORS[quality]
    return f"{text} (none reaches the quality floor of {FLOORS[quality]})" if below else text


def _comparison(scores: Scores, winner: Ranked, quality: Quality) -> str:
    """Why these scores lost against the winner's."""
    best, name = winner.scores, winner.candidate.name
    floor = FLOORS[quality]
    if scores.quality < floor <= best.quality:
        return f"quality {scores.quality:.2f} is below {floor}, the floor of {quality}"
    if quality == "balanced" and scores.expense > best.expense:
        return f"{_dollars(scores.expense)} for a good answer against {_dollars(best.expense)} of {name}"
    if quality == "best_quality" and round(scores.quality, 2) < round(best.quality, 2):
        return f"quality {scores.quality:.2f} against {best.quality:.2f} of {name}"
    if quality == "best_quality" and scores.cost > best.cost:
        return f"as good as {name}, but dearer: {_dollars(scores.cost)} against {_dollars(best.cost)}"
    if scores.seconds > best.seconds:
        return f"slower: about {scores.seconds:.1f} s against {best.seconds:.1f} s of {name}"
    return f"no better than {name}"


def _dollars(amount: float) -> str:
    return f"${amount:.4f}"


def _first(*values: float | None) -> float:
    """The first that is known; the last one always is."""
    return next(value for value in values if value is not None)
