"""What is read off a request's body."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.needs import IMAGE_TOKENS, Needs


def _body(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], **more}


def test_estimate_is_cautious_for_prose_and_code() -> None:
    prose = "The quick brown fox jumps over the lazy dog. " * 100  # 10 tokens each in usual tokenisers
    assert 1000 <= Needs.of(_body(prose)).prompt_tokens <= 2000


def test_bytes_count_not_characters() -> None:
    assert Needs.of(_body("汉" * 300)).prompt_tokens >= 300
    assert Needs.of(_body("\ud800" * 3)).prompt_tokens > 0


def test_an_image_counts_as_one_not_as_its_bytes() -> None:
    url = "data:image/png;base64," + "A" * 1_000_000
    body = _body([{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what is it?"}])
    needs = Needs.of(body)
    assert IMAGE_TOKENS < needs.prompt_tokens < IMAGE_TOKENS + 50 and needs.vision


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Needs()),
        ({"tools": []}, Needs()),
        ({"tools": [{}]}, Needs(tools=True)),
        ({"functions": [{}]}, Needs(tools=True)),
        ({"response_format": {"type": "json_schema"}}, Needs(json_schema=True)),
        ({"response_format": {"type": "json_object"}}, Needs()),
        ({"max_tokens": 100}, Needs(output_tokens=100)),
        ({"max_tokens": 100, "max_completion_tokens": 200}, Needs(output_tokens=200)),
        ({"max_tokens": True}, Needs()),
        ({"max_tokens": -5}, Needs()),
    ],
)
def test_features(more: dict[str, Any], expected: Needs) -> None:
    needs = Needs.of(_body("", **more))
    assert (needs.tools, needs.vision, needs.json_schema, needs.output_tokens) == (
        expected.tools,
        expected.vision,
        expected.json_schema,
        expected.output_tokens,
    )


_KEYS = st.sampled_from(["role", "content", "type", "text", "image_url"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["messages", "tools", "response_format", "max_tokens", "x"]), _JSON))
def test_any_body_is_measured(body: dict[str, Any]) -> None:
    needs = Needs.of(body)
    assert 0 <= needs.least_prompt_tokens <= needs.prompt_tokens


def test_deep_nesting_is_no_recursion() -> None:
    deep: Any = "x"
    for _ in range(20_000):
        deep = [deep]
    assert Needs.of({"messages": deep}).prompt_tokens == 0
    while isinstance(deep, list):  # taken apart here: freeing it whole would recurse
        deep = deep[0]


def test_a_signature_is_nothing_to_read() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    plain = {"messages": [{"role": "assistant", "tool_calls": [call]}]}
    signed = {
        "messages": [{"role": "assistant", "tool_calls": [{**call, "extra_content": {"x": "y" * 9999}}]}]
    }
    assert Needs.of(signed).prompt_tokens == Needs.of(plain).prompt_tokens
