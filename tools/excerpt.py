"""A file as it is now, with line numbers: all of it, or the part that a call was about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tools.replacement import nearest_line

WHOLE_LINES = 200
WHOLE_BYTES = 8 * 1024
"""A file of no more than this is shown whole; of a larger one so much."""
_LEAD = 10
_PART_LINES = 60
_LINE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Numbered lines, `7: text`."""

    text: str
    whole: bool
    """Whether nothing was left out."""


def excerpt(content: bytes, wanted: str) -> Excerpt:
    """The whole file if it is short, else the lines nearest to `wanted`, the text that was looked for."""
    lines = [line.rstrip("\r") for line in content.decode("utf-8", "replace").split("\n")]
    if not lines[-1]:
        lines.pop()
    if len(lines) <= WHOLE_LINES and len(content) <= WHOLE_BYTES:
        return Excerpt(_numbered(lines, 0) or "(the file is empty)", whole=True)
    first = max(0, _place(lines, wanted) - _LEAD)
    shown: list[str] = []
    room = WHOLE_BYTES
    for line in lines[first : first + _PART_LINES]:
        shown.append(line[:_LINE_CHARACTERS])
        room -= len(shown[-1].encode())
        if room < 0:
            break
    where = f"(lines {first + 1} to {first + len(shown)} of {len(lines)})"
    return Excerpt(f"{_numbered(shown, first)}\n{where}", whole=False)


def _place(lines: Sequence[str], wanted: str) -> int:
    """The line that the wanted text is about: where it begins to differ, or what its first line is like."""
    asked = wanted.splitlines()
    same = 0
    while same < min(len(lines), len(asked)) and lines[same] == asked[same]:
        same += 1
    if same:
        return same
    first = next((line for line in asked if line.strip()), None)
    found = None if first is None else nearest_line(lines, first)
    return found or 0


def _numbered(lines: Sequence[str], before: int) -> str:
    return "\n".join(f"{number}: {line}" for number, line in enumerate(lines, before + 1))
