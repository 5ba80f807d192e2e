"""Asking another model than the best now and then, so that a change for the better is seen. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from routing.policy import FLOORS, Ranking

TUITION = 0.001
"""US dollars that a request may cost more than at the winner in order to learn something."""
NOVELTY = 5.0
"""How many times the usual share of requests goes to models that never answered, where time counts: each is
tried soon, because one answer tells most about its speed. About quality it tells next to nothing."""
UNSEEN = 600.0
"""Seconds after which what was measured of a model is worth finding out again."""


def explore(ranking: Ranking, share: float, random: Callable[[], float]) -> int | None:
    """The number of another candidate to ask first this time, for what can be learned; mostly None.

    It surely can serve the request, was not seen lately, may turn out to be the better one, and is free
    or not noticeably dearer than the winner. Where quality is the goal, none is lost on purpose: asked are
    the winner's equals, and who is rated above it but was found to do worse, because that may have changed.
    """
    lot, most = random(), share * (NOVELTY if ranking.goal in FLOORS else 1.0)
    if not ranking.ready or ranking.warm or lot >= most:
        return None
    options = [number for number in ranking.ready[1 : ranking.sure] if _is_worth_a_try(ranking, number)]
    seen = [ranking.snapshot.of(ranking.slate.keys[number]).timed_at for number in options]
    longest_unseen = min(seen, default=inf)
    if longest_unseen + UNSEEN > ranking.snapshot.now or (longest_unseen > -inf and lot >= share):
        return None
    options = [number for number, at in zip(options, seen, strict=True) if at == longest_unseen]
    return options[int(random() * len(options))]


def _is_worth_a_try(ranking: Ranking, number: int) -> bool:
    columns, winner = ranking.columns, ranking.ready[0]
    quality = columns.quality[number]
    if ranking.goal in FLOORS:
        may_win = quality >= FLOORS[ranking.goal]
    else:
        best = round(columns.quality[winner], 2)
        if (ranking.slate.ratings[number] or 0.0) > best > round(quality, 2):
            return True  # whoever wants the best would pay for it, too
        may_win = round(quality, 2) >= best
    affordable = columns.cost[number] <= columns.cost[winner] + TUITION
    return may_win and (affordable or ranking.slate.candidates[number].is_free)
