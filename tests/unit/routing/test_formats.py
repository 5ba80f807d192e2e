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
from tests.dialects import DIALECTS
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
        assert {"messages", "tools", "max_tokens"}.isdisjoint(spec.unsupported)


@each_translation
@settings(max_examples=40)
@given(text=st.text(max_size=30), arguments=st.dictionaries(st.text(max_size=9), st.text(), max_size=4))
def test_streamed_and_whole_say_the_same(wire: WireFormat, text: str, arguments: dict[str, str]) -> None:
    dialect = next(each for each in DIALECTS.values() if FORMATS[each.spec(NOWHERE).protocol] is type(wire))
    exchange = dialect.answer(text, (("call_1", "f", arguments),), "tool_calls")
    message = wire.answer("acme", CARD, dict(exchange.whole))["choices"][0]["message"]
    reader = wire.reader("acme", CARD)
    said, written = "", ""
    for _, data in exchange.events:
        for chunk in reader.read(ChatChunk(b"", dict(data))) or ():  # type: ignore[arg-type]
            said += chunk.delta.get("content") or ""
            for piece in chunk.delta.get("tool_calls") or ():
                written += piece["function"]["arguments"]
    assert said == (message["content"] or "") == text
    assert json.loads(written) == json.loads(message["tool_calls"][0]["function"]["arguments"]) == arguments
