from __future__ import annotations

from typing import Any

import pytest

from routing.config import ModelCard, ProviderSpec
from routing.errors import RequestRejected
from routing.providers.gemini import NO_SIGNATURE, Gemini
from routing.providers.gemini_schema import cleaned
from routing.types import ChatChunk
from tests.dialects import GEMINI, judge_gemini_schema

WIRE = Gemini()
SPEC = ProviderSpec(
    name="acme", protocol="gemini", base_url="https://generativelanguage.googleapis.com/v1beta"
)
CARD = ModelCard(id="m")


def request(messages: list[Any], **fields: Any) -> dict[str, Any]:
    content = WIRE.request(SPEC, CARD, {"messages": messages, **fields}, stream=False)
    GEMINI.judge(content)
    return content


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", **fields}
    return WIRE.answer("acme", CARD, {"candidates": [candidate]})


def test_a_signature_comes_back_where_it_was_given() -> None:
    """The call as OpenAI's shape holds it is the call that the next request shows."""
    message = answer(
        {"functionCall": {"id": "a", "name": "look", "args": {"x": 1}}, "thoughtSignature": "c2lnbmVk"},
        {"functionCall": {"id": "b", "name": "look", "args": {}}},
    )["choices"][0]["message"]
    content = request(
        [
            user("go"),
            message,
            {"role": "tool", "tool_call_id": "b", "content": "B"},
            {"role": "tool", "tool_call_id": "a", "content": "A"},
        ]
    )
    assert content["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {
                    "functionCall": {"id": "a", "name": "look", "args": {"x": 1}},
                    "thoughtSignature": "c2lnbmVk",
                },
                {"functionCall": {"id": "b", "name": "look", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a", "name": "look", "response": {"output": "A"}}},
                {"functionResponse": {"id": "b", "name": "look", "response": {"output": "B"}}},
            ],
        },
    ]


def test_calls_of_other_models_say_that_they_have_no_signature() -> None:
    calls = [
        {"id": each, "type": "function", "function": {"name": "look", "arguments": "{}"}} for each in "ab"
    ]
    results = [{"role": "tool", "tool_call_id": each, "content": ""} for each in "ab"]
    parts = request([user("go"), {"role": "assistant", "tool_calls": calls}, *results])["contents"][1][
        "parts"
    ]
    assert [part.get("thoughtSignature") for part in parts] == [NO_SIGNATURE, None]


def test_calls_without_an_id_get_one_each() -> None:
    call = {"functionCall": {"name": "look"}}
    ids = [each["id"] for each in answer(call, call)["choices"][0]["message"]["tool_calls"]]
    assert len({*ids}) == 2 and all(each.startswith("call_") for each in ids)


def test_images_inside_and_elsewhere() -> None:
    content = request(
        [
            user(
                [
                    {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.gif?size=9"}},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a"}},
                ]
            )
        ]
    )
    assert content["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/webp", "data": "AAAA"}},
        {"fileData": {"mimeType": "image/gif", "fileUri": "https://example.com/a.gif?size=9"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a"}},
    ]


def test_a_blocked_prompt_is_the_requests_fault() -> None:
    data = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    with pytest.raises(RequestRejected, match="PROHIBITED_CONTENT"):
        WIRE.answer("acme", CARD, data)
    with pytest.raises(RequestRejected, match="PROHIBITED_CONTENT"):
        WIRE.reader("acme", CARD).read(ChatChunk(b"", data))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("MAX_TOKENS", "length"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("MISSING_THOUGHT_SIGNATURE", "error"),
        ("NEW", "error"),
    ],
)
def test_why_it_ended(reason: str, expected: str) -> None:
    assert answer({"text": "x"}, finishReason=reason)["choices"][0]["finish_reason"] == expected


def test_thoughts_are_not_said_but_counted() -> None:
    usage = {"promptTokenCount": 9, "toolUsePromptTokenCount": 1, "candidatesTokenCount": 2}
    data = {
        "candidates": [
            {
                "content": {"parts": [{"text": "hm", "thought": True}, {"text": "yes"}]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {**usage, "thoughtsTokenCount": 30},
    }
    whole = WIRE.answer("acme", CARD, data)
    assert whole["choices"][0]["message"]["content"] == "yes"
    assert whole["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 32,
        "total_tokens": 42,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }


def test_events_that_say_nothing_are_no_sign_of_life() -> None:
    assert WIRE.reader("acme", CARD).read(ChatChunk(b"", {"usageMetadata": {"promptTokenCount": 1}})) is None


def test_models_are_no_way_to_other_addresses() -> None:
    urls = [WIRE.url(SPEC, ModelCard(id=each), stream=False) for each in ("../files", "a/b?key=1#", "..")]
    assert all(url.startswith(f"{SPEC.base_url}/models/") and url.count("/") == 5 for url in urls)
    assert all(url.endswith(":generateContent") and "?" not in url and "#" not in url for url in urls)


def test_a_key_in_the_wrong_country_is_no_fault_of_the_request() -> None:
    body = GEMINI.error("FAILED_PRECONDITION", "User location is not supported for the API use.")
    assert WIRE.status(400, body) == 403
    assert WIRE.status(400, GEMINI.error("INVALID_ARGUMENT", "bad")) == 400


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "minLength": 3, "pattern": "x", "default": "a"}, {"type": "string"}),
        ({"const": "a"}, {"enum": ["a"]}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"exclusiveMinimum": 0, "minimum": 1}, {"minimum": 1}),
        (
            {"properties": {"pattern": {"type": "array", "items": {"type": "integer", "multipleOf": 2}}}},
            {"properties": {"pattern": {"type": "array", "items": {"type": "integer"}}}},
        ),
        (
            {"$ref": "#/definitions/a", "definitions": {"a": {"not": {}, "type": "null"}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"const": 1}}},
                ],
                "required": ["b"],
            },
            {"properties": {"b": {"enum": [1]}, "a": {"type": "string"}}, "required": ["a", "b"]},
        ),
        (
            {"additionalProperties": {"type": "string", "minLength": 1}},
            {"additionalProperties": {"type": "string"}},
        ),
        ({"anyOf": [{"const": 1}, True]}, {"anyOf": [{"enum": [1]}, True]}),
    ],
)
def test_schemas_in_the_subset(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert cleaned(schema) == expected
    if True not in schema.get("anyOf", ()):
        judge_gemini_schema(cleaned(schema))
