from __future__ import annotations

import json
from typing import Any

import pytest

from routing.config import ModelCard, ProviderSpec
from routing.providers.anthropic_messages import DEFAULT_MAX_TOKENS, AnthropicMessages
from routing.types import ChatChunk
from tests.dialects import ANTHROPIC

WIRE = AnthropicMessages()
SPEC = ProviderSpec(name="acme", protocol="anthropic-messages", base_url="https://api.anthropic.com")
CARD = ModelCard(id="m")
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def call(call_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}


def request(messages: list[Any], card: ModelCard = CARD, **fields: Any) -> dict[str, Any]:
    content = WIRE.request(SPEC, card, {"messages": messages, **fields}, stream=False)
    ANTHROPIC.judge(content)
    return content


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def result(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def events(*data: dict[str, Any]) -> list[ChatChunk]:
    reader = WIRE.reader("acme", CARD)
    return [chunk for each in data for chunk in reader.read(ChatChunk(b"", each)) or ()]


def test_results_share_one_message_with_what_the_user_says_next_in_the_order_of_the_calls() -> None:
    content = request(
        [
            user("go"),
            {"role": "assistant", "content": "both", "tool_calls": [call("a"), call("b", '{"x": [1]}')]},
            result("b", "B"),
            result("a", "A"),
            user("and?"),
        ]
    )
    assert content["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "go"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "both"},
                {"type": "tool_use", "id": "a", "name": "look", "input": {}},
                {"type": "tool_use", "id": "b", "name": "look", "input": {"x": [1]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "A"}]},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "B"}]},
                {"type": "text", "text": "and?"},
            ],
        },
    ]


def test_ids_of_other_providers_are_made_valid_on_both_sides() -> None:
    history = [user("go"), {"role": "assistant", "tool_calls": [call("look:0.1")]}, result("look:0.1", "x")]
    sent = json.dumps(request(history))
    assert sent.count("look_0_1") == 2 and "look:0" not in sent


def test_arguments_that_were_no_json_object_come_back_as_an_empty_one() -> None:
    for arguments in ("", "not json", "[1]"):
        history = [user("go"), {"role": "assistant", "tool_calls": [call("a", arguments)]}, result("a", "x")]
        assert request(history)["messages"][1]["content"][0]["input"] == {}


@pytest.mark.parametrize(
    ("fields", "most", "expected"),
    [
        ({}, None, DEFAULT_MAX_TOKENS),
        ({}, 4096, 4096),
        ({}, 128_000, DEFAULT_MAX_TOKENS),
        ({"max_tokens": 50_000}, 128_000, 50_000),
        ({"max_tokens": 50_000}, 8192, 8192),
        ({"max_completion_tokens": 7, "max_tokens": 9}, None, 7),
    ],
)
def test_the_limit_that_the_api_demands(fields: dict[str, Any], most: int | None, expected: int) -> None:
    assert request([user("x")], ModelCard(id="m", max_output=most), **fields)["max_tokens"] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"type": "auto"}),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "look"}}},
            {"type": "tool", "name": "look"},
        ),
    ],
)
def test_tool_choice(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert request([user("x")], tools=[TOOL], **fields)["tool_choice"] == expected


def test_without_tools_there_is_no_choice_and_nothing_is_written_to_the_cache() -> None:
    content = request([user("x")], tool_choice="auto")
    assert not {"tools", "tool_choice", "cache_control"} & content.keys()
    assert request([user("x")], tools=[TOOL])["cache_control"] == {"type": "ephemeral"}


def test_pieces_of_arguments_pass_byte_exact() -> None:
    pieces = ["", '{"a":  "\\u00', 'e9\\n", ', '"b": 1.50}']
    chunks = events(
        {
            "type": "content_block_start",
            "index": 3,
            "content_block": {"type": "tool_use", "id": "t", "name": "f"},
        },
        *(
            {
                "type": "content_block_delta",
                "index": 3,
                "delta": {"type": "input_json_delta", "partial_json": piece},
            }
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 3},
    )
    calls = [chunk.delta["tool_calls"][0] for chunk in chunks]
    assert calls[0] == {
        "index": 0,
        "id": "t",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }
    assert [each["function"]["arguments"] for each in calls[1:]] == pieces[1:]


def test_a_call_whose_input_came_whole_or_not_at_all_has_arguments() -> None:
    for given, expected in (({"x": 1}, '{"x":1}'), ({}, "{}")):
        block = {"type": "tool_use", "id": "t", "name": "f", "input": given}
        chunks = events(
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_stop", "index": 0},
        )
        pieces = [chunk.delta["tool_calls"][0]["function"]["arguments"] for chunk in chunks]
        assert "".join(pieces) == expected


def test_usage_told_last_holds_and_what_it_leaves_out_stays() -> None:
    begun = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}
    chunks = events(
        {"type": "message_start", "message": {"id": "x", "usage": {**begun, "output_tokens": 1}}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {
                "input_tokens": 6,
                "cache_read_input_tokens": None,
                "output_tokens": 9,
                "output_tokens_details": {"thinking_tokens": 8},
            },
        },
    )
    assert chunks[-1].data["usage"] == {
        "prompt_tokens": 12,
        "completion_tokens": 9,
        "total_tokens": 21,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 8},
    }


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something new", "stop"),
    ],
)
def test_why_it_stopped(reason: str, expected: str) -> None:
    (chunk, _usage) = events({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {}})
    assert chunk.data["choices"][0]["finish_reason"] == expected


def test_it_knows_when_the_model_thinks() -> None:
    reader = WIRE.reader("acme", CARD)
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    reader.read(ChatChunk(b"", {"type": "content_block_start", "index": 0, "content_block": thought}))
    assert reader.thinking
    assert reader.read(ChatChunk(b"", {"type": "ping"})) is None
    reader.read(ChatChunk(b"", {"type": "content_block_stop", "index": 0}))
    assert not reader.thinking
    assert not reader.ended
    reader.read(ChatChunk(b"", {"type": "message_stop"}))
    assert reader.ended


@pytest.mark.parametrize("base", ["https://a.example", "https://a.example/", "https://a.example/v1"])
def test_the_address_may_name_the_version(base: str) -> None:
    spec = SPEC.model_copy(update={"base_url": base})
    assert WIRE.url(spec, CARD, stream=True) == "https://a.example/v1/messages"


def test_another_version_of_the_api_can_be_asked_for() -> None:
    spec = SPEC.model_copy(update={"api_version": "2023-06-01"})
    assert WIRE.headers(spec) == {"anthropic-version": "2023-06-01"}


def test_an_empty_account_is_no_fault_of_the_request() -> None:
    words = "Your credit balance is too low to access the Anthropic API."
    assert WIRE.status(400, ANTHROPIC.error("invalid_request_error", words)) == 402
    assert WIRE.status(400, ANTHROPIC.error("invalid_request_error", "bad roles")) == 400


def test_retired_models_are_not_listed() -> None:
    listing = {"data": [{"id": "old", "lifecycle": "retired"}, {"id": "new", "lifecycle": "active"}, {}]}
    cards = WIRE.cards(listing)
    assert cards is not None and [card.id for card in cards] == ["new"]
