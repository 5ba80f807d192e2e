"""Whatever happened to a thread, a provider is shown a sound history."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from agent_service.agent.messages import (
    SUMMARY_LENGTH,
    AnswerBuilder,
    dangling_calls,
    in_a_few_words,
    known_call_ids,
    raw_arguments,
    to_chat_messages,
    unanswered_calls,
)
from routing.types import ChatChunk, RouteDecision
from tests.history import objection

DECISION = RouteDecision("up", "m1")


def chunk(delta: dict[str, Any], finish: str | None = None) -> ChatChunk:
    return ChatChunk(b"", {"choices": [{"delta": delta, "finish_reason": finish}]})


def built(*calls: tuple[str, str, str], known: set[str] | None = None) -> AIMessage:
    builder = AnswerBuilder()
    for index, (call_id, name, arguments) in enumerate(calls):
        head = {"index": index, "id": call_id, "function": {"name": name, "arguments": ""}}
        builder.add(chunk({"tool_calls": [head]}))
        for part in (arguments[:3], arguments[3:]):
            builder.add(chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}))
    return builder.message(known or set(), DECISION)


IDS = st.sampled_from(["", "a", "b", "same", "x" * 65, "bad id", "ok-1"])
NAMES = st.sampled_from(["read_file", "", "odd name!", "n" * 100])
ARGUMENTS = st.sampled_from(
    ['{"filepath": "a"}', "", "{", "[]", "null", '{"n": NaN}', '{"s": "\\ud800"}', '{"n": 1e999}']
)
ANSWERS = st.lists(st.tuples(IDS, NAMES, ARGUMENTS), min_size=1, max_size=4)


@given(st.lists(st.tuples(ANSWERS, st.sets(st.integers(0, 3)), st.booleans()), max_size=5))
def test_every_history_is_sound(turns: list[tuple[list[tuple[str, str, str]], set[int], bool]]) -> None:
    messages: list[AnyMessage] = [HumanMessage("begin")]
    for calls, answered, interrupted in turns:
        answer = built(*calls, known=known_call_ids(messages))
        messages.append(answer)
        results = [
            ToolMessage("r", tool_call_id=c["id"] or "")
            for i, c in enumerate(answer.tool_calls)
            if i in answered
        ]
        messages += reversed(results)
        if interrupted:
            messages.append(HumanMessage("and now this"))
    messages.append(HumanMessage("go on"))
    assert objection({"model": "m", "messages": to_chat_messages("be good", messages)}) is None
    dangling = dangling_calls(messages)
    repaired = [*messages, *(ToolMessage("late", tool_call_id=each) for each in dangling)]
    assert dangling_calls(repaired) == []


@given(st.text(max_size=40))
def test_any_arguments_can_be_stored_and_given_back(text: str) -> None:
    [call] = built(("a", "t", text)).tool_calls
    given_back = raw_arguments(call["args"])
    if isinstance(given_back, str):
        assert given_back == text.encode("utf-8", "replace").decode()
    given_back.encode() if isinstance(given_back, str) else str(given_back)


def test_unanswered_calls_are_those_of_the_last_answer() -> None:
    answer = built(("a", "t", "{}"), ("b", "t", "{}"))
    history: list[AnyMessage] = [HumanMessage("x"), answer, ToolMessage("r", tool_call_id="a")]
    assert [c["id"] for c in unanswered_calls(history)] == ["b"]
    assert unanswered_calls([*history, HumanMessage("new")]) == []
    assert unanswered_calls([HumanMessage("x")]) == []


def test_what_failed_is_not_shown_in_full_length_again() -> None:
    answer = built(("a", "write_file", '{"content": "' + "x" * 50_000 + '"}'))
    failed: list[AnyMessage] = [HumanMessage("x"), answer, ToolMessage("Error: no", tool_call_id="a")]
    assert len(str(to_chat_messages("s", failed))) < 2_000
    worked: list[AnyMessage] = [HumanMessage("x"), answer, ToolMessage("done", tool_call_id="a")]
    assert len(str(to_chat_messages("s", worked))) > 50_000


def test_a_message_in_a_few_words() -> None:
    calls = built(("a", "read_file", '{"filepath": "a.txt"}'), ("b", "list_files", "{}"), ("c", "x", "{"))
    assert in_a_few_words(calls) == "read_file(a.txt), list_files(), x(?)"
    assert (
        in_a_few_words(ToolMessage("two\nlines", tool_call_id="a", name="read_file"))
        == "read_file: two lines"
    )
    assert in_a_few_words(AIMessage("")) == ""


@given(st.text(max_size=500))
def test_few_words_are_one_short_line(text: str) -> None:
    found = in_a_few_words(HumanMessage(text))
    assert len(found) <= SUMMARY_LENGTH
    assert found == " ".join(found.split())
