"""Long lists of content addresses, stored so that two versions share all but a few of their parts.

A list is cut into chunks; a chunk's addresses, joined, are a *node* with an address of its own, and the list
of nodes is cut again, until one short list is left. A chunk ends where an address itself says so (about one
in FANOUT), hence the same run of elements gives the same nodes wherever it stands: appending, editing and
removing each make a few new nodes, log(n) of them, and every version can be read without any other one.
These are the prolly trees of noms and Dolt (https://www.dolthub.com/docs/architecture/storage-engine/prolly-tree),
read here only as a whole.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import NamedTuple

ADDRESS_BYTES = 16
FANOUT = 8
"""Mean length of a chunk. A version keeps one unfinished chunk per level, a load asks once per level."""
LONGEST_CHUNK = 32
"""A chunk ends here in any case: a list of equal elements has no other ends, or only ends."""
NODE = "node"


def address(kind: str, data: bytes) -> bytes:
    """The name of a content: BLAKE2b with 128 bits, so a collision is not to be expected, even a wanted one
    costs 2^64 trials and harms only the thread it is made in."""
    return hashlib.blake2b(kind.encode() + b"\0" + data, digest_size=ADDRESS_BYTES).digest()


class Level(NamedTuple):
    """A list cut into chunks: where they end, and the addresses of the nodes that they are."""

    ends: list[int]
    nodes: list[bytes]


@dataclass(frozen=True, slots=True)
class Folded:
    """One version of a list: its elements' addresses and the nodes above them."""

    ids: list[bytes]
    levels: list[Level]
    """That of `ids`, that of its nodes, and so on."""
    root: bytes
    """From this and the stored nodes, `ids` can be read back."""
    new_nodes: dict[bytes, bytes]
    """The nodes that were made for it: all that the earlier version does not have, and maybe others."""


def fold(ids: list[bytes], earlier: Folded | None = None, kept: int = 0) -> Folded:
    """Fold a list whose first `kept` elements are those of `earlier`, too."""
    levels: list[Level] = []
    tails: list[bytes] = []
    new_nodes: dict[bytes, bytes] = {}
    rest = ids
    for before in chain(earlier.levels if earlier else (), repeat(Level([], []))):
        known = bisect_right(before.ends, kept)
        level = Level(before.ends[:known], before.nodes[:known])
        _close(rest, level, new_nodes)
        levels.append(level)
        tail = rest[level.ends[-1] if level.ends else 0 :]
        tails.append(bytes([len(tail)]) + b"".join(tail))
        if not level.ends:
            break
        rest, kept = level.nodes, known
    return Folded(ids, levels, b"".join(reversed(tails)), new_nodes)


def _close(ids: list[bytes], level: Level, new_nodes: dict[bytes, bytes]) -> None:
    """Cut what follows the last chunk, as far as chunks are finished."""
    start = level.ends[-1] if level.ends else 0
    for number, each in enumerate(ids[start:], start + 1):
        if each[0] % FANOUT == 0 or number - start == LONGEST_CHUNK:
            children = b"".join(ids[start:number])
            node = address(NODE, children)
            new_nodes[node] = children
            level.nodes.append(node)
            level.ends.append(number)
            start = number


def unfold(root: bytes) -> list[list[bytes]]:
    """The levels of a version, uppermost first: replace a level by its nodes' children, then add the next."""
    levels: list[list[bytes]] = []
    at = 0
    while at < len(root):
        end = at + 1 + root[at] * ADDRESS_BYTES
        levels.append(split(root[at + 1 : end]))
        at = end
    return levels


def split(joined: bytes) -> list[bytes]:
    """The addresses of which a node consists."""
    return [joined[at : at + ADDRESS_BYTES] for at in range(0, len(joined), ADDRESS_BYTES)]


def reachable(roots: Sequence[bytes], nodes: dict[bytes, bytes]) -> set[bytes]:
    """All addresses that the versions with these roots need, nodes and elements."""
    found: set[bytes] = set()
    waiting = [each for root in roots for level in unfold(root) for each in level]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += split(nodes.get(each, b""))
    return found
