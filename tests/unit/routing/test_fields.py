"""Only OpenAI's own fields reach a provider."""

from __future__ import annotations

import pytest

from routing.fields import forwarded


def test_known_fields_pass_untouched() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "temperature": 0, "metadata": {"a": "b"}}
    assert forwarded(body, ()) == (body, ())


@pytest.mark.parametrize(
    "name", ["api_base", "base_url", "api_key", "extra_headers", "user_config", "litellm_metadata", "mock"]
)
def test_others_are_left_out_and_named(name: str) -> None:
    assert forwarded({"messages": [], name: "x"}, ()) == ({"messages": []}, (name,))


def test_what_the_provider_refuses_is_named_what_the_router_sets_is_not() -> None:
    body = {"messages": [], "seed": 1, "logit_bias": {}, "model": "x", "stream": True}
    assert forwarded(body, {"seed", "logit_bias"}) == ({"messages": []}, ("logit_bias", "seed"))


def test_names_are_fit_for_a_header() -> None:
    body = {
        "messages": [],
        "a\r\nSet-Cookie: x": 1,
        "é": 1,
        "y" * 65: 1,
        **{f"x{i:02}": 1 for i in range(30)},
    }
    _, dropped = forwarded(body, ())
    assert dropped == tuple(f"x{i:02}" for i in range(20))
