from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.errors import ToolError
from tools.replacement import replace_passage


def test_one_passage() -> None:
    assert replace_passage(b"a b\xff c", b"b", b"B") == (b"a B\xff c", 1)


def test_everywhere() -> None:
    assert replace_passage(b"x x x", b"x", b"y", everywhere=True) == (b"y y y", 3)


def test_more_than_one_names_the_lines() -> None:
    with pytest.raises(ToolError, match=r"3 times \(lines 1, 3, 4\).*replace_all"):
        replace_passage(b"x\ny\nx\nx\n", b"x", b"z")


def test_nothing_like_it() -> None:
    with pytest.raises(ToolError, match="nor anything like it"):
        replace_passage(b"alpha\nbeta\n", b"0123456789", b"x")


def test_the_nearest_lines_are_shown() -> None:
    content = b"def one():\n    pass\n\ndef total(values):\n\treturn sum(values)\n"
    with pytest.raises(ToolError) as caught:
        replace_passage(content, b"def total(value):\n    return sum(value)\n", b"x")
    assert "line 4: def total(values):\nline 5: \treturn sum(values)" in str(caught.value)


def test_a_difference_in_indentation_finds_the_line() -> None:
    with pytest.raises(ToolError, match="line 2: \treturn 1"):
        replace_passage(b"def f():\n\treturn 1\n", b"    return 1", b"    return 2")


@pytest.mark.parametrize(("old", "new"), [(b"", b"x"), (b"x", b"x")])
def test_nothing_to_do(old: bytes, new: bytes) -> None:
    with pytest.raises(ToolError):
        replace_passage(b"x", old, new)


@pytest.mark.parametrize(
    ("content", "old", "new", "expected"),
    [
        (b"a\r\nb\r\nc\r\n", b"a\nb\n", b"1\n2\n3\n", b"1\r\n2\r\n3\r\nc\r\n"),
        (b"a\r\nb\r\n", b"a", b"1\n2", b"1\r\n2\r\nb\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb", b"1\r\n2", b"1\r\n2\r\n"),
        (b"a\nb\nc\n", b"a\r\nb\r\n", b"1\r\n2\r\n", b"1\n2\nc\n"),
        (b"a\r\nb\nc\r\nd\r\n", b"c\nd\n", b"C\nD\n", b"a\r\nb\nC\r\nD\r\n"),
    ],
    ids=["crlf file", "one line in a crlf file", "crlf given", "lf file", "mixed file"],
)
def test_line_endings_are_the_files_own(content: bytes, old: bytes, new: bytes, expected: bytes) -> None:
    assert replace_passage(content, old, new) == (expected, 1)


@given(
    st.binary(max_size=40), st.binary(min_size=1, max_size=8), st.binary(max_size=40), st.binary(max_size=8)
)
def test_the_rest_stays(head: bytes, old: bytes, tail: bytes, new: bytes) -> None:
    content = head + old + tail
    if b"\n" in content + new or b"\r" in content + new or old == new or content.count(old) != 1:
        return
    assert replace_passage(content, old, new) == (content.replace(old, new), 1)
