"""Lists of addresses, folded and read back."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from checkpoints.sequences import NODE, Folded, address, fold, reachable, split, unfold


def names(count: int, seed: int = 0) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(16) for _ in range(count)]


def read(root: bytes, nodes: dict[bytes, bytes]) -> list[bytes]:
    upper, *lower = unfold(root)
    for level in lower:
        upper = [child for node in upper for child in split(nodes[node])] + level
    return upper


_FEW = st.lists(st.integers(0, 20).map(lambda n: address("x", bytes([n]))), max_size=300)


@given(_FEW, _FEW, st.integers(0, 300))
def test_every_version_reads_back(first: list[bytes], tail: list[bytes], kept: int) -> None:
    old = fold(first)
    kept = min(kept, len(first))
    new = fold(first[:kept] + tail, old, kept)
    assert read(old.root, old.new_nodes) == first
    assert read(new.root, old.new_nodes | new.new_nodes) == first[:kept] + tail
    assert new.root == fold(first[:kept] + tail).root, "a version looks the same however it was reached"


def test_equal_elements_make_few_nodes() -> None:
    for element in (b"\0" * 16, b"\1" * 16):  # always the end of a chunk, never
        folded = fold([element] * 5000)
        assert read(folded.root, folded.new_nodes) == [element] * 5000
        assert len(folded.new_nodes) < 20


def appended(count: int) -> tuple[int, int, Folded]:
    """The most bytes of a root, and of all nodes, over a list that grows one by one."""
    every = names(count)
    nodes: dict[bytes, bytes] = {}
    most, last = 0, fold([])
    for length in range(1, count + 1):
        last = fold(every[:length], last, length - 1)
        nodes |= last.new_nodes
        most = max(most, len(last.root))
    assert read(last.root, nodes) == every
    return most, sum(map(len, nodes.values())), last


def test_growing_costs_the_logarithm() -> None:
    most, nodes, _ = appended(2000)
    assert most < 16 * 64 * 3
    assert nodes < 2 * 16 * 2000


def test_an_edit_and_a_removal_at_the_front_share_all_later_nodes() -> None:
    every = names(2000)
    old = fold(every)
    for changed in (every[1:], [names(1, seed=1)[0], *every[1:]], [*names(3, seed=1), *every]):
        shared = old.new_nodes.keys() & fold(changed).new_nodes.keys()
        assert len(old.new_nodes) - len(shared) < 8


def test_what_is_reachable_is_what_reading_needs() -> None:
    every = names(500)
    folded = fold(every)
    nodes = folded.new_nodes | {address(NODE, b"loose"): b"loose"}
    assert reachable([folded.root], nodes) == {*every, *folded.new_nodes}
