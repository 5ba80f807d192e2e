"""What a folder holds, nearest first, within bounds and never through a link."""

from __future__ import annotations

import os
import unicodedata
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from tools.descriptors import FolderOpener
from tools.protected import Protection, protection

NOT_LISTED = frozenset(
    {
        ".git", ".hg", ".svn", "node_modules", "bower_components", ".venv", "venv", "__pycache__", ".tox",
        ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".gradle", ".terraform",
    }
)  # fmt: skip
"""Folders made by tools, shown as one line: what is in them is not the project's own work."""

_LINE_BREAKING = ("Cc", "Zl", "Zp")


class Kind(Enum):
    """What a name in a folder is; the value is how a listing marks it."""

    FILE = ""
    FOLDER = "/"
    CLOSED_FOLDER = "/ (not listed)"
    LINK = " (link, not followed)"
    OTHER = " (not a regular file)"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name below the root."""

    parts: tuple[str, ...]
    kind: Kind

    def __str__(self) -> str:
        """The path as a model may repeat it, and a mark when it is not a plain file."""
        return _printable("/".join(self.parts)) + self.kind.value


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries below a folder, each folder followed by its content."""

    entries: tuple[Entry, ...]
    truncated: bool
    """Whether there is more than the limits let through."""


def scan(
    opener: FolderOpener,
    root: int,
    start: Sequence[str],
    *,
    entries: int,
    depth: int,
) -> Listing:
    """The tree below `start`, breadth first, so that a cut leaves out what is deepest.

    Raises OSError when `start` cannot be opened; a folder further down that cannot is not descended
    into.
    """
    found: list[Entry] = []
    waiting: deque[tuple[str, ...]] = deque([tuple(start)])
    truncated = False
    while waiting and not truncated:
        parts = waiting.popleft()
        room = entries - len(found)
        try:
            inner = _read_folder(opener, root, parts, room + 1)
        except OSError:
            if parts == tuple(start):
                raise
            continue
        truncated = len(inner) > room
        found += inner[:room]
        folders = [entry.parts for entry in inner[:room] if entry.kind is Kind.FOLDER]
        if len(parts) - len(start) < depth:
            waiting.extend(folders)
        else:
            truncated = truncated or bool(folders)
    return Listing(tuple(sorted(found, key=lambda entry: entry.parts)), truncated)


def _read_folder(opener: FolderOpener, root: int, parts: tuple[str, ...], most: int) -> list[Entry]:
    folder = opener(root, parts)
    try:
        with os.scandir(folder) as names:
            inner = [Entry((*parts, item.name), _kind(item)) for item in islice(names, most)]
    finally:
        os.close(folder)
    inner.sort(key=lambda entry: entry.parts)
    return [_closed(entry) for entry in inner]


def _kind(item: os.DirEntry[str]) -> Kind:
    with suppress(OSError):
        if item.is_symlink():
            return Kind.LINK
        if item.is_dir(follow_symlinks=False):
            return Kind.FOLDER
        if item.is_file(follow_symlinks=False):
            return Kind.FILE
    return Kind.OTHER


def _closed(entry: Entry) -> Entry:
    if entry.kind is not Kind.FOLDER:
        return entry
    sealed = protection(entry.parts[-1:]) in (Protection.REPOSITORY, Protection.SECRET)
    if sealed or (entry.parts[-1] in NOT_LISTED):
        return Entry(entry.parts, Kind.CLOSED_FOLDER)
    return entry


def _printable(text: str) -> str:
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in _LINE_BREAKING else character
        for character in clean
    )
