"""The same model at several accounts of its provider: who of them is asked first. Pure.

They cost the same and answer the same, so nothing that `policy` ranks by tells them apart but what was
measured by chance. They share the places that ranking gave them: first the account whose cache is warm, then
whoever works, has the most of its allowance left, and was used the least lately.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import inf, log2
from typing import TYPE_CHECKING

from routing.candidate import Candidate
from routing.health import USE_FADES, Vitals

if TYPE_CHECKING:
    from routing.slate import Paces

NEARLY_GONE = 0.1
"""Share of an allowance below which even a warm cache does not keep a conversation at its account."""


class Siblings:
    """The groups of equals among some candidates, each in its order as of the last call.

    Most of that stays the same from request to request, so only what changed is put in order anew.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        found: dict[object, list[int]] = defaultdict(list)
        for number, each in enumerate(candidates):
            found[each.kind, each.prices].append(number)
        groups = [tuple(numbers) for numbers in found.values() if len(numbers) > 1]
        self._groups = groups
        self._group_of: list[int | None] = [None] * len(candidates)
        for place, numbers in enumerate(groups):
            for number in numbers:
                self._group_of[number] = place
        self._orders = groups.copy()
        self._paces: Paces | None = None
        self._left: Mapping[int, float] = {}

    def update(self, paces: Paces, left: Mapping[int, float]) -> None:
        """Take note of how they do now, and of what is left of their allowances, by their numbers."""
        old = self._paces
        if not self._groups or (paces is old and left == self._left):
            return
        changed: set[int] = {number for number, _ in left.items() ^ self._left.items()}
        if old is None or paces.moment != old.moment:
            changed.update(range(len(paces.vitals)))
        elif paces is not old:
            pairs = zip(paces.vitals, old.vitals, strict=True)
            changed.update(number for number, (new, known) in enumerate(pairs) if new is not known)
        self._paces, self._left = paces, left
        for place in {self._group_of[number] for number in changed}:
            if place is not None:
                order = sorted(self._groups[place], key=lambda number: self._merit(number, paces))
                self._orders[place] = tuple(order)

    def arranged(self, order: list[int], warm: int | None) -> list[int]:
        """The order, where siblings may have changed places with each other, and nobody else."""
        if not self._groups or not order:
            return order
        waiting = self._waiting(order, warm)
        group_of = self._group_of
        return [number if (place := group_of[number]) is None else waiting[place].pop() for number in order]

    def _waiting(self, order: Sequence[int], warm: int | None) -> list[list[int]]:
        """Of each group those that the order names, who is to be asked first last."""
        waiting = [[*each][::-1] for each in self._orders]
        if len(order) < len(self._group_of):
            there = set(order)
            waiting = [[number for number in each if number in there] for each in waiting]
        place = None if warm is None else self._group_of[warm]
        if place is not None and warm in waiting[place] and self._left.get(warm, 1.0) > NEARLY_GONE:
            waiting[place].remove(warm)
            waiting[place].append(warm)
        return waiting

    def _merit(self, number: int, paces: Paces) -> tuple[float, float, float]:
        """What to have little of."""
        left = self._left.get(number, 1.0)
        return -round(paces.trust[number], 1), -round(left, 1), _load(paces.vitals[number])


def _load(vitals: Vitals | None) -> float:
    """`Vitals.load` on a scale on which it does not fade, so that it need not be worked out each time."""
    if vitals is None or vitals.used <= 0:
        return -inf
    return log2(vitals.used) + vitals.used_at / USE_FADES
