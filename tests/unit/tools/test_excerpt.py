"""What of a changed file is shown: all of it, or the lines that the call was about."""

from __future__ import annotations

import pytest

from tools.excerpt import WHOLE_BYTES, WHOLE_LINES, excerpt

MANY = [f"value_{number} = {number}" for number in range(1, 1_001)]
LONG = "\n".join(MANY).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"", "(the file is empty)"),
        (b"one\n", "1: one"),
        (b"one\r\ntwo", "1: one\n2: two"),
        (b"one\n\n", "1: one\n2: "),
        (b"caf\xe9\n", "1: caf\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_short_file_is_shown_whole(content: bytes, shown: str) -> None:
    found = excerpt(content, "whatever")
    assert (found.text, found.whole) == (shown, True)


def test_the_bounds_of_a_short_file() -> None:
    assert excerpt(b"x\n" * WHOLE_LINES, "").whole
    assert not excerpt(b"x\n" * (WHOLE_LINES + 1), "").whole
    assert excerpt(b"x" * WHOLE_BYTES, "").whole
    assert not excerpt(b"x" * (WHOLE_BYTES + 1), "").whole


def test_of_a_long_file_the_lines_around_the_wanted_passage_are_shown() -> None:
    found = excerpt(LONG, "value_500 = 500 + more\nvalue_501 = 501\n")
    assert not found.whole
    assert "500: value_500 = 500" in found.text
    assert found.text.startswith("490: value_490")
    assert found.text.endswith("(lines 490 to 549 of 1000)")


def test_a_whole_new_content_shows_where_the_file_begins_to_differ() -> None:
    wanted = "\n".join([*MANY[:700], "other", *MANY[701:]])
    assert "701: value_701 = 701" in excerpt(LONG, wanted).text


@pytest.mark.parametrize("wanted", ["", "\n\n", "nothing like it, really"])
def test_without_a_place_it_begins_at_the_top(wanted: str) -> None:
    assert excerpt(LONG, wanted).text.startswith("1: value_1 = 1\n")


def test_long_lines_are_cut_and_the_whole_stays_small() -> None:
    found = excerpt(b"y" * 3_000 + b"\n" + (b"z" * 900 + b"\n") * 300, "")
    assert found.text.splitlines()[0] == "1: " + "y" * 500
    assert len(found.text) < WHOLE_BYTES + 1_500
