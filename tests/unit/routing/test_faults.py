from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.errors import (
    ContentRefused,
    ContextTooLong,
    KeyRefused,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from routing.faults import from_error_object, from_status, retry_after
from routing.spans import LONGEST


def error(message: str = "", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            400,
            error("This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"),
        ),
        (400, error("Please reduce the length of the messages.", code="context_length_exceeded")),
        (
            400,
            error(
                "the request exceeds the available context size", code=400, type="exceed_context_size_error"
            ),
        ),
        (400, error("prompt is too long: 210000 tokens > 200000 maximum")),
        (400, error("The input token count (1200000) exceeds the maximum number of tokens allowed")),
        (400, [error("The input token count (12) exceeds the maximum number of tokens allowed")]),
        (422, {"detail": "x", "message": "Input is too long for requested model: context window exceeded"}),
        (400, {"object": "error", "message": "This model's maximum context length is 4096", "code": 400}),
        (413, "payload too large"),
    ],
)
def test_a_context_that_is_too_long_is_recognised_in_many_words(status: int, body: Any) -> None:
    assert isinstance(from_status("acme", status, {}, body), ContextTooLong)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, error("API key not valid. Please pass a valid API key."), KeyRefused),
        (400, error("gone", code="model_decommissioned"), KeyRefused),
        (400, error("temperature: must be at most 2"), RequestRejected),
        (400, error("content was flagged", code="content_policy_violation"), ContentRefused),
        (400, {"error": {"message": "filtered", "code": "content_filter", "innererror": {}}}, ContentRefused),
        (403, error("flagged", code="moderation_blocked"), ContentRefused),
        (400, "<html>bad request</html>", RequestRejected),
        (401, None, KeyRefused),
        (418, {"error": "I am a teapot"}, RequestRejected),
        (307, "", ProviderUnavailable),
        (204, "", ProviderUnavailable),
        (503, [], ProviderUnavailable),
        (429, error("rate limit: 8000 tokens per minute of context size"), RateLimited),
    ],
)
def test_other_statuses(status: int, body: Any, expected: type[ProviderError]) -> None:
    assert type(from_status("acme", status, {}, body)) is expected


@pytest.mark.parametrize(
    ("status", "body", "meant"),
    [
        (429, error("You exceeded your current quota", type="insufficient_quota"), 402),
        (429, error("Your account is not active", code="billing_not_active"), 402),
        (400, error("Your credit balance is too low to access the Anthropic API."), 402),
        (400, error("API key not valid. Please pass a valid API key."), 401),
        (400, error("no", status="INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}]), 401),
        (400, {"code": "x", "error": "Incorrect API key provided: gs**de."}, 401),
        (403, error("The API key you provided is invalid.", code="invalid_api_key"), 401),
        (402, error("Insufficient Balance"), 402),
    ],
)
def test_a_bad_key_or_an_empty_account_is_told_whatever_the_status(
    status: int, body: Any, meant: int
) -> None:
    fault = from_status("acme", status, {}, body)
    assert type(fault) is KeyRefused and fault.status == meant and f"answered {status}" in str(fault)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            422,
            {"detail": [{"msg": "Field required", "input": "api key is invalid, content management policy"}]},
        ),
        (400, error("messages.0: 'Incorrect API key' is no role")),
        (400, error("stop token invalid")),
        (400, error("messages.0.content: must not be empty", code="invalid_prompt")),
        (400, error("response_format: the content filter of this JSON schema is malformed")),
        (400, error("the prompt was flagged {template syntax}: unexpected token")),
        (400, error("tools.0.description: mentions content safety twice")),
    ],
)
def test_a_plain_bad_request_says_nothing_about_keys_or_policies(status: int, body: Any) -> None:
    assert type(from_status("acme", status, {}, body)) is RequestRejected


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("Invalid prompt: your prompt was flagged as potentially violating our usage policy.")),
        (400, error("x", type="data_inspection_failed")),
        (400, error("Content Exists Risk", type="invalid_request_error")),
        (403, {"code": "denied", "error": "Content violates usage guidelines. Failed check: CYBER"}),
        (403, error("Your chosen model requires moderation and your input was flagged", code=403)),
        (400, error("filtered due to the prompt triggering Azure OpenAI's content management policy.")),
    ],
)
def test_refusals_of_content_as_vendors_word_them(status: int, body: Any) -> None:
    assert type(from_status("acme", status, {}, body)) is ContentRefused


def test_the_message_names_provider_and_reason_and_hides_the_key() -> None:
    fault = from_status("acme", 401, {}, error("Incorrect key: hunter2hunter2"), ["hunter2hunter2"])
    assert str(fault) == "acme answered 401: Incorrect key: [redacted]"
    assert fault.status == 401


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "12"}, "", 12.0),
        ({"retry-after": " 1.5 "}, "", 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, "", 0.25),
        ({"retry-after": formatdate(0, usegmt=True)}, "", 0.0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-3"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "1e400"}, "", None),
        ({}, "Please try again in 7.66s.", 7.66),
        ({}, "Please retry in 340ms", 0.34),
        ({}, "Please try again in 1m30.5s.", 90.5),
        ({}, "Please try again in 7m12.5s. Visit us", 432.5),
        ({}, "Please try again in 2h3m4.5s.", 7384.5),
        ({}, "Try again after 1 hour 30 Minutes", 5400.0),
        ({}, "try again in 2 months", None),
        ({"retry-after": "9" * 17}, "", LONGEST),
        ({}, "try again in 999 days", LONGEST),
        ({}, "no idea", None),
    ],
)
def test_retry_after(headers: dict[str, str], message: str, seconds: float | None) -> None:
    assert retry_after(headers, message) == seconds


def test_retry_after_as_a_date() -> None:
    wait = retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)})
    assert wait is not None and 27 < wait <= 30


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["error", "message", "code", "x"]), inner)
    ),
)


@given(st.integers(min_value=100, max_value=999), json_values, st.text(max_size=30))
def test_any_body_makes_an_error(status: int, body: Any, header: str) -> None:
    fault = from_status("acme", status, {"retry-after": header}, body)
    assert isinstance(fault, ProviderError)
    assert len(str(fault)) < 400


def test_a_refusal_inside_an_answer_is_no_outage() -> None:
    refusal = {"message": "filtered", "code": "content_filter"}
    assert type(from_error_object("acme", refusal)) is ContentRefused


@given(json_values)
def test_any_error_object_makes_an_error(value: Any) -> None:
    assert isinstance(from_error_object("acme", value), ProviderError)
