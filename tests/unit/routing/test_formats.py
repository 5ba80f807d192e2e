"""What all formats have in common when they meet what nobody foresaw."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.config import TAKEN_BY, ModelCard, ProviderSpec
from routing.errors import ProviderError
from routing.fields import OPENAI_CHAT_FIELDS
from routing.providers.formats import FORMATS
from routing.providers.wire_format import WireFormat
from routing.types import ChatChunk
from tests.dialects import DIALECTS, Dialect
from tests.wire_upstream import WireUpstream

CARD = ModelCard(id="m")
MALFORMED = (LookupError, TypeError, AttributeError, ValueError)
WORDS = re.findall(
    r"\S+",
    """
    arguments args blockReason candidates choices content content_block delta error finishReason
    finish_reason function functionCall id image_url index input input_json_delta json_schema
    message message-end message-start message_delta message_start model name output_tokens
    partial_json parts promptFeedback role response_format schema stop_reason text text_delta
    thoughtSignature tokens tool tool-call-delta tool-call-start tool_call_id tool_calls tool_choice
    tool_use tools type url usage usageMetadata user assistant system messages
    """,
)

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=25,
)
objects = st.dictionaries(st.sampled_from(WORDS), values, max_size=6)
each_translation = pytest.mark.parametrize("wire", [FORMATS[each]() for each in TAKEN_BY], ids=TAKEN_BY)
each_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=9)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=9,
)
arguments_of_all_kinds = st.dictionaries(st.text(max_size=9), json_values, max_size=4)
"""What a model may write as the arguments of a call."""
SPEC = ProviderSpec(name="acme", base_url="https://example.com")
NOWHERE = WireUpstream()


@each_translation
@given(data=objects, events=st.lists(objects, max_size=5))
def test_answers_of_any_form_raise_nothing_unforeseen(
    wire: WireFormat, data: dict[str, Any], events: list[dict[str, Any]]
) -> None:
    with contextlib.suppress(ProviderError, *MALFORMED):
        wire.answer("acme", CARD, data)
    with contextlib.suppress(*MALFORMED):
        wire.cards(data)
    wire.error(data)
    wire.status(400, data)
    reader = wire.reader("acme", CARD)
    for event in events:
        with contextlib.suppress(ProviderError, *MALFORMED):
            for chunk in reader.read(ChatChunk(b"", event)) or ():
                assert isinstance(chunk.delta.get("content") or "", str)


@each_translation
@given(body=objects)
def test_requests_of_any_form_raise_nothing_unforeseen(wire: WireFormat, body: dict[str, Any]) -> None:
    with contextlib.suppress(ProviderError, *MALFORMED):
        wire.request(SPEC, CARD, body, stream=True)


def test_a_row_refuses_what_its_format_has_no_words_for() -> None:
    for protocol in FORMATS:
        spec = ProviderSpec(name="a", base_url="https://e.com", protocol=protocol, unsupported={"seed"})
        assert spec.unsupported == {"seed"} | (
            OPENAI_CHAT_FIELDS - TAKEN_BY.get(protocol, OPENAI_CHAT_FIELDS)
        )
        assert ProviderSpec.model_validate(dict(spec)) == spec
        assert {"messages", "max_tokens"}.isdisjoint(spec.unsupported)
        assert ("tools" in spec.unsupported) is (protocol == "replicate")


@each_dialect
@settings(max_examples=40)
@given(text=st.text(max_size=30), arguments=arguments_of_all_kinds)
def test_streamed_and_whole_say_the_same(dialect: Dialect, text: str, arguments: dict[str, Any]) -> None:
    wire = FORMATS[dialect.spec(NOWHERE).protocol]()
    exchange = dialect.answer(text, (("call_1", "f", arguments),), "tool_calls")
    message = wire.answer("acme", CARD, dict(exchange.whole))["choices"][0]["message"]
    reader = wire.reader("acme", CARD)
    said, written = "", ""
    for _, data in exchange.events:
        if data == "[DONE]":
            break
        for chunk in reader.read(ChatChunk(b"", dict(data))) or ():  # type: ignore[arg-type]
            said += chunk.delta.get("content") or ""
            for piece in chunk.delta.get("tool_calls") or ():
                written += piece["function"]["arguments"]
    assert said == (message.get("content") or "") == text
    assert json.loads(written) == json.loads(message["tool_calls"][0]["function"]["arguments"]) == arguments


@each_dialect
@settings(max_examples=40)
@given(name=names, arguments=arguments_of_all_kinds)
def test_calls_go_back_as_they_came(dialect: Dialect, name: str, arguments: dict[str, Any]) -> None:
    """What a model wrote is what it is shown of its call in the next turn, to the last digit."""
    spec = dialect.spec(NOWHERE)
    wire = FORMATS[spec.protocol]()
    answer = wire.answer(
        "acme", CARD, dict(dialect.answer("", (("call_1", name, arguments),), "tool_calls").whole)
    )
    message = answer["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "done"}
    history = [{"role": "user", "content": "go"}, message, result]
    sent = wire.request(spec, CARD, {"messages": history}, stream=False)
    assert message["tool_calls"][0]["function"]["name"] == name
    assert called_with(sent) == arguments


@each_dialect
@settings(max_examples=40)
@given(arguments=arguments_of_all_kinds, indent=st.sampled_from([None, 1]), cut=st.integers(0, 40))
def test_arguments_that_are_streamed_as_text_pass_byte_for_byte(
    dialect: Dialect, arguments: dict[str, Any], indent: int | None, cut: int
) -> None:
    """However they are written, and wherever they are cut."""
    written = json.dumps(arguments, ensure_ascii=False, indent=indent)
    events = events_of_a_call(dialect.protocol, written[:cut], written[cut:])
    reader = FORMATS[dialect.spec(NOWHERE).protocol]().reader("acme", CARD)
    passed = ""
    for event in events:
        for chunk in reader.read(ChatChunk(json.dumps(event).encode(), event)) or ():
            assert json.loads(chunk.raw) == chunk.data
            for piece in chunk.delta.get("tool_calls") or ():
                passed += piece["function"].get("arguments") or ""
    assert passed == (written if events else "")


def events_of_a_call(protocol: str, *pieces: str) -> list[dict[str, Any]]:
    """The call as it is streamed; nothing for Google's formats, where the arguments come as an object."""
    if protocol == "anthropic-messages":
        block = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        start = {"type": "content_block_start", "index": 0, "content_block": block}
        return [start, *({"type": "content_block_delta", "index": 0, "delta": each} for each in deltas)]
    if protocol == "cohere-chat":
        begun = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
        pieced = [{"function": {"arguments": piece}} for piece in pieces]
        start = {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": begun}}}
        further = [{"message": {"tool_calls": call}} for call in pieced]
        return [start, *({"type": "tool-call-delta", "index": 0, "delta": each} for each in further)]
    if protocol in ("openai-chat", "azure-openai"):
        calls: list[Any] = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
        return [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls]
    return []


def called_with(request: dict[str, Any]) -> Any:
    """The arguments of the one call in a request's history, in whatever format."""
    for turn in request.get("contents") or request["messages"]:
        for call in turn.get("tool_calls") or ():
            return json.loads(call["function"]["arguments"])
        parts = turn.get("parts") or turn.get("content")
        for part in parts if isinstance(parts, list) else ():
            if part.get("type") == "tool_use":
                return part["input"]
            if call := part.get("functionCall"):
                return call["args"]
    raise AssertionError("there is no call")
