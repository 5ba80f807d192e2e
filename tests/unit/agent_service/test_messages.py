"""Whatever happened to a thread, a provider is shown a sound history."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

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
from routing.config import ModelCard, ProviderSpec
from routing.providers.gemini import NO_SIGNATURE, Gemini
from routing.providers.openai_compatible import OpenAIChat
from routing.types import ChatChunk, RouteDecision
from routing.usage import Tokens
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


def from_gemini(*parts: dict[str, Any]) -> AnswerBuilder:
    reader = Gemini().reader("up", ModelCard(id="m1"))
    builder = AnswerBuilder()
    candidates = [{"content": {"parts": [part]}} for part in parts]
    for each in [*candidates, {"finishReason": "STOP"}]:
        for piece in reader.read(ChatChunk(b"", {"candidates": [each]})) or ():
            builder.add(piece)
    return builder


def stored(message: AIMessage) -> AIMessage:
    """After a checkpoint and a restart."""
    serde = JsonPlusSerializer()
    back: AIMessage = serde.loads_typed(serde.dumps_typed(message))
    return back


LOOK = {"functionCall": {"id": "c1", "name": "read_file", "args": {"filepath": "a"}}}


@pytest.mark.parametrize("same", [True, False])
def test_a_signature_comes_back_to_the_model_that_gave_it_and_to_no_other(same: bool) -> None:
    builder = from_gemini(
        {"text": "I look.", "thoughtSignature": "dGV4dA=="}, {**LOOK, "thoughtSignature": "Y2FsbA=="}
    )
    message = stored(builder.message(set(), DECISION))
    results: list[AnyMessage] = [HumanMessage("begin"), message, ToolMessage("found", tool_call_id="c1")]
    history = {"messages": to_chat_messages("system", results)}
    spec = ProviderSpec(name="up" if same else "down", protocol="gemini", base_url="https://e.com")
    sent = Gemini().request(spec, ModelCard(id="m1"), history, stream=False)
    said, called = sent["contents"][1]["parts"]
    assert said.get("thoughtSignature") == ("dGV4dA==" if same else None)
    assert called["thoughtSignature"] == ("Y2FsbA==" if same else NO_SIGNATURE)
    elsewhere = ProviderSpec(name="other", base_url="https://e.com")
    plain = OpenAIChat().request(elsewhere, ModelCard(id="gpt"), history, stream=False)
    assert "extra_content" not in json.dumps(plain)


def test_a_call_that_gets_another_id_keeps_its_signature() -> None:
    call = {"functionCall": {"id": "bad id", "name": "f", "args": {}}, "thoughtSignature": "Y2FsbA=="}
    message = from_gemini(call).message(set(), DECISION)
    (shown,) = to_chat_messages("", [HumanMessage("x"), message])[2]["tool_calls"]
    assert shown["id"] != "bad id"
    assert shown["extra_content"] == {"google": {"thought_signature": "Y2FsbA=="}, "given_by": "up/m1"}


def test_thoughts_that_led_to_calls_are_told_again_until_the_task_is_done() -> None:
    """DeepSeek's thinking models refuse a round of calls without them."""
    builder = AnswerBuilder()
    builder.add(chunk({"reasoning_content": "let me "}))
    builder.add(chunk({"reasoning_content": "see"}))
    head = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
    builder.add(chunk({"tool_calls": [head]}))
    message = stored(builder.message(set(), DECISION))
    task: list[AnyMessage] = [HumanMessage("begin"), message, ToolMessage("r", tool_call_id="c1")]
    history = {"messages": to_chat_messages("", task)}
    for name, expected in (("up", "let me see"), ("other", None)):
        spec = ProviderSpec(name=name, base_url="https://e.com")
        sent = OpenAIChat().request(spec, ModelCard(id="m1"), history, stream=False)
        assert sent["messages"][2].get("reasoning_content") == expected
        assert "given_by" not in json.dumps(sent)
    later = to_chat_messages("", [*task, AIMessage("done"), HumanMessage("and now?")])
    assert "reasoning_content" not in json.dumps(later)


@pytest.mark.parametrize("extra", ["text", {"google": {"thought_signature": "x" * 70_000}}, {"n": 2**70}])
def test_what_cannot_be_kept_is_no_signature(extra: Any) -> None:
    builder = AnswerBuilder()
    builder.add(chunk({"content": "hi", "extra_content": extra}))
    assert builder.message(set(), DECISION).additional_kwargs == {}


def test_the_tokens_of_an_answer_are_counted_with_those_of_the_cache() -> None:
    details = {"cached_tokens": 60, "cache_write_tokens": 20}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": details}
    builder = AnswerBuilder()
    builder.add(ChatChunk(b"", {"choices": [], "usage": usage}))
    assert builder.tokens == Tokens(100, 10, cached=60, cache_written=20)


def test_details_of_thoughts_are_put_together_again() -> None:
    """As OpenRouter streams them, and wants them back for models that sign what they think."""
    builder = AnswerBuilder()
    text = {"type": "reasoning.text", "index": 0, "id": None, "signature": None}
    for piece in ({"text": "let me "}, {"text": "see"}, {"text": "", "signature": "c2ln"}):
        builder.add(chunk({"reasoning_details": [{**text, **piece}]}))
    secret = {"type": "reasoning.encrypted", "index": 1, "data": "ZGF0YQ==", "id": "r1"}
    builder.add(chunk({"reasoning_details": [secret, "nonsense"]}))
    builder.add(chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]}))
    message = stored(builder.message(set(), DECISION))
    history = {"messages": to_chat_messages("", [HumanMessage("begin"), message])}
    for name, expected in (
        ("up", [{**text, "text": "let me see", "signature": "c2ln"}, secret]),
        ("x", None),
    ):
        spec = ProviderSpec(name=name, base_url="https://e.com")
        sent = OpenAIChat().request(spec, ModelCard(id="m1"), history, stream=False)
        assert sent["messages"][2].get("reasoning_details") == expected
