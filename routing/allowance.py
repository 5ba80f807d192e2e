"""What providers tell in the headers of their answers about the rest of our allowance. Pure.

Three families of names: `x-ratelimit-remaining-tokens` (OpenAI, Groq, Mistral, Together, Cerebras with the
span behind it), `anthropic-ratelimit-tokens-remaining`, and `x-ratelimit-remaining` or `ratelimit-remaining`
(OpenRouter; IETF draft-ietf-httpapi-ratelimit-headers).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime

from routing.spans import LONGEST, seconds_in

Heard = Callable[[str, float, float], None]
"""Told of a model the share of its allowance that is left (0..1), and the seconds until it is whole again."""

_NAME = re.compile(
    rb"(?:x-)?ratelimit-(limit|remaining|reset)(?:-(.{1,40}))?"
    rb"|anthropic-ratelimit-(.{1,40})-(limit|remaining|reset)"
)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?")


def allowance_left(headers: Iterable[tuple[bytes, bytes]], now: float) -> tuple[float, float] | None:
    """Of the scarcest thing told of: the share that is left (0..1), and the seconds until it is whole again.

    `now` is in seconds since 1970. None = nothing is told that can be understood.
    """
    told: dict[bytes, dict[bytes, str]] = {}
    for name, value in headers:
        name = name.lower()
        if b"ratelimit-" in name and (match := _NAME.fullmatch(name)):
            what, kind = match[2] or match[3] or b"", match[1] or match[4]
            told.setdefault(what, {})[kind] = value.decode("ascii", "replace").strip()
    shares = [share for each in told.values() if (share := _share(each, now))]
    # Of several that are used up, it takes the one that stays so the longest.
    return min(shares, key=lambda share: (share[0], -share[1]), default=None)


def _share(told: dict[bytes, str], now: float) -> tuple[float, float] | None:
    remaining, limit = (_NUMBER.fullmatch(told.get(name, "")) for name in (b"remaining", b"limit"))
    seconds = _seconds(told.get(b"reset", ""), now)
    if not remaining or not limit or seconds is None or float(limit[0]) <= 0:
        return None
    return min(1.0, float(remaining[0]) / float(limit[0])), seconds


def _seconds(reset: str, now: float) -> float | None:
    """From `6m0s`, `120ms`, `12.5`, a time in seconds or milliseconds since 1970, or an ISO date."""
    if _NUMBER.fullmatch(reset):
        value = float(reset)
        seconds = value / 1000 - now if value > 1e12 else value - now if value > 1e9 else value
    elif (span := seconds_in(reset)) is not None:
        seconds = span
    else:
        try:
            seconds = datetime.fromisoformat(reset).timestamp() - now
        except (ValueError, OverflowError, OSError):
            return None
    # What is further away is no reset that we understood.
    return seconds if 0 < seconds <= LONGEST else None
