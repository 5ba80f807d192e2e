"""Spans of time as providers write them: `6m0s`, `1m30.5s`, `340 ms`, `2 minutes`."""

from __future__ import annotations

import re

LONGEST = 31 * 86_400.0
"""Seconds. No allowance takes longer to be whole again: whoever names more is not taken at his word."""
_UNITS = {"ms": 1e-3, "milli": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
"""Seconds, by what a unit begins with; looked through from the left."""
_PART = (
    r"(\d{1,15}(?:\.\d{1,9})?) ?"
    r"(ms|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?![A-Za-z])"
)
_ONE, _ALL = (re.compile(pattern, re.IGNORECASE) for pattern in (_PART, rf"(?:{_PART} ?)+"))


def seconds_at(text: str, start: int = 0) -> float | None:
    """The seconds of the span that stands there; None if there is none."""
    span = _ALL.match(text, start)
    return _sum(span[0]) if span else None


def seconds_in(text: str) -> float | None:
    """The seconds of a text that is a span and nothing else; None if it is none."""
    return _sum(text) if _ALL.fullmatch(text) else None


def _sum(span: str) -> float:
    return sum(float(amount) * _unit(name.lower()) for amount, name in _ONE.findall(span))


def _unit(name: str) -> float:
    return next(seconds for prefix, seconds in _UNITS.items() if name.startswith(prefix))
