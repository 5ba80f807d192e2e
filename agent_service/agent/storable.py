"""What can be written into a checkpoint."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 64
"""Levels of a value; no arguments of a flat schema, and no signature, need more than three."""


def is_storable(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether msgpack takes a value of JSON: integers of at most 64 bits, not too deep."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(is_storable(each, depth - 1) for each in inner)
    return not isinstance(value, int) or -(2**63) <= value < 2**64
