"""Path patterns, as in .gitignore and CODEOWNERS, matched in time that grows with the path alone.

    **/  any number of folders      *  anything within one name      ?  one character of a name

A pattern without `/`, but for one at its end, fits at any depth; others start at the project folder. One
that names a folder covers all that is in it; `folder/*` stops at what is directly in it. Everything else
stands for itself, brackets too. Names are compared as the most forgiving file system would: whatever their
case and Unicode form, and without characters that are not seen.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache, reduce
from operator import or_

from tools.ignorable import without_ignorable

MAX_LENGTH = 256
"""Characters of a pattern."""

_FOLDERS, _NAME_PART, _CHARACTER = "**/", "*", "?"


class PathPattern:
    """A pattern, ready to be matched. Make it with `path_pattern`."""

    # The pattern is a row of tokens, and bit i of a number says that the first i of them may have matched
    # what was read so far (Baeza-Yates and Gonnet, "A new approach to text searching", 1992). So each
    # character of a path costs a few operations on numbers of MAX_LENGTH bits, and no input makes it worse.

    def __init__(self, names: list[str]) -> None:
        tokens = _tokens(names)
        self._covers = names[-1] != _NAME_PART
        """Whether a folder that fits brings along what is in it."""
        self._literal = {c: _bits(tokens, c) for c in set(tokens) - {_FOLDERS, _NAME_PART, _CHARACTER}}
        self._folders = _bits(tokens, _FOLDERS)
        self._name_part = _bits(tokens, _NAME_PART)
        self._character = _bits(tokens, _CHARACTER)
        self._end = 1 << len(tokens)
        self._start = self._skipping(1)

    def matches(self, path: str) -> bool:
        """Whether the pattern fits the path, which is relative to the project and normalised."""
        reached = self._start
        for character in folded(path):
            literal = self._literal.get(character, 0)
            if character == "/":
                if self._covers and reached & self._end:
                    return True
                used, kept = reached & (literal | self._folders), reached & self._folders
            else:
                used = reached & (literal | self._character)
                kept = reached & (self._folders | self._name_part)
            reached = self._skipping(used << 1) | kept | (kept & self._name_part) << 1
        return bool(reached & self._end)

    def _skipping(self, reached: int) -> int:
        """Also what is reached when `**/` and a `*` behind it stand for nothing at all."""
        reached |= (reached & self._folders) << 1
        return reached | (reached & self._name_part) << 1


@lru_cache(maxsize=1024)
def path_pattern(text: str) -> PathPattern:
    """The pattern written so. Raises ValueError, naming it, when no file of a project could fit it."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"the pattern {text[:40]!r}... is longer than {MAX_LENGTH} characters")
    if not text.strip():
        raise ValueError(f"the pattern {text!r} is empty; write ** for every file")
    if text.startswith(("/", "~")):
        raise ValueError(
            f"the pattern {text!r} is absolute; patterns start at the project folder, as in src/** or ./name"
        )
    if "\\" in text or any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError(f"the pattern {text!r} has a backslash or control character, which no path has")
    names = [_simplified(name) for name in folded(text).split("/") if name not in ("", ".")]
    if ".." in names:
        raise ValueError(f"the pattern {text!r} has a `..`; write it from the project folder down")
    if not names:
        raise ValueError(f"the pattern {text!r} is the project folder itself; write ** for every file")
    return PathPattern(_anchored(names, text))


def folded(path: str) -> str:
    """The path as it is compared: canonical caseless matching (Unicode Standard, D145), but composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", without_ignorable(path)).casefold())


def _simplified(name: str) -> str:
    return name if name == "**" else re.sub(r"\*+", "*", name)


def _anchored(names: list[str], text: str) -> list[str]:
    """The names that a path has to go through from the project folder down; `**` never twice, nor last."""
    if "/" not in text.rstrip("/"):
        names = ["**", *names]
    if text.endswith("/"):
        names = [*names, "**"]
    if names[-1] == "**":
        names = [*names, "*"]
    return [name for index, name in enumerate(names) if name != "**" or names[index - 1 : index] != ["**"]]


def _tokens(names: list[str]) -> list[str]:
    tokens: list[str] = []
    for name in names:
        tokens += [_FOLDERS] if name == "**" else [*name, "/"]
    return tokens[:-1]  # the `/` behind the last name


def _bits(tokens: list[str], token: str) -> int:
    return reduce(or_, (1 << index for index, each in enumerate(tokens) if each == token), 0)
