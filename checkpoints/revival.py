"""Messages made from their stored form in half the serialiser's time, and no differently.

For each message of a thread the serialiser imports a module and goes through three constructors that hand
their arguments on to the class's validator. Of the classes here that validator is called at once; and where
it would change nothing, the message gets its fields as pickle would give them. All else, and whatever the
validator finds fault with, is the serialiser's.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2

MSGPACK = "msgpack"
"""The serialiser's name for what it makes of nearly everything."""
_OPTION = ormsgpack.OPT_NON_STR_KEYS
_CALL = ("name", "args", "id", "type")


def _is_ordinary(kind: str, fields: dict[str, Any]) -> bool:
    """Whether the validator would leave what messages have in common as it is."""
    return (
        type(fields["content"]) is str
        and type(fields["additional_kwargs"]) is dict
        and type(fields["response_metadata"]) is dict
        and fields["type"] == kind
        and _is_text_or_none(fields["name"])
        and _is_text_or_none(fields["id"])
    )


def _is_ordinary_ai(fields: dict[str, Any]) -> bool:
    return (
        _is_ordinary("ai", fields)
        and not fields["additional_kwargs"]  # the validator would look for calls in it
        and fields["invalid_tool_calls"] == []
        and fields["usage_metadata"] is None
        and type(fields["tool_calls"]) is list
        and all(map(_is_ordinary_call, fields["tool_calls"]))
    )


def _is_ordinary_call(call: Any) -> bool:
    return (
        type(call) is dict
        and tuple(call) == _CALL
        and type(call["name"]) is str
        and type(call["args"]) is dict
        and {*map(type, call["args"])} <= {str}
        and _is_text_or_none(call["id"])
        and call["type"] == "tool_call"
    )


def _is_ordinary_result(fields: dict[str, Any]) -> bool:
    return (
        _is_ordinary("tool", fields)
        and type(fields["tool_call_id"]) is str
        and fields["status"] in ("success", "error")
    )


def _is_text_or_none(value: Any) -> bool:
    return value is None or type(value) is str


class _Class:
    """A class of messages, with what a message needs to be made of its fields."""

    def __init__(self, kind: Any, is_ordinary: Callable[[dict[str, Any]], bool]) -> None:
        self.kind = kind
        self._is_ordinary = is_ordinary
        self._validate = kind.__pydantic_validator__.validate_python
        self._names = {*kind.model_fields}
        self.order = tuple(kind.model_fields)

    def make(self, fields: dict[str, Any]) -> Any:
        """The message. Raises what the validator raises."""
        made = self.kind.__new__(self.kind)
        if not self._is_ordinary(fields):
            return self._validate(fields, self_instance=made)
        made.__setstate__(
            {
                "__dict__": fields,
                "__pydantic_fields_set__": self._names.copy(),
                "__pydantic_extra__": {},
                "__pydantic_private__": None,
            }
        )
        return made


_KNOWN = {
    (known.kind.__module__, known.kind.__name__): known
    for known in (
        _Class(AIMessage, _is_ordinary_ai),
        _Class(HumanMessage, partial(_is_ordinary, "human")),
        _Class(SystemMessage, partial(_is_ordinary, "system")),
        _Class(ToolMessage, _is_ordinary_result),
    )
}
"""Every serialiser makes these, whatever its list of allowed classes says."""


def revive(serde: SerializerProtocol, data: bytes) -> Any:
    """What `serde`, a JsonPlusSerializer, makes of that msgpack. Raises what it raises."""

    def make(code: int, inner: bytes) -> Any:
        if code == EXT_PYDANTIC_V2:
            try:
                module, name, fields, _ = ormsgpack.unpackb(inner, ext_hook=make, option=_OPTION)
                known = _KNOWN[module, name]
                if tuple(fields) == known.order:  # the constructors give others a meaning of their own
                    return known.make(fields)
            except Exception:  # noqa: BLE001 - whatever it was, the serialiser knows what to do about it
                pass
        return serde.loads_typed((MSGPACK, ormsgpack.packb(ormsgpack.Ext(code, inner))))

    with _no_collection():
        return ormsgpack.unpackb(data, ext_hook=make, option=_OPTION)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Thousands of new objects set off Python's collector again and again, and not one of them is garbage.

    What msgpack's documentation advises for long messages (https://github.com/msgpack/msgpack-python). Many
    threads may come here at once: only who finds it on turns it off, and then on again.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
