"""Lines such as `GROQ_API_KEY=...` of `.env` files, and `GROQ_API_KEY: ...` of `.lenv` files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from agent_service.keys.records import Misshapen
from agent_service.keys.variables import usual_provider

ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
LENV_LINE = re.compile(r"([A-Z][A-Z0-9_]*):(\s+.*)?")
_COMMENT = re.compile(r"\s#.*")
_AFTER_QUOTE = re.compile(r"\s*(?:\s#.*)?")

Assignment = tuple[int, str, str]
"""Line number, name, value."""


def assignments(lines: Iterable[str], form: re.Pattern[str]) -> Iterator[Assignment]:
    """Each assignment, in the file's order.

    Raises Misshapen at a line that is none: what it was to say, an address perhaps, would be missing from the
    accounts of the others.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(("#", "//")):
            continue
        match = form.fullmatch(line.strip())
        if match is None:
            raise Misshapen(number, "it is no assignment such as NAME=value")
        yield number, match[1], _value(match[2] or "", number)


def last_of_each(found: Iterable[Assignment]) -> tuple[list[Assignment], list[tuple[str, str]]]:
    """The last assignment of each name, as a shell would have it, and (where, why) of others of providers."""
    last: dict[str, Assignment] = {}
    replaced = []
    for number, name, value in found:
        if (earlier := last.pop(name, None)) and usual_provider(name):
            replaced.append(
                (f"line {earlier[0]}", f"{name} appears again on line {number}; the last one counts")
            )
        last[name] = (number, name, value)
    return list(last.values()), replaced


def _value(written: str, line: int) -> str:
    """Without its quotes, or the comment after it. Raises Misshapen."""
    text = written.strip()
    quote = text[:1]
    if not quote or quote not in "\"'`":
        return _COMMENT.sub("", written, count=1).strip()
    end = text.find(quote, 1)
    if end < 0:
        raise Misshapen(line, "a quote is opened and not closed")
    if not _AFTER_QUOTE.fullmatch(text, end + 1):
        raise Misshapen(line, "something follows the closing quote")
    return text[1:end]
