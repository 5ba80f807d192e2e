"""Numbers that were stored, or come from elsewhere, and may be anything."""

from __future__ import annotations

from typing import Any


def number_up_to(most: float, value: Any) -> float:
    """The value as a number from 0 to that. Raises ValueError."""
    if type(value) not in (int, float) or not 0 <= value <= most:  # NaN is not within any bounds
        raise ValueError(f"a number from 0 to {most:g} is needed")
    return float(value)
