from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.diff import count_changes, unified_diff

texts = st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b"c\r\n", b"\xff\n", b" \n"])).map(b"".join)
contents = st.builds(bytes.__add__, texts, st.sampled_from([b"", b"end", b"\x0c"]))


def test_a_change_with_its_context() -> None:
    before = b"".join(b"%d\n" % n for n in range(1, 21))
    after = before.replace(b"\n10\n", b"\nten\n").replace(b"\n20\n", b"\ntwenty\n")
    assert unified_diff("n.txt", before, after) == (
        "--- a/n.txt\n+++ b/n.txt\n"
        "@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n"
        "@@ -17,4 +17,4 @@\n 17\n 18\n 19\n-20\n+twenty\n"
    )
    assert count_changes(before, after) == (2, 2)


def test_new_and_deleted_files() -> None:
    assert unified_diff("a", None, b"x\n") == "--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+x\n"
    assert unified_diff("a", b"x\ny\n", None) == "--- a/a\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-x\n-y\n"
    assert unified_diff("a", None, b"") == "--- /dev/null\n+++ b/a\n"
    assert count_changes(None, b"x\ny") == (2, 0)


def test_missing_newline_at_the_end() -> None:
    assert unified_diff("a", b"x", b"x\n") == (
        "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n"
    )


def test_nothing_changed() -> None:
    assert unified_diff("a", b"x", b"x") == ""
    assert unified_diff("a", None, None) == ""
    assert count_changes(b"\0", b"\0") == (0, 0)


def test_binary() -> None:
    assert unified_diff("a", None, b"\0") == "Binary files /dev/null and b/a differ\n"
    assert count_changes(b"x\n", b"\0\n") == (0, 0)


def test_only_newlines_end_lines() -> None:
    assert count_changes("a\u2028b\x0cc\n".encode(), b"x\n") == (1, 1)


@given(contents, contents)
def test_the_diff_leads_from_before_to_after(before: bytes, after: bytes) -> None:
    old, new = _shown(before), _shown(after)
    assert _apply(old, unified_diff("f", old, new)) == new


@given(contents, contents)
def test_counts_agree_with_the_diff(before: bytes, after: bytes) -> None:
    body = unified_diff("f", before, after).split("\n")[2:]
    added, removed = count_changes(before, after)
    assert added == sum(line.startswith("+") for line in body)
    assert removed == sum(line.startswith("-") for line in body)
    assert added - removed == _line_count(after) - _line_count(before)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("name", ["plain.txt", "with blanks in it.txt", "ünï.txt"])
def test_git_applies_it(tmp_path: Path, name: str) -> None:
    before = b"".join(b"%d\n" % n for n in range(50)) + b"end"
    after = before.replace(b"\n7\n", b"\n").replace(b"\n30\n", b"\n30\n30.5\r\n").replace(b"end", b"end\n")
    (tmp_path / name).write_bytes(before)
    patch = unified_diff(name, before, after)
    subprocess.run(["git", "apply", "-"], input=patch.encode(), cwd=tmp_path, check=True)
    assert (tmp_path / name).read_bytes() == after


def test_large_unlike_files_do_not_take_for_ever() -> None:
    before = b"".join(b"%d\n" % (n * 7919 % 101) for n in range(50_000))
    after = b"".join(b"%d\n" % (n * 6007 % 103) for n in range(50_000))
    started = time.process_time()
    diff = unified_diff("f", before, after)
    assert time.process_time() - started < 10
    assert _apply(before, diff) == after


def _shown(content: bytes) -> bytes:
    return content.decode("utf-8", "replace").encode()


def _line_count(content: bytes) -> int:
    return content.count(b"\n") + (content != b"" and not content.endswith(b"\n"))


def _apply(before: bytes, diff: str) -> bytes:
    """What `patch` would make of it."""
    if not diff:
        return before
    old = [line + b"\n" for line in before.split(b"\n")]
    old[-1] = old[-1][:-1]
    new: list[bytes] = []
    previous = b""
    at = 0
    for line in diff.encode().split(b"\n")[2:-1]:
        mark, text = line[:1], line[1:] + b"\n"
        if mark == b"@":
            first, _, count = line.split(b" ")[1][1:].partition(b",")
            start = int(first) - (count != b"0")
            new += old[at:start]
            at = start
        elif mark == b"\\":
            if previous in (b"+", b" "):
                new[-1] = new[-1][:-1]
        else:
            if mark in (b" ", b"-"):
                assert old[at].rstrip(b"\n") == line[1:]
                at += 1
            if mark in (b" ", b"+"):
                new.append(text)
            previous = mark
    return b"".join(new + old[at:])
