"""Text for lists: one line, cut between words."""

from __future__ import annotations

LONGEST_WORD = 20
"""Characters at the end that may be given up so as not to cut a word; a longer one is cut."""


def in_short(text: str, length: int) -> str:
    """The beginning of the text on one line, at most `length` characters; `…` where something is missing."""
    words = " ".join(text[: 4 * length].split())
    if len(words) <= length:
        return words
    whole = words[:length].rpartition(" ")[0]
    kept = whole if len(whole) >= length - LONGEST_WORD else words[: length - 1]
    return kept.rstrip() + "\N{HORIZONTAL ELLIPSIS}"
