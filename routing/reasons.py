"""Why each candidate stands where it stands, in words: made only when somebody asks."""

from __future__ import annotations

from routing.eligibility import doubt, eligible
from routing.policy import FLOORS, Goal, Ranked, Ranking, Scores


def explain(ranking: Ranking) -> list[Ranked]:
    """All candidates with their scores and reasons.

    First those that may be asked, in the order in which they are, then those that are left alone just
    now, and last those that never can serve the request.
    """
    numbers = [*ranking.ready, *ranking.blocked, *ranking.refused]
    entries, goal = [_entry(ranking, number) for number in numbers], ranking.goal
    return [
        Ranked(
            entry.candidate,
            entry.scores,
            # The best of one is praised for nothing.
            "the only one"
            if len(entries) == 1 and entry.is_ready
            else _reason(entry, place, entries[0], goal),
            entry.refusal,
            entry.block,
            entry.doubt,
            entry.warm,
        )
        for place, entry in enumerate(entries, 1)
    ]


def _entry(ranking: Ranking, number: int) -> Ranked:
    candidate = ranking.slate.candidates[number]
    in_order = ranking.goal == "in-order"
    return Ranked(
        candidate,
        ranking.scores(number),
        reason="",
        refusal=eligible(candidate, ranking.needs, free_only=ranking.free_only),
        block=ranking.snapshot.block(candidate.key),
        doubt=None if in_order else doubt(candidate, ranking.needs),
        warm=ranking.warm is not None and ranking.warm.key == candidate.key,
    )


def _reason(entry: Ranked, place: int, winner: Ranked, goal: Goal) -> str:
    if entry.refusal is not None:
        return entry.refusal
    if entry.block:
        told = f" ({entry.block.words})" if entry.block.words else ""
        return f"left alone for {entry.block.seconds:.0f} s: {entry.block.cause}{told}"
    if goal == "in-order":
        return f"number {place} of the chain"
    if goal == "simple-shuffle":
        return "as likely as any other: the lot decides"
    if entry is winner:
        return _praise(entry, goal)
    if entry.doubt and not winner.doubt:
        return entry.doubt
    return _comparison(entry.scores, winner, goal)


def _praise(entry: Ranked, goal: Goal) -> str:
    scores = entry.scores
    text = {
        "fastest": f"the fastest: a finished answer in about {scores.seconds:.1f} s",
        "latency-based": f"the fastest: a finished answer in about {scores.seconds:.1f} s",
        "best_quality": f"the highest quality: {scores.quality:.2f}",
        "balanced": f"the best value: {_dollars(scores.expense)} for a good answer, waiting included",
        "least-cost": f"the cheapest: {_dollars(scores.cost)}",
        "usage-based": "the least used lately",
    }[goal]
    if entry.warm:
        text += "; its prompt cache is warm"
    floor = FLOORS.get(goal, 0.0)
    return f"{text} (none reaches the quality floor of {floor})" if scores.quality < floor else text


def _comparison(scores: Scores, winner: Ranked, goal: Goal) -> str:
    """Why these scores lost against the winner's."""
    best, name = winner.scores, winner.candidate.name
    floor = FLOORS.get(goal, 0.0)
    if goal == "usage-based":
        return f"used no less lately than {name}"
    if scores.quality < floor <= best.quality:
        return f"quality {scores.quality:.2f} is below {floor}, the floor of {goal}"
    if goal == "balanced" and scores.expense > best.expense:
        scarce = ", its scarce free allowance counted" if scores.rent > scores.cost else ""
        return (
            f"{_dollars(scores.expense)} for a good answer{scarce} against {_dollars(best.expense)} of {name}"
        )
    if goal == "best_quality" and round(scores.quality, 2) < round(best.quality, 2):
        return f"quality {scores.quality:.2f} against {best.quality:.2f} of {name}"
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
