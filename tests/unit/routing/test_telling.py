"""What is a sign of life in a stream, and when an answer of several choices is whole."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from routing.config import ModelCard
from routing.errors import ProviderError, ProviderUnavailable
from routing.providers.anthropic_messages import AnthropicReader
from routing.providers.openai_compatible import OpenAIReader
from routing.providers.telling import Telling
from routing.providers.wire_format import EventReader
from routing.transport import Patience


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def telling(reader: EventReader, wanted: int = 1) -> Telling:
    def error_in(data: dict[str, Any], *, is_one: bool) -> ProviderError | None:
        return ProviderUnavailable("acme", str(data)) if is_one or "error" in data else None

    return Telling(reader, wanted, error_in)


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


@pytest.mark.parametrize(
    ("data", "alive"),
    [
        (chunk({"role": "assistant", "content": ""}), False),
        (chunk({"role": "assistant", "content": None, "tool_calls": []}), False),
        ({"choices": []}, False),
        ({"type": "ping"}, False),
        (chunk({"content": "hi"}), True),
        (chunk({"content": "", "reasoning_content": "hm"}), True),
        (chunk({"tool_calls": [{"index": 0}]}), True),
        (chunk({}, "stop"), True),
        ({"choices": [], "usage": {"total_tokens": 1}}, True),
    ],
)
def test_what_is_a_sign_of_life(data: dict[str, Any], alive: bool) -> None:
    assert bool(telling(OpenAIReader()).hear(event(data))) == alive


def test_what_comes_before_the_first_sign_of_life_comes_with_it() -> None:
    answer = telling(AnthropicReader(ModelCard(id="m")))
    thought = {"type": "thinking", "thinking": ""}
    assert not answer.hear(event({"type": "message_start", "message": {"id": "a"}}))
    block = {"type": "content_block_start", "index": 0, "content_block": thought}
    assert len(answer.hear(event(block))) == 1
    assert not answer.hear(event({"type": "content_block_stop", "index": 0}))


def test_all_choices_that_were_asked_for_must_be_finished() -> None:
    answer = telling(OpenAIReader(), 2)
    answer.hear(event(chunk({"content": "a"})) + event(chunk({}, "stop")))
    assert (answer.finish, answer.is_told) == ("stop", False)
    answer.hear(event(chunk({"content": "b"}, index=1)))
    assert (answer.finish, answer.is_told) == (None, False)
    answer.hear(event(chunk({}, "length", index=1)))
    assert (answer.finish, answer.is_told) == ("length", True)


def test_an_error_is_the_end_of_all_choices() -> None:
    answer = telling(OpenAIReader(), 2)
    answer.hear(event(chunk({"content": "a"}, "error")) + event(chunk({"content": "b"}, "stop", index=1)))
    assert answer.finish == "error"


def test_a_single_choice_may_be_numbered_anyhow() -> None:
    answer = telling(OpenAIReader())
    answer.hear(event(chunk({"content": "a"}, index=3)) + event(chunk({}, "stop", index=4)))
    assert answer.is_told


def test_what_came_together_is_marked_up_to_its_last() -> None:
    answer = telling(OpenAIReader())
    three = b"".join(event(chunk({"content": each})) for each in "abc")
    assert [each.more for each in answer.hear(three[:-2])] == [True, False]
    assert [each.more for each in answer.hear(three[-2:])] == [False]
    assert [each.more for each in answer.hear(three)] == [True, True, False]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (b'data: {"error": "overloaded"}\n\n', ProviderUnavailable),
        (b'event: error\ndata: {"words": "overloaded"}\n\n', ProviderUnavailable),
        (b'data: {"choices": 7}\n\n', ValueError),
    ],
)
def test_a_fault_comes_after_what_came_before_it(fault: bytes, error: type[Exception]) -> None:
    async def scenario() -> None:
        answer = telling(OpenAIReader())
        with Patience(asyncio.get_running_loop().time() + 1, 1) as patience:
            first, second = answer.hear(event(chunk({"content": "a"})) * 2 + fault + event(chunk({}, "stop")))
            assert (first.more, second.more) == (True, False)
            with pytest.raises(error):
                answer.pause(patience)

    asyncio.run(scenario())


def test_what_comes_after_the_end_is_no_part_of_it() -> None:
    answer = telling(OpenAIReader())
    said = event(chunk({"content": "a"}, "stop"))
    assert len(answer.hear(said + b"data: [DONE]\n\n" + said)) == 1
    assert answer.is_over
    assert not answer.hear_rest()


def test_a_last_event_without_an_end_counts() -> None:
    answer = telling(OpenAIReader())
    assert not answer.hear(event(chunk({"content": "a"}, "stop")).rstrip())
    assert len(answer.hear_rest()) == 1
