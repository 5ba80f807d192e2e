"""The records of models at accounts and of what is left of their allowances, as many as are worth keeping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable

from routing.vitals import BLANK, NO_MODELS, Allowance, Key, Vitals

Known = Callable[[str], Collection[str]]
"""The models that are known of an account, by its id."""

MOST_STRANGERS = 256
"""Records kept of an account's other models: anybody may ask for any name, also for one without a model."""


class Records:
    """What is known of each model. Of those that nobody knows, who was heard of longest ago is forgotten."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.vitals: dict[Key, Vitals] = {}
        """Who was heard of last stands last."""
        self.allowances: dict[Key, Allowance] = {}
        self._sweep_beyond = MOST_STRANGERS
        self.troubled: set[Key] = set()
        """Those that may be blocked."""

    def of(self, key: Key) -> Vitals:
        """What is known of a model; a blank record if nothing is."""
        return self.vitals.get(key, BLANK)

    def put(self, key: Key, vitals: Vitals) -> None:
        """This is known of it now."""
        self.vitals.pop(key, None)
        self.vitals[key] = vitals
        self._judge(key)
        if len(self.vitals) > self._sweep_beyond:
            self._sweep()

    def allow(self, key: Key, allowance: Allowance) -> None:
        """So much is left of what it may take."""
        self.allowances[key] = allowance
        self._judge(key)

    def lift(self, places: Iterable[Key]) -> None:
        """Whatever was wrong with these is over."""
        for place in [*places]:
            if place in self.troubled:
                old = self.of(place)
                self.put(place, old._replace(blocked_until=0.0, cause=None, words="", attempts=0, faults=0))

    def forget(self, account_ids: Collection[str]) -> None:
        """Drop what is known of these accounts."""
        self._drop([key for key in (*self.vitals, *self.allowances) if key[0] in account_ids])

    def _judge(self, key: Key) -> None:
        vitals, allowance = self.of(key), self.allowances.get(key)
        is_used_up = allowance is not None and allowance.is_used_up
        is_troubled = vitals.cause or vitals.tripped or is_used_up
        (self.troubled.add if is_troubled else self.troubled.discard)(key)

    def _sweep(self) -> None:
        """Forget who is too many: seldom, so that it costs next to nothing for each record."""
        strangers: defaultdict[str, list[Key]] = defaultdict(list)
        known = {account_id: self._known(account_id) for account_id, _ in self.vitals}
        for key in self.vitals:
            if key[1] not in known[key[0]] and key[1] not in NO_MODELS:
                strangers[key[0]].append(key)
        self._drop([key for keys in strangers.values() for key in keys[:-MOST_STRANGERS]])
        self._sweep_beyond = len(self.vitals) + MOST_STRANGERS

    def _drop(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.vitals.pop(key, None)
            self.allowances.pop(key, None)
            self.troubled.discard(key)
