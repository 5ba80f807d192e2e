"""The moments of a thread, numbered back from the present, and how people name them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from agent_service.cli.client import PAGE, ServiceClient
from agent_service.cli.fault import WRONG_USAGE, Fault
from agent_service.cli.ids import full_id

MAX_DIGITS = 4
"""Longer numbers are the beginning of an id."""

Moment = dict[str, Any]
"""A checkpoint of a history."""


def moments(client: ServiceClient, thread_id: str) -> Iterator[Moment]:
    """The moments to which the thread can go back, the present one first.

    Of checkpoints at which the same was said, and which only tell how far a run was, the oldest one.
    """
    newer: Moment | None = None
    for each in _checkpoints(client, thread_id):
        if newer is not None and (newer["rewound"] or _said(newer) != _said(each)):
            yield newer
        newer = each
    if newer is not None:
        yield newer


def find_moment(client: ServiceClient, thread_id: str, wanted: str) -> str:
    """The checkpoint that was meant: so many moments back, or the one whose id begins so.

    Raises Fault: there is none, or several are.
    """
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= MAX_DIGITS:
        return _back(client, thread_id, int(wanted))
    names = (str(each["checkpoint_id"]) for each in _checkpoints(client, thread_id))
    several = "Several checkpoints begin so; give more of the id, or its number in the history"
    return full_id(wanted, names, several)


def is_present(client: ServiceClient, thread_id: str, checkpoint_id: str) -> bool:
    """Whether that checkpoint belongs to the moment at which the thread is now."""
    present = next(moments(client, thread_id), None)
    if present is None:
        return False
    newer = takewhile(lambda each: each != present, _checkpoints(client, thread_id))
    return any(each["checkpoint_id"] == checkpoint_id for each in (present, *newer))


def _back(client: ServiceClient, thread_id: str, number: int) -> str:
    last = -1
    for last, moment in enumerate(moments(client, thread_id)):
        if last == number:
            return str(moment["checkpoint_id"])
    raise Fault(
        f"The history of this thread goes back {last} moments, not {number}; `threads history` shows them."
        if last > 0
        else "Nothing was said on this thread yet, so there is no moment to choose.",
        WRONG_USAGE,
    )


def _checkpoints(client: ServiceClient, thread_id: str) -> Iterator[Moment]:
    before: str | None = None
    while True:
        page = client.history(thread_id, PAGE, before)
        yield from page["checkpoints"]
        if not (before := page["next_cursor"]):
            return


def _said(moment: Moment) -> tuple[int, str, bool]:
    return moment["messages"], moment["summary"], moment["damaged"]
