"""Replacing a passage of a file by another, on its bytes, so that the rest stays exactly as it was."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice

from tools.errors import PassageNotFound, ToolError

_FUZZY_LINES = 10_000
_FUZZY_CHARACTERS = 200
_SHOWN_LINES = 12
_SHOWN_PLACES = 5


def replace_passage(content: bytes, old: bytes, new: bytes, *, everywhere: bool = False) -> tuple[bytes, int]:
    """The content with `old` replaced by `new`, and how many times.

    Line endings are the file's: in a file of CRLF lines both passages are read as CRLF. Raises
    PassageNotFound when `old` is not there (naming what comes nearest), or is there more than once and
    `everywhere` is not set; ToolError when there is nothing to replace.
    """
    if not old:
        raise ToolError(
            "old_text is empty; give the exact text to replace, or use write_file for a whole file"
        )
    if old == new:
        raise ToolError("old_text and new_text are the same, so there is nothing to change")
    for end in _line_endings(content):
        wanted = old if end is None else _with_endings(old, end)
        count = content.count(wanted)
        if count > 1 and not everywhere:
            raise PassageNotFound(_ambiguous(content, wanted, count))
        if count:
            replacement = new if end is None else _with_endings(new, end)
            return content.replace(wanted, replacement), count
    raise PassageNotFound(_not_found(content, old))


def _line_endings(content: bytes) -> tuple[bytes | None, ...]:
    """What to try, in order; None = as given."""
    crlf = content.count(b"\r\n")
    if crlf and crlf == content.count(b"\n"):
        return (b"\r\n",)
    return (None, b"\n", b"\r\n") if crlf else (None, b"\n")


def _with_endings(text: bytes, end: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", end)


def _ambiguous(content: bytes, wanted: bytes, count: int) -> str:
    places = []
    at = -1
    for _ in range(min(count, _SHOWN_PLACES)):
        at = content.index(wanted, at + 1)
        places.append(str(content.count(b"\n", 0, at) + 1))
    more = ", ..." if count > _SHOWN_PLACES else ""
    return (
        f"old_text is in the file {count} times (lines {', '.join(places)}{more}). "
        "Add the lines around it until it is unique, or set replace_all to true."
    )


def _not_found(content: bytes, old: bytes) -> str:
    lines = content.decode("utf-8", "replace").split("\n")
    asked = [line for line in old.decode("utf-8", "replace").splitlines() if line.strip()]
    start = nearest_line(lines, asked[0]) if asked else None
    if start is None:
        return "old_text is not in the file, nor anything like it. Read the file and copy the text exactly."
    shown = lines[start : start + min(len(asked), _SHOWN_LINES)]
    nearest = "\n".join(f"line {start + i + 1}: {line.rstrip(chr(13))[:500]}" for i, line in enumerate(shown))
    return f"old_text is not in the file exactly as given. Nearest is:\n{nearest}\nCopy it exactly."


def nearest_line(lines: Sequence[str], wanted: str) -> int | None:
    """Where the line most like `wanted` is, counted from 0; None if none is like it.

    Blanks around it do not count, nor what is past its first 200 characters or the file's first 10,000
    different lines.
    """
    places: dict[str, int] = {}
    for number, line in enumerate(lines):
        places.setdefault(line.strip()[:_FUZZY_CHARACTERS], number)
    wanted = wanted.strip()[:_FUZZY_CHARACTERS]
    if wanted in places:
        return places[wanted]
    alike = difflib.get_close_matches(wanted, islice(places, _FUZZY_LINES), n=1)
    return places[alike[0]] if alike else None
