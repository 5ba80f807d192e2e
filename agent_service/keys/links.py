"""Records in indented Links notation: a name on a line of its own, then its fields, indented.

A record has only the fields that stand directly below its name, one as far indented as the other. Anything
else may belong to somebody else, whose address would get this record's key, so the record is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from agent_service.keys.records import TAKEN, Unreadable, canonical, shown

_FIELD = re.compile(r"([A-Za-z][A-Za-z_-]*)\s*(?:[:=]\s*|\s)(.*)")
_HEADING = "providers"
"""Above records, and none itself."""

_Row = tuple[int, int, str]
"""Line number, indentation, text."""


def linked_records(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Each record with a word for where it is; Unreadable in the place of one that cannot be told apart."""
    name: _Row | None = None
    below: list[_Row] = []
    level: int | None = 0
    for row in _rows(lines):
        number, depth, text = row
        if level is None:  # the first line below `providers` shows how far its records are indented
            level = depth
        if depth > level and name is not None:
            below.append(row)
            continue
        if name is not None:
            yield _record(name, below)
        name, below = None, []
        if depth == 0 and _plain_name(text) == _HEADING:
            level = None
            continue
        if depth == 0:
            level = 0
        if depth == level and (depth == 0 or _is_name(text)):
            name = row
        else:
            yield f"line {number}", Unreadable("it stands below no provider's name")
    if name is not None:
        yield _record(name, below)


def _rows(lines: Iterable[str]) -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith(("#", "//")):
            wide = line.expandtabs()
            yield number, len(wide) - len(wide.lstrip()), text


def _record(name: _Row, below: list[_Row]) -> tuple[str, Any]:
    plain = _plain_name(name[2])
    where = shown(plain, f"line {name[0]}")
    try:
        return where, {**_fields(below), "name": plain}
    except Unreadable as error:
        return where, error


def _fields(rows: list[_Row]) -> dict[str, str]:
    """Raises Unreadable."""
    fields: dict[str, str] = {}
    seen = set()
    for number, depth, text in rows:
        if depth != rows[0][1]:
            raise Unreadable(
                f"line {number} is indented otherwise than its fields, so it may not be one of them"
            )
        match = _FIELD.fullmatch(text)
        field = canonical(match[1]) if match else ""
        if _is_name(text) and field not in TAKEN:
            raise Unreadable(f"line {number} may be the name of another record; write that one not indented")
        if match is None:
            fields[text] = ""  # named among those left out
            continue
        if field in seen:
            raise Unreadable(f"line {number} says again what another field says")
        seen.add(field)
        fields[match[1]] = _unquoted(match[2].strip())
    return fields


def _is_name(text: str) -> bool:
    """Whether nothing follows the first word."""
    return len(text.split()) == 1 and not re.search(r"[:=].", text)


def _plain_name(text: str) -> str:
    return _unquoted(text.rstrip(":").strip("()"))


def _unquoted(text: str) -> str:
    for quote in "\"'`":
        if len(text) >= 2 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text
