"""What is a sign of life in a stream, and when an answer of several choices is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
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
from routing.types import ChatChunk
from tests.unit.routing.room import USAGE


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def telling(reader: EventReader, wanted: int = 1, secrets: tuple[str, ...] = ()) -> Telling:
    def fault(error: Any) -> ProviderError:
        return ProviderUnavailable("acme", str(error))

    return Telling(reader, wanted, lambda data: data.get("error"), fault, secrets)


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "rm", "arguments": '{"path":"/srv'}}
LAST = {"index": 0, "function": {"arguments": '"}'}}
LOST = [
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"/\xff"}}]}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
    b'data: {"choices":[{"index":0,"del\n\n',
    b'data: {"choices": "nope"}\n\n',
    b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
    b'data: {"choices": [5]}\n\n',
    b'data: {"choices":[{"delta":{"content":"x","tool_calls": [],"function_call":null}}\n\n',
]
NO_PART = [b"data:\n\n", b"data: ping\n\n", b"data: null\n\n", b'data: {"type": "ping"}\n\n', b": hm\n\n"]


def broken(answer: Telling) -> bool:
    """Whether what was heard last broke it off."""

    async def scenario() -> bool:
        with closing(Patience(asyncio.get_running_loop().time() + 1, 1)) as patience:
            try:
                answer.pause(patience)
            except ValueError:
                return True
            return False

    return asyncio.run(scenario())


def text_of(chunks: Sequence[ChatChunk]) -> str:
    return "".join(each.delta.get("content") or "" for each in chunks)


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("after", [event(chunk({"tool_calls": [LAST]})), b"data: [DONE]\n\n", None])
def test_a_call_of_which_a_part_is_lost_breaks_the_answer_off(lost: bytes, after: bytes | None) -> None:
    answer = telling(OpenAIReader())
    answer.hear(event(chunk({"tool_calls": [CALL]})))
    assert not broken(answer)
    assert not answer.hear(lost)
    assert not (answer.hear(None) if after is None else answer.hear(after))
    assert broken(answer)


@pytest.mark.parametrize("lost", LOST[2:])
@pytest.mark.parametrize("call", [chunk({"tool_calls": [CALL]}), chunk({}, "tool_calls")])
def test_what_was_lost_before_a_call_may_have_been_a_part_of_it(lost: bytes, call: dict[str, Any]) -> None:
    answer = telling(OpenAIReader())
    assert len(answer.hear(event(chunk({"content": "a"})) + lost + event(call))) == 1
    assert broken(answer)


def test_a_lost_line_that_holds_a_call_breaks_the_answer_off() -> None:
    answer = telling(OpenAIReader())
    assert not answer.hear(LOST[0] + event(chunk({"content": "a"}, "stop")))
    assert broken(answer)


@pytest.mark.parametrize("line", LOST[1:])
def test_a_lost_line_does_not_end_a_text(line: bytes) -> None:
    answer = telling(OpenAIReader())
    chunks = answer.hear(event(chunk({"content": "a"})) + line + event(chunk({"content": "b"}, "stop")))
    assert text_of(chunks) == ("a\ufffdb" if line is LOST[1] else "ab")
    assert not broken(answer)


@pytest.mark.parametrize("line", NO_PART)
def test_what_is_no_part_of_the_answer_is_missed_by_no_call(line: bytes) -> None:
    answer = telling(OpenAIReader())
    pieces = [chunk({"tool_calls": [CALL]}), chunk({"tool_calls": [LAST]}), chunk({}, "tool_calls")]
    assert len(answer.hear(line.join(map(event, pieces)))) == 3
    answer.hear(LOST[2] + b"data: [DONE]\n\n")  # nor what comes when all is said
    assert not broken(answer)
    assert answer.is_over


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("delta", [{"content": "hi"}, {"tool_calls": [CALL]}])
def test_an_event_may_have_several_lines(delta: dict[str, Any], end: bytes) -> None:
    lines = orjson.dumps(chunk(delta), option=orjson.OPT_INDENT_2).splitlines()
    text = b"".join(b"data: " + line + end for line in lines) + end
    answer = telling(OpenAIReader())
    first, second = answer.hear(text * 2)
    assert first.data == second.data == chunk(delta)
    assert orjson.loads(first.raw) == chunk(delta) and b"\n" not in first.raw
    assert not broken(answer)
    assert not answer.hear(text[: len(text) // 2])
    assert [each.data for each in answer.hear(text[len(text) // 2 :])] == [chunk(delta)]


@pytest.mark.parametrize("line", [b"data: {\n", b'data: {"a": 1}}\n', b"data: " + b"{" * 1000 + b"\n"])
def test_lines_that_never_become_an_event_are_given_up(line: bytes) -> None:
    answer = telling(OpenAIReader())
    chunks = answer.hear(line * 1000 + b"\n" + event(chunk({"content": "hi"}, "stop")))
    assert text_of(chunks) == "hi"
    assert not broken(answer)


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert text_of(telling(OpenAIReader()).hear(b"\xef\xbb\xbf" + event(chunk({"content": "hi"})))) == "hi"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"detail": "bad key"}, None),
        ({"choices": None}, None),
        ({"id": "a", "x": 1, "usage": USAGE}, {"id": "a", "choices": [], "usage": USAGE}),
        ({"choices": [{"index": 0, "delta": None}], "usage": USAGE}, {**chunk({}), "usage": USAGE}),
        ({"choices": [{"index": 0, "finish_reason": 5}]}, chunk({}, "stop")),
        (
            {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": False}]},
            chunk({"content": "a"}),
        ),
        (
            chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a":1}'}}]}),
        ),
    ],
)
def test_clients_see_chunks_and_nothing_else(data: dict[str, Any], told: dict[str, Any] | None) -> None:
    chunks = telling(OpenAIReader()).hear(event(chunk({"content": "hi"})) + event(data))[1:]
    assert [each.data for each in chunks] == ([] if told is None else [told])
    assert [orjson.loads(each.raw) for each in chunks] == [each.data for each in chunks]


def test_a_secret_is_taken_out_of_what_a_provider_adds_and_nowhere_else() -> None:
    answer = telling(OpenAIReader(), secrets=("sk-mine", "x"))
    quoted = {**chunk({"content": "sk-mine"}), "timings": {"x": 1}}
    first, second, third = answer.hear(
        event(quoted) + event({**quoted, "debug": ["sk-mine"]}) + event(chunk({}, "stop"))
    )
    assert first.data == second.data == quoted and first.raw == event(quoted)[6:-2]
    assert orjson.loads(second.raw) == quoted
    assert third.data == chunk({}, "stop")


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
        (event(chunk({"tool_calls": [CALL]}))[:-9] + b"\n\n", ValueError),
    ],
)
def test_a_fault_comes_after_what_came_before_it(fault: bytes, error: type[Exception]) -> None:
    async def scenario() -> None:
        answer = telling(OpenAIReader())
        with closing(Patience(asyncio.get_running_loop().time() + 1, 1)) as patience:
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
    assert not answer.hear(None)


def test_a_last_event_without_an_end_counts() -> None:
    answer = telling(OpenAIReader())
    assert not answer.hear(event(chunk({"content": "a"}, "stop")).rstrip())
    assert len(answer.hear(None)) == 1


@pytest.mark.parametrize("wanted", [1, 2])
def test_a_chunk_that_is_thrown_away_leaves_no_trace(wanted: int) -> None:
    good, bad = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}, {"delta": {"content": 5}}
    answer = telling(OpenAIReader(), wanted)
    assert not answer.hear(event({"choices": [good, bad]}))
    assert not answer.said and answer.finish is None and not answer.is_told


def test_a_byte_order_mark_hides_no_event() -> None:
    async def scenario() -> None:
        answer = telling(OpenAIReader())
        with closing(Patience(asyncio.get_running_loop().time() + 1, 1)) as patience:
            answer.hear(b'\xef\xbb\xbfevent: error\ndata: {"words": "overloaded"}\n\n')
            with pytest.raises(ProviderUnavailable):
                answer.pause(patience)

    asyncio.run(scenario())
