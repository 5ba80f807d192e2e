from __future__ import annotations

from typing import Any

import pytest

from routing.errors import RequestRejected
from routing.providers.conversation import (
    Image,
    ModelTurn,
    UserTurn,
    arguments_of,
    read_conversation,
    stops_of,
    token_limit,
)

PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": "{}"}}


def test_what_the_system_says_is_in_one_place_and_the_users_words_in_a_row_are_one_turn() -> None:
    conversation = read_conversation(
        [
            {"role": "system", "content": "a"},
            {"role": "user", "content": "b"},
            {"role": "developer", "content": [{"type": "text", "text": "c"}]},
            {"role": "user", "content": [{"type": "text", "text": " "}, PICTURE]},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": "d"},
        ],
        "acme",
    )
    assert conversation.system == "a\n\nc"
    image = Image("https://example.com/a.png", None, "")
    assert conversation.turns == [UserTurn(["b", image]), ModelTurn("d")]


def test_results_stand_in_the_order_of_their_calls() -> None:
    results = [{"role": "tool", "tool_call_id": each, "content": each.upper()} for each in "bca"]
    (turn,) = read_conversation(
        [{"role": "assistant", "content": None, "tool_calls": [call(each) for each in "abc"]}, *results],
        "acme",
    ).turns
    assert isinstance(turn, ModelTurn)
    assert [(asked["id"], parts) for asked, parts in turn.results] == [
        ("a", ["A"]),
        ("b", ["B"]),
        ("c", ["C"]),
    ]


def test_images_where_only_text_can_stand_are_named() -> None:
    (turn,) = read_conversation([{"role": "assistant", "content": [PICTURE]}], "acme").turns
    assert isinstance(turn, ModelTurn) and turn.text == "(an image, left out)"


def test_what_nobody_has_words_for_is_refused() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": ""}}
    with pytest.raises(RequestRejected, match="input_audio"):
        read_conversation([{"role": "user", "content": [sound]}], "acme")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": 1}', {"a": 1}), ("", {}), ("{", {}), ("[]", {}), ("[" * 100_000, {})],
)
def test_arguments_as_an_object(arguments: str, expected: dict[str, Any]) -> None:
    assert arguments_of({"function": {"arguments": arguments}}) == expected


def test_limits() -> None:
    assert stops_of({"stop": "x"}) == ["x"] and stops_of({"stop": ["x", "y"]}) == ["x", "y"]
    assert stops_of({}) == [] == stops_of({"stop": None})
    assert token_limit({"max_tokens": 5}) == 5 and token_limit({"max_tokens": None}) is None
