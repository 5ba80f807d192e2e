from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.redaction import MASK, MAX_MESSAGE, presentable, redact


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcDEF123456. You can find",
        "Incorrect API key provided: sk-ab***********wxyz.",
        "header was Authorization: Bearer abc.def-123",
        "gsk_0123456789abcdefghij is not valid",
        "AIzaSyA0123456789abcdefghij",
        "https://x.example/v1?key=very-secret&alt=sse",
        "https://user:hunter2@proxy.example/",
        "token eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    ],
)
def test_what_looks_like_a_key_is_masked(text: str) -> None:
    masked = redact(text)
    assert MASK in masked
    for part in ("abcDEF", "wxyz", "def-123", "0123456789abc", "very-secret", "hunter2", "c2lnb"):
        assert part not in masked


@pytest.mark.parametrize(
    "text",
    [
        "the model 'pk-small' is not known",
        "risk-based limits",
        "task-force",
        "https://docs.example/errors#key",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text) == text


def test_known_secrets_are_masked_whatever_they_look_like() -> None:
    assert redact("you sent hunter2hunter2 and hunter2", ["hunter2", "hunter2hunter2"]) == (
        f"you sent {MASK} and {MASK}"
    )


def test_placeholder_keys_do_not_garble_the_text() -> None:
    assert redact("x is no model", ["x", ""]) == "x is no model"


@given(st.text(max_size=600), st.integers(min_value=0, max_value=600))
def test_a_key_never_survives_shortening(noise: str, where: int) -> None:
    key = "Zq7-known-Secret"
    shown = presentable(noise[:where] + key + noise[where:], [key])
    assert key not in shown
    assert key[:8] not in shown.replace(noise, "")
    assert len(shown) <= MAX_MESSAGE
    assert shown.isprintable() or not noise.isprintable()


def test_terminal_control_sequences_and_lines_are_removed() -> None:
    assert presentable("a\x1b[31mred\x1b[0m\r\nnext\u202eline") == "a [31mred [0m next line"
