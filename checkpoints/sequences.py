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


@dataclass(frozen=True, slots=True)
class Folded:
    """One version of a list: its elements' addresses and the nodes above them."""

    ids: list[bytes]
    ends: list[int]
    """Where the chunks of `ids` end."""
    leaves: list[bytes]
    """The addresses of those chunks."""
    inner: frozenset[bytes]
    """The addresses of the nodes above the leaves."""
    root: bytes
    """From this and the stored nodes, `ids` can be read back."""
    new_nodes: dict[bytes, bytes]
    """The nodes that the earlier version does not have."""


def fold(ids: list[bytes], earlier: Folded | None = None, kept: int = 0) -> Folded:
    """Fold a list whose first `kept` elements are those of `earlier`, too."""
    known = bisect_right(earlier.ends, kept) if earlier else 0
    ends = earlier.ends[:known] if earlier else []
    leaves = earlier.leaves[:known] if earlier else []
    nodes: dict[bytes, bytes] = {}
    ends += _close(ids, ends[-1] if ends else 0, leaves, nodes)
    levels = [ids[ends[-1] if ends else 0 :]]
    above: dict[bytes, bytes] = {}
    rest = leaves
    while True:
        upper: list[bytes] = []
        cuts = _close(rest, 0, upper, above)
        if not cuts:
            break
        levels.append(rest[cuts[-1] :])
        rest = upper
    levels.append(rest)
    root = b"".join(bytes([len(level)]) + b"".join(level) for level in reversed(levels))
    old = earlier.inner if earlier else frozenset()
    nodes |= {node: children for node, children in above.items() if node not in old}
    return Folded(ids, ends, leaves, frozenset(above), root, nodes)


def _close(ids: list[bytes], start: int, made: list[bytes], nodes: dict[bytes, bytes]) -> list[int]:
    """Cut `ids` from `start` on into nodes, as far as chunks are finished; gives where they end."""
    ends: list[int] = []
    for number, each in enumerate(ids[start:], start + 1):
        if each[0] % FANOUT == 0 or number - start == LONGEST_CHUNK:
            children = b"".join(ids[start:number])
            node = address(NODE, children)
            nodes[node] = children
            made.append(node)
            ends.append(number)
            start = number
    return ends


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
