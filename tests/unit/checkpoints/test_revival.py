"""Messages made in the short way: the very objects that the serialiser makes, whatever was stored."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2, JsonPlusSerializer
from langgraph.types import Send

from checkpoints.revival import MSGPACK, _no_collection, revive
from checkpoints.values import Changed, pack, start_of_run, unpack_run

SERDE = JsonPlusSerializer(allowed_msgpack_modules=None)
CALL = {"name": "t", "args": {"a": [1, None]}, "id": "c1", "type": "tool_call"}
USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
MESSAGES = [
    HumanMessage("text", id="1"),
    HumanMessage([{"type": "text", "text": "of parts"}, "and text"], name="n"),
    HumanMessage("text", extra="field", additional_kwargs={"k": {1: 2}}),
    SystemMessage("\u00e4 \U0001f600", response_metadata={"model": "m"}),
    AIMessage("", tool_calls=[CALL, CALL | {"id": None}], usage_metadata=USAGE),
    AIMessage("", invalid_tool_calls=[{"name": "t", "args": "{", "id": "c", "error": "cut off"}]),
    AIMessage(
        "", additional_kwargs={"tool_calls": [{"function": {"name": "f", "arguments": "{}"}, "id": "c"}]}
    ),
    AIMessageChunk(content="part", id="2"),
    ToolMessage("done", tool_call_id="c1", name="t", status="error", artifact={"send": Send("node", 1)}),
    ToolMessage([{"type": "text", "text": "done"}], tool_call_id="c1"),
    ChatMessage(content="text", role="somebody"),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def bare(value: Any) -> Any:
    """All there is to an object, its type and the order of its fields too."""
    if isinstance(value, BaseMessage):
        return type(value), [(name, bare(each)) for name, each in value.__getstate__().items()]
    if isinstance(value, dict):
        return [(key, bare(each)) for key, each in value.items()]
    return [bare(each) for each in value] if isinstance(value, list) else (type(value), value)


def outcome(make: Callable[[], Any]) -> Any:
    """What it makes, or that it fails."""
    try:
        return bare(make())
    except ValueError:
        return ValueError


def assert_the_same(data: bytes) -> None:
    """That of the short way comes what comes of the serialiser's."""
    assert outcome(lambda: revive(SERDE, data)) == outcome(lambda: SERDE.loads_typed((MSGPACK, data)))


def stored(module: Any, name: Any, *rest: Any) -> bytes:
    """Something in the form in which the serialiser stores objects of pydantic's classes."""
    packed = ormsgpack.packb((module, name, *rest), option=ormsgpack.OPT_NON_STR_KEYS)
    return ormsgpack.packb(ormsgpack.Ext(EXT_PYDANTIC_V2, packed))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_are_what_they_were(message: BaseMessage) -> None:
    _, data = SERDE.dumps_typed([message, {"within": message}])
    assert_the_same(data)
    assert revive(SERDE, data) == [message, {"within": message}]


@settings(deadline=None)
@given(
    st.sampled_from(MESSAGES),
    st.dictionaries(st.sampled_from([*AIMessage.model_fields, "content_blocks", "self", "x"]), ANYTHING),
    st.sets(st.sampled_from([*ToolMessage.model_fields])),
)
def test_fields_of_any_kind_make_the_same(
    message: BaseMessage, changed: dict[str, Any], dropped: set[str]
) -> None:
    fields = {k: v for k, v in message.model_dump().items() if k not in dropped and k != "artifact"} | changed
    assert_the_same(stored(type(message).__module__, type(message).__name__, fields, "model_validate_json"))


@settings(deadline=None)
@given(st.lists(ANYTHING, max_size=5))
def test_what_is_no_message_makes_the_same(parts: list[Any]) -> None:
    assert_the_same(ormsgpack.packb(ormsgpack.Ext(EXT_PYDANTIC_V2, ormsgpack.packb(parts))))
    assert_the_same(stored("langchain_core.messages.human", "HumanMessage", *parts))
    assert_the_same(ormsgpack.packb(ormsgpack.Ext(EXT_PYDANTIC_V2, b"\xc1")))


def test_a_class_that_is_not_allowed_is_not_made() -> None:
    data = stored("tests.unit.checkpoints.notes", "Note", {"content": "x"}, "model_validate_json")
    assert revive(SERDE, data) == {"content": "x"}


def test_what_is_made_here_every_serialiser_makes() -> None:
    for kind in (AIMessage, HumanMessage, SystemMessage, ToolMessage):
        assert (kind.__module__, kind.__name__) in _msgpack.SAFE_MSGPACK_TYPES


def test_collection_goes_on_afterwards() -> None:
    with pytest.raises(ormsgpack.MsgpackDecodeError):
        revive(SERDE, b"\xc1")
    assert gc.isenabled()


def test_collection_goes_on_whoever_ends_last() -> None:
    first, second = _no_collection(), _no_collection()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_collection_goes_on_though_another_turned_it_off_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _no_collection(), _no_collection()

    def interrupted() -> bool:
        monkeypatch.undo()
        first.__exit__(None, None, None)  # between the question and what follows from it
        return False

    first.__enter__()
    monkeypatch.setattr(gc, "isenabled", interrupted)
    second.__enter__()
    second.__exit__(None, None, None)
    assert gc.isenabled()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40) | st.text(max_size=40), min_size=1, max_size=9), st.data())
def test_one_checksum_holds_for_a_run_and_finds_each_change(values: list[Any], data: st.DataObject) -> None:
    rows = [pack(MSGPACK, ormsgpack.packb(value)) for value in values]
    run = b"".join([start_of_run(len(rows)), *(row.data for row in rows)])
    assert unpack_run(SERDE, run) == values
    at = data.draw(st.integers(len(start_of_run(0)), len(run) - 1))
    flipped = data.draw(st.integers(1, 255))
    with pytest.raises(Changed):
        unpack_run(SERDE, run[:at] + bytes([run[at] ^ flipped]) + run[at + 1 :])
