"""Ids that people read and type: the beginning is enough where it is that of one thing only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent_service.cli.fault import WRONG_USAGE, Fault

SHORT_ID = 8
"""Characters of an id that are shown to a person, where they are enough to tell it from the others."""
_FEWEST, _WHOLE = 4, 36
"""Characters that are taken for the beginning of an id; a UUID's."""
_NAMED = 10
"""How many are named where several begin so."""


def short_id(name: str, names: Sequence[str]) -> str:
    """The beginning of the id if it is that of no other, else the id."""
    short = name[:SHORT_ID]
    return short if sum(each.startswith(short) for each in names) == 1 else name


def full_id(beginning: str, names: Iterable[str], several: str) -> str:
    """The one name that begins so, else what was given: whoever takes it knows what to say of it.

    Raises Fault with the message `several` when more than one does. Names are looked through only if need be.
    """
    if not _FEWEST <= len(beginning) < _WHOLE:
        return beginning
    found = [name for name in names if name.startswith(beginning)]
    if beginning in found or not found:
        return beginning
    if len(found) > 1:
        raise Fault("\n  ".join([f"{several}:", *found[:_NAMED]]), WRONG_USAGE)
    return found[0]
