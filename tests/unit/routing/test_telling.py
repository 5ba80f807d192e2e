"""What is a sign of life in a stream, and when an answer of several choices is whole."""

from __future__ import annotations

from typing import Any

import pytest

from routing.config import ModelCard
from routing.providers.anthropic_messages import AnthropicReader
from routing.providers.openai_compatible import OpenAIReader
from routing.providers.telling import Telling
from routing.types import ChatChunk


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> ChatChunk:
    return ChatChunk(b"", {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


@pytest.mark.parametrize(
    ("data", "alive"),
    [
        (chunk({"role": "assistant", "content": ""}).data, False),
        (chunk({"role": "assistant", "content": None, "tool_calls": []}).data, False),
        ({"choices": []}, False),
        ({"type": "ping"}, False),
        (chunk({"content": "hi"}).data, True),
        (chunk({"content": "", "reasoning_content": "hm"}).data, True),
        (chunk({"tool_calls": [{"index": 0}]}).data, True),
        (chunk({}, "stop").data, True),
        ({"choices": [], "usage": {"total_tokens": 1}}, True),
    ],
)
def test_what_is_a_sign_of_life(data: dict[str, Any], alive: bool) -> None:
    assert Telling(OpenAIReader(), 1).note([ChatChunk(b"", data)]) == alive


def test_what_comes_before_the_first_sign_of_life_comes_with_it() -> None:
    reader = AnthropicReader(ModelCard(id="m"))
    telling = Telling(reader, 1)

    def passed_on(event: dict[str, Any]) -> int:
        chunks = reader.read(ChatChunk(b"", event))
        assert chunks is not None
        return len(telling.passed_on(chunks, alive=telling.note(chunks)))

    thought = {"type": "thinking", "thinking": ""}
    assert passed_on({"type": "message_start", "message": {"id": "a"}}) == 0
    assert passed_on({"type": "content_block_start", "index": 0, "content_block": thought}) == 1
    assert passed_on({"type": "content_block_stop", "index": 0}) == 0


def test_all_choices_that_were_asked_for_must_be_finished() -> None:
    telling = Telling(OpenAIReader(), 2)
    telling.note([chunk({"content": "a"}), chunk({}, "stop")])
    assert (telling.finish, telling.is_told) == ("stop", False)
    telling.note([chunk({"content": "b"}, index=1)])
    assert (telling.finish, telling.is_told) == (None, False)
    telling.note([chunk({}, "length", index=1)])
    assert (telling.finish, telling.is_told) == ("length", True)


def test_an_error_is_the_end_of_all_choices() -> None:
    telling = Telling(OpenAIReader(), 2)
    telling.note([chunk({"content": "a"}, "error"), chunk({"content": "b"}, "stop", index=1)])
    assert telling.finish == "error"


def test_a_single_choice_may_be_numbered_anyhow() -> None:
    telling = Telling(OpenAIReader(), 1)
    telling.note([chunk({"content": "a"}, index=3), chunk({}, "stop", index=4)])
    assert telling.is_told
