"""What is worth remembering of an account over a restart: why it rests and until when, what it has left,
and how reliable its models were.

Times are seconds since 1970, so that they mean the same to the next process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from routing.numbers import number_up_to
from routing.vitals import Cause

_CAUSES = ("faults", "rate limit", "refused", "money", "disabled")
_MOST = 2000
"""Models of one account, at most; what is known of the whole account comes first."""
_LATEST = 1e15
"""Seconds, and what else is counted of an account."""
_LONGEST = 2000
"""Characters of a name or of what a provider said."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Why a model, or with an empty name the whole account, is left alone."""

    model: str
    cause: Cause
    words: str
    until: float | None
    """None = until somebody does something about it."""
    faults: int = 0
    """Requests in a row that gave up on it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one account stands."""

    rests: tuple[Rest, ...] = ()
    left: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of each model, the share of its allowance that is left, and when that is whole again."""
    today: tuple[int, int, int] = (0, 0, 0)
    """The day since 1970 (UTC), and the requests and tokens of it so far."""
    rates: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of each model that failed lately, its success rate and as of when."""
    doubted: bool = False
    """Whether its key was not seen to be good yet."""

    def as_data(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "rests": [
                [each.model, each.cause, each.words, each.until, each.faults] for each in self.rests[:_MOST]
            ],
            "left": {model: [*told] for model, told in sorted(self.left.items())[:_MOST]},
            "today": [*self.today],
            "rates": {model: [*told] for model, told in sorted(self.rates.items())[:_MOST]},
            "doubted": self.doubted,
        }

    @classmethod
    def from_data(cls, data: Any) -> Standing:
        """From plain data, whoever wrote it. Raises ValueError when it is not what `as_data` makes."""
        try:
            rests = tuple(_rest(*each) for each in data["rests"])
            left = {
                _text(name): (number_up_to(1, part), number_up_to(_LATEST, until))
                for name, (part, until) in data["left"].items()
            }
            day, requests, tokens = (int(number_up_to(_LATEST, each)) for each in data["today"])
            rates = {  # earlier versions kept none
                _text(name): (number_up_to(1, rate), number_up_to(_LATEST, seen_at))
                for name, (rate, seen_at) in data.get("rates", {}).items()
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it lacks what it needs ({type(error).__name__}: {error})") from None
        if max(len(rests), len(left), len(rates)) > _MOST:
            raise ValueError(f"more than {_MOST} models are no account's")
        return cls(rests, left, (day, requests, tokens), rates, data.get("doubted") is True)


def _rest(model: Any, cause: Any, words: Any, until: Any, faults: Any) -> Rest:
    if cause not in _CAUSES:
        raise ValueError(f"{str(cause)[:40]!r} is none of {', '.join(_CAUSES)}")
    ends = None if until is None else number_up_to(_LATEST, until)
    return Rest(_text(model), cause, _text(words), ends, int(number_up_to(1e6, faults)))


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError(f"a text of at most {_LONGEST} characters is needed")
    return value
