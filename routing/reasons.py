"""Why each candidate stands where it stands, in words: made only when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from routing.candidate import Candidate
from routing.eligibility import doubt, eligible
from routing.health import Block, Cause, Key
from routing.learning import UNKNOWN_QUALITY
from routing.policy import FLOORS, Goal, Ranked, Ranking

_CAUSES: Mapping[Cause, str] = {
    "faults": "it failed several times in a row",
    "allowance": "its allowance is used up",
    "refused": "it refuses us",
    "money": "its account is out of money",
}


def explain(ranking: Ranking, unpaid: Mapping[int, Block] = MappingProxyType({})) -> list[Ranked]:
    """All candidates with their scores and reasons; `unpaid` are those whom no budget allows just now.

    First those that may be asked, in the order in which they are, then those that are left alone just
    now, and last those that never can serve the request.
    """
    ready = [number for number in ranking.ready if number not in unpaid]
    numbers = [*ready, *unpaid, *ranking.blocked, *ranking.refused]
    entries, goal = [_entry(ranking, number, unpaid.get(number)) for number in numbers], ranking.goal
    links = _links(ranking)
    # The best of one is praised for nothing.
    alone = len(entries) == 1 and entries[0].is_ready
    return [
        replace(
            entry,
            reason=("the only one" if alone else _reason(entry, links, entries[0], goal))
            + _past(entry, ranking),
        )
        for entry in entries
    ]


def _links(ranking: Ranking) -> Mapping[Key, int]:
    """The places of providers' models in the order that was given, whoever of them may be asked now."""
    kinds = dict.fromkeys(each.kind for each in ranking.slate.candidates)
    return {kind: place for place, kind in enumerate(kinds, 1)}


def _past(entry: Ranked, ranking: Ranking) -> str:
    """What is to be said besides of one that may be asked again after a rest."""
    vitals = ranking.snapshot.of(entry.candidate.key)
    if not entry.is_ready or not vitals.tripped:
        return ""
    told = f" ({vitals.words})" if vitals.words else ""
    return f"; it failed lately{told}, so one request at a time tries it again"


def _entry(ranking: Ranking, number: int, unpaid: Block | None) -> Ranked:
    candidate = ranking.slate.candidates[number]
    in_order = ranking.goal == "in-order"
    return Ranked(
        candidate,
        ranking.scores(number),
        reason="",
        refusal=eligible(candidate, ranking.needs, free_only=ranking.free_only),
        block=unpaid or ranking.snapshot.block(candidate.key, is_free=candidate.is_free),
        doubt=None if in_order else doubt(candidate, ranking.needs),
        warm=ranking.warm is not None and ranking.warm.key == candidate.key,
    )


def _reason(entry: Ranked, links: Mapping[Key, int], winner: Ranked, goal: Goal) -> str:
    if entry.refusal is not None:
        return entry.refusal
    if entry.block:
        return rest(entry.block, entry.candidate.spec.name)
    if goal == "in-order":
        return f"number {links[entry.candidate.kind]} of the chain"
    if goal == "simple-shuffle":
        return "as likely as any other: the lot decides"
    if entry is winner:
        return _praise(entry, goal)
    if entry.doubt and not winner.doubt:
        return entry.doubt
    if _is_sibling(entry.candidate, winner.candidate):
        first = winner.candidate.spec.account
        return f"the same model at another account: asked when account {first} cannot, or has less left"
    return _comparison(entry, winner, goal)


def _is_sibling(one: Candidate, other: Candidate) -> bool:
    return (one.kind, one.prices) == (other.kind, other.prices)


def in_words(seconds: float) -> str:
    """A time as people say it: `40 s`, `5 min`, `3.5 h`."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def again(block: Block, provider: str) -> str:
    """When it is asked again."""
    if block.cause == "disabled":
        return f"when its key is another one, or `agent-service providers test {provider}` finds it good"
    soon = f"in {in_words(block.seconds)}, or when"
    if block.cause == "money":
        return f"{soon} `agent-service providers test {provider}` finds it good"
    return f"{soon} its configuration changes"


def rest(block: Block, provider: str) -> str:
    """Why it is left alone, and for how long."""
    if block.cause == "disabled":
        return f"its key was refused ({block.words}); asked again {again(block, provider)}"
    if block.cause == "cap":
        return block.words
    if block.cause == "limit":
        return f"its owner's limit is reached: {block.words}; asked again in {in_words(block.seconds)}"
    told = f" ({block.words})" if block.words else ""
    why = _CAUSES.get(block.cause, block.cause)
    return f"left alone for {in_words(block.seconds)}: {why}{told}"


def _praise(entry: Ranked, goal: Goal) -> str:
    scores = entry.scores
    text = {
        "fastest": f"the fastest: a finished answer in about {scores.seconds:.1f} s",
        "latency-based": f"the fastest: a finished answer in about {scores.seconds:.1f} s",
        "best_quality": f"the highest quality: {scores.quality:.2f}{_demotion(entry)}",
        "balanced": f"the best value: {_dollars(scores.expense)} for a good answer, waiting included",
        "least-cost": f"the cheapest: {_dollars(scores.cost)}",
        "usage-based": "the least used lately of those with the most allowance left",
    }[goal]
    if entry.warm:
        text += "; its prompt cache is warm"
    floor = FLOORS.get(goal, 0.0)
    return f"{text} (none reaches the quality floor of {floor})" if scores.quality < floor else text


def _quality(entry: Ranked) -> str:
    """Its quality, and where that is no more than a guess."""
    quality = entry.scores.quality
    if entry.candidate.card.quality is None and quality == UNKNOWN_QUALITY:
        return f"not rated, taken for {quality:.2f}"
    return f"quality {quality:.2f}{_demotion(entry)}"


def _demotion(entry: Ranked) -> str:
    """What its rating was, where experience says otherwise."""
    rating, quality = entry.candidate.card.quality, entry.scores.quality
    if rating is None or round(rating, 2) == round(quality, 2):
        return ""
    return f" by experience (rated {rating:.2f})"


def _comparison(entry: Ranked, winner: Ranked, goal: Goal) -> str:
    """Why it lost against the winner."""
    scores, best, name = entry.scores, winner.scores, winner.candidate.label
    floor = FLOORS.get(goal, 0.0)
    if goal == "usage-based":
        return f"no less used lately than {name}, or with less of its allowance left"
    if scores.quality < floor <= best.quality:
        return f"{_quality(entry)}, below {floor}, the floor of {goal}"
    if goal == "balanced" and scores.expense > best.expense:
        scarce = " and its scarce free allowance" if scores.rent > scores.cost else ""
        expense = f"{_dollars(scores.expense)} for a good answer, waiting{scarce} counted,"
        return f"{expense} against {_dollars(best.expense)} of {name}"
    if goal == "best_quality" and round(scores.quality, 2) < round(best.quality, 2):
        return f"{_quality(entry)} against {best.quality:.2f} of {name}"
    if winner.warm:
        return f"not so much better that {name} should lose its warm prompt cache"
    if goal in ("best_quality", "least-cost") and scores.cost > best.cost:
        as_good = f"as good as {name}, but dearer" if goal == "best_quality" else f"dearer than {name}"
        return f"{as_good}: {_dollars(scores.cost)} against {_dollars(best.cost)}"
    if scores.seconds > best.seconds:
        return f"slower: about {scores.seconds:.1f} s against {best.seconds:.1f} s of {name}"
    return f"no better than {name}"


def _dollars(amount: float) -> str:
    return f"${amount:.4f}"
