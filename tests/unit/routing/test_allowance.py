"""What the headers of answers say about the rest of an allowance, in the forms providers use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.allowance import allowance_left

NOW = 1_800_000_000.0
OPENAI = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "8.64s",
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-tokens": "50000",
    "x-ratelimit-reset-tokens": "6m0s",
}


def left(**headers: str) -> tuple[float, float] | None:
    return allowance_left([(name.encode(), value.encode()) for name, value in headers.items()], NOW)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (OPENAI, (0.25, 360.0)),
        ({name.title(): value for name, value in OPENAI.items()}, (0.25, 360.0)),
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "5",
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:01:00Z",
            },
            (0.1, 60.0),
        ),
        (
            {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000030000"},
            (0.0, 30.0),
        ),
        ({"ratelimit-limit": "4", "ratelimit-remaining": "2", "ratelimit-reset": "7"}, (0.5, 7.0)),
        (
            {
                "x-ratelimit-limit-requests-day": "14400",
                "x-ratelimit-remaining-requests-day": "7200",
                "x-ratelimit-reset-requests-day": "33011.382867",
            },
            (0.5, 33011.382867),
        ),
        ({**OPENAI, "x-ratelimit-reset-tokens": "soon"}, (0.9999, 8.64)),
        (
            {**OPENAI, "x-ratelimit-remaining-tokens": "0", "x-ratelimit-remaining-requests": "0"},
            (0.0, 360.0),
        ),
        ({"x-ratelimit-remaining": "3"}, None),
        ({"x-ratelimit-limit": "0", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, None),
        ({"x-ratelimit-limit": "9", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "-5"}, None),
        ({"x-ratelimit-limit": "9", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "999999999"}, None),
        ({"content-type": "application/json"}, None),
    ],
)
def test_forms(headers: dict[str, str], expected: tuple[float, float] | None) -> None:
    assert left(**headers) == pytest.approx(expected)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.binary(max_size=60), st.sampled_from([name.encode() for name in OPENAI])),
            st.one_of(st.binary(max_size=40), st.text("0123456789.msh:-TZ", max_size=30).map(str.encode)),
        )
    )
)
def test_nothing_breaks_it(headers: list[tuple[bytes, bytes]]) -> None:
    told = allowance_left(headers, NOW)
    assert told is None or (0 <= told[0] <= 1 and told[1] > 0)
