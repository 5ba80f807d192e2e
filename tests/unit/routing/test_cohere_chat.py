from __future__ import annotations

from typing import Any

import pytest

from routing.config import ModelCard, ProviderSpec
from routing.providers.cohere_chat import CohereChat
from routing.types import ChatChunk
from tests.dialects import COHERE

WIRE = CohereChat()
SPEC = ProviderSpec(name="acme", protocol="cohere-chat", base_url="https://api.cohere.com/v2")
CARD = ModelCard(id="m")
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "strict": True, "parameters": {"type": "object", "properties": {}}},
    }
    for name in ("look", "leap")
]


def request(messages: list[Any], **fields: Any) -> dict[str, Any]:
    content = WIRE.request(SPEC, CARD, {"messages": messages, **fields}, stream=False)
    COHERE.judge(content)
    return content


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def events(*data: dict[str, Any]) -> list[ChatChunk]:
    reader = WIRE.reader("acme", CARD)
    return [chunk for each in data for chunk in reader.read(ChatChunk(b"", each)) or ()]


def test_what_was_said_beside_calls_goes_back_as_their_plan() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": ""}}
    content = request(
        [
            user("go"),
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "seen"},
        ]
    )
    assert content["messages"][1:] == [
        {
            "role": "assistant",
            "tool_plan": "I look.",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "seen"},
    ]


@pytest.mark.parametrize(
    ("choice", "offered", "told"),
    [
        (None, ["look", "leap"], None),
        ("auto", ["look", "leap"], None),
        ("none", ["look", "leap"], "NONE"),
        ("required", ["look", "leap"], "REQUIRED"),
        ({"type": "function", "function": {"name": "leap"}}, ["leap"], "REQUIRED"),
    ],
)
def test_a_certain_tool_is_demanded_by_offering_no_other(choice: Any, offered: list[str], told: Any) -> None:
    content = request([user("x")], tools=TOOLS, tool_choice=choice)
    assert [tool["function"]["name"] for tool in content["tools"]] == offered
    assert content.get("tool_choice") == told


@pytest.mark.parametrize(("top_p", "p"), [(0, 0.01), (0.5, 0.5), (1, 0.99)])
def test_top_p_is_brought_into_the_range(top_p: float, p: float) -> None:
    assert request([user("x")], top_p=top_p)["p"] == p


def test_thinking_and_citations_are_left_out() -> None:
    chunks = events(
        {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"thinking": "hm"}}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "hm"}}}},
        {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "yes"}}}},
        {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"text": "yes"}}}},
    )
    assert [chunk.delta.get("content") for chunk in chunks] == ["", "yes"]


@pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT", "ERROR_TOXIC", None, "NEW"])
def test_what_is_no_good_ending_is_an_error(reason: str | None) -> None:
    (chunk,) = events({"type": "message-end", "delta": {"finish_reason": reason}})
    assert chunk.data["choices"][0]["finish_reason"] == "error"


def test_an_error_at_the_end_of_a_stream_is_found() -> None:
    assert WIRE.error({"type": "message-end", "delta": {"error": "out of memory"}}) == {
        "message": "out of memory"
    }
    assert not WIRE.error({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}})
    assert WIRE.error({"message": "too busy"}) == {"message": "too busy"}


def test_billed_units_stand_in_for_tokens() -> None:
    usage = {"billed_units": {"input_tokens": 3.0, "output_tokens": 2.0}}
    chunks = events({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}})
    assert chunks[-1].data["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_an_invalid_key_is_not_taken_for_a_lack_of_capacity() -> None:
    assert WIRE.status(498, {"message": "invalid token"}) == 401
    assert WIRE.status(503, {}) == 503
