"""Changes between two contents of a file, as a unified diff or as two numbers.

Lines are aligned by the greedy algorithm of E. Myers, "An O(ND) difference algorithm and its
variations" (Algorithmica 1, 1986), within a fixed amount of work. Beyond that the changed middle
is shown as replaced as a whole: correct, only longer.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

CONTEXT = 3
"""Unchanged lines around each change."""
_MAX_DIFFERENCES = 2_000
_MAX_STEPS = 3_000_000
_SNIFFED = 8192


class _Region(NamedTuple):
    """Lines `[old_start, old_end)` became lines `[new_start, new_end)`."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def unified_diff(path: str, before: bytes | None, after: bytes | None) -> str:
    """The change as `patch` and `git apply` read it; None = there is no file. Empty when nothing changed.

    Bytes that are not UTF-8 are replaced for display; of binary content only the fact is told.
    """
    if before == after:
        return ""
    old_name = "/dev/null" if before is None else f"a/{path}"
    new_name = "/dev/null" if after is None else f"b/{path}"
    if _is_binary(before) or _is_binary(after):
        return f"Binary files {old_name} and {new_name} differ\n"
    old, new = _lines(before), _lines(after)
    # A tab ends a name with blanks in it, else `patch` would cut it at the first one.
    end = "\t\n" if " " in path else "\n"
    pieces = [f"--- {old_name}{end}".encode(), f"+++ {new_name}{end}".encode()]
    for hunk in _hunks(_regions(old, new)):
        pieces += _format(hunk, old, new)
    return b"".join(pieces).decode("utf-8", "replace")


def count_changes(before: bytes | None, after: bytes | None) -> tuple[int, int]:
    """Lines added and lines removed; (0, 0) for binary content."""
    if before == after or _is_binary(before) or _is_binary(after):
        return 0, 0
    regions = _regions(_lines(before), _lines(after))
    return (
        sum(region.new_end - region.new_start for region in regions),
        sum(region.old_end - region.old_start for region in regions),
    )


def _is_binary(content: bytes | None) -> bool:
    return content is not None and b"\0" in content[:_SNIFFED]


def _lines(content: bytes | None) -> list[bytes]:
    if not content:
        return []
    lines = [line + b"\n" for line in content.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _regions(old: Sequence[bytes], new: Sequence[bytes]) -> list[_Region]:
    """Where the two differ, in order."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    numbers: dict[bytes, int] = {}
    a = [numbers.setdefault(line, len(numbers)) for line in old[start : len(old) - end]]
    b = [numbers.setdefault(line, len(numbers)) for line in new[start : len(new) - end]]
    return [
        _Region(r.old_start + start, r.old_end + start, r.new_start + start, r.new_end + start)
        for r in _align(a, b)
    ]


def _align(a: Sequence[int], b: Sequence[int]) -> list[_Region]:
    trace = _trace(a, b) if a and b else None
    if trace is None:
        return [_Region(0, len(a), 0, len(b))] if a or b else []
    deleted, inserted = _edits(trace, len(a), len(b))
    regions = []
    x = y = 0
    while x < len(a) or y < len(b):
        x0, y0 = x, y
        while x in deleted:
            x += 1
        while y in inserted:
            y += 1
        if (x, y) != (x0, y0):
            regions.append(_Region(x0, x, y0, y))
        else:
            x, y = x + 1, y + 1
    return regions


def _trace(a: Sequence[int], b: Sequence[int]) -> list[array[int]] | None:
    """For each number of edits d, how far in `a` the diagonals -d, -d+2, ..., d get; None if too much."""
    trace: list[array[int]] = []
    reach = array("i", [0])
    steps = 0
    for d in range(min(len(a) + len(b), _MAX_DIFFERENCES) + 1):
        reach = array("i", [_start(reach, d, i) for i in range(d + 1)]) if d else reach
        for i in range(d + 1):
            x = first = reach[i]
            y = x - (2 * i - d)
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
            reach[i] = x
            steps += x - first + 1
            if x >= len(a) and y >= len(b):
                return [*trace, reach]
        if steps > _MAX_STEPS:
            return None
        trace.append(reach)
    return None


def _start(previous: array[int], d: int, i: int) -> int:
    """Where diagonal number `i` of `d` starts: one insertion or one deletion on from its neighbours."""
    return previous[i] if _by_insertion(previous, d, i) else previous[i - 1] + 1


def _by_insertion(previous: array[int], d: int, i: int) -> bool:
    return i == 0 or (i != d and previous[i - 1] < previous[i])


def _edits(trace: Sequence[array[int]], x: int, y: int) -> tuple[set[int], set[int]]:
    """Walk back from the end: the lines of `a` to delete and the lines of `b` to insert."""
    deleted: set[int] = set()
    inserted: set[int] = set()
    for d in range(len(trace) - 1, 0, -1):
        previous = trace[d - 1]
        i = (x - y + d) // 2
        if _by_insertion(previous, d, i):
            x = previous[i]
            y = x - (2 * i - (d - 1))
            inserted.add(y)
        else:
            x = previous[i - 1]
            y = x - (2 * (i - 1) - (d - 1))
            deleted.add(x)
    return deleted, inserted


def _hunks(regions: Sequence[_Region]) -> Iterator[list[_Region]]:
    """Regions that are so near to each other that their context touches."""
    hunk: list[_Region] = []
    for region in regions:
        if hunk and region.old_start - hunk[-1].old_end > 2 * CONTEXT:
            yield hunk
            hunk = []
        hunk.append(region)
    if hunk:
        yield hunk


def _format(hunk: Sequence[_Region], old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[bytes]:
    lead = min(CONTEXT, hunk[0].old_start)
    tail = min(CONTEXT, len(old) - hunk[-1].old_end)
    ranges = (
        _range(hunk[0].old_start - lead, hunk[-1].old_end + tail),
        _range(hunk[0].new_start - lead, hunk[-1].new_end + tail),
    )
    yield "@@ -{} +{} @@\n".format(*ranges).encode()
    at = hunk[0].old_start - lead
    for region in hunk:
        yield from _marked(b" ", old[at : region.old_start])
        yield from _marked(b"-", old[region.old_start : region.old_end])
        yield from _marked(b"+", new[region.new_start : region.new_end])
        at = region.old_end
    yield from _marked(b" ", old[at : at + tail])


def _range(start: int, end: int) -> str:
    """`line,count` as unified diffs write it: counted from 1, an empty range named by the line before it."""
    count = end - start
    if count == 1:
        return str(start + 1)
    return f"{start + 1 if count else start},{count}"


def _marked(mark: bytes, lines: Sequence[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield mark + line
        if not line.endswith(b"\n"):
            yield b"\n\\ No newline at end of file\n"
