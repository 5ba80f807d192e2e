"""Text for lists is one line, cut between words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.agent.short_text import in_short


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("as it is", "as it is"),
        ("two\n lines\tof   text", "two lines of text"),
        ("word " * 7 + "unfinished", "word word word word word word…"),
        ("exactly to the end of the line is room", "exactly to the end of the line…"),
        ("x" * 40, "x" * 31 + "…"),
        ("a " + "x" * 40, "a " + "x" * 29 + "…"),
    ],
)
def test_a_cut_is_between_words_unless_one_is_very_long(text: str, short: str) -> None:
    assert in_short(text, 32) == short


@given(st.text(max_size=300), st.integers(25, 80))
def test_it_never_is_too_long(text: str, length: int) -> None:
    shown = in_short(text, length)
    assert len(shown) <= length
    assert "\n" not in shown
