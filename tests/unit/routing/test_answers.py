"""The short cut for what most chunks are: taken only where the long way comes to the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.answers import check_words, has_content, mended, says_words_alone
from routing.providers.wire_format import MALFORMED

LEAF = st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from(["", "hi", "stop"])
ANYTHING = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["content", "role"]), inner, max_size=2)
    ),
    max_leaves=4,
)
DELTAS = (
    st.fixed_dictionaries({}, optional={"content": ANYTHING, "role": LEAF, "tool_calls": ANYTHING}) | ANYTHING
)
CHOICES = (
    st.fixed_dictionaries({}, optional={"index": LEAF, "delta": DELTAS, "finish_reason": ANYTHING}) | ANYTHING
)
CHUNKS = st.fixed_dictionaries(
    {}, optional={"choices": st.lists(CHOICES, max_size=2) | ANYTHING, "usage": ANYTHING}
)


def is_short(data: dict[str, Any]) -> bool:
    try:
        return says_words_alone(data)
    except MALFORMED:
        return False


@settings(deadline=None, max_examples=500)
@given(CHUNKS)
def test_the_short_cut_leads_where_the_long_way_does(data: dict[str, Any]) -> None:
    if is_short(data):
        assert mended(data, "delta") is data
        (choice,) = data["choices"]
        check_words(choice["delta"])
        assert has_content(choice["delta"]) and not choice.get("finish_reason")


@settings(deadline=None, max_examples=500)
@given(CHUNKS)
def test_what_has_no_form_has_none_on_either_way(data: dict[str, Any]) -> None:
    try:
        says_words_alone(data)
    except MALFORMED:
        with pytest.raises(MALFORMED):
            for choice in mended(data, "delta")["choices"]:
                check_words(choice.get("delta") or {})


@pytest.mark.parametrize("rest", [{}, {"usage": None}, {"model": "m"}])
def test_what_most_providers_send_takes_it(rest: dict[str, Any]) -> None:
    choice = {"index": 0, "delta": {"content": "hi"}, "logprobs": None, "finish_reason": None}
    assert says_words_alone({"choices": [choice], **rest})
