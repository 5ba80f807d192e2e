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
from itertools import product
from types import NoneType
from typing import Any

import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2

MSGPACK = "msgpack"
"""The serialiser's name for what it makes of nearly everything."""
_OPTION = ormsgpack.OPT_NON_STR_KEYS
_CALL = ("name", "args", "id", "type")
_ANY_TEXT = (str, NoneType)
_ORDINARY: dict[str, tuple[type, ...]] = {
    "content": (str,),
    "additional_kwargs": (dict,),
    "response_metadata": (dict,),
    "type": (str,),
    "name": _ANY_TEXT,
    "id": _ANY_TEXT,
    "tool_calls": (list,),
    "invalid_tool_calls": (list,),
    "usage_metadata": (NoneType,),
    "tool_call_id": (str,),
    "artifact": (NoneType, str, dict, list),
    "status": (str,),
}
"""The types of a message's fields that its validator leaves as they are, as far as a type can tell."""
_set = object.__setattr__
"""As pydantic's own `__setstate__` does it."""


def _is_ordinary_ai(fields: dict[str, Any]) -> bool:
    return (
        not fields["additional_kwargs"]  # the validator would look for calls in it
        and not fields["invalid_tool_calls"]
        and all(map(_is_ordinary_call, fields["tool_calls"]))
    )


def _is_ordinary_call(call: Any) -> bool:
    return (
        type(call) is dict
        and tuple(call) == _CALL
        and type(call["name"]) is str
        and type(call["args"]) is dict
        and {*map(type, call["args"])} <= {str}
        and type(call["id"]) in _ANY_TEXT
        and call["type"] == "tool_call"
    )


def _is_ordinary_result(fields: dict[str, Any]) -> bool:
    return fields["status"] in ("success", "error")


class _Class:
    """A class of messages, with what a message needs to be made of its fields."""

    def __init__(self, kind: Any, name: str, is_ordinary: Callable[[dict[str, Any]], bool]) -> None:
        self.kind = kind
        self._name = name
        self._is_ordinary = is_ordinary
        self._validate = kind.__pydantic_validator__.validate_python
        self.order = tuple(kind.model_fields)
        self._names = {*self.order}
        self._types = {*product(*(_ORDINARY.get(each, ()) for each in self.order))}

    def make(self, fields: dict[str, Any]) -> Any:
        """The message. Raises what the validator raises."""
        made = self.kind.__new__(self.kind)
        if (
            tuple(map(type, fields.values())) not in self._types
            or fields["type"] != self._name
            or not self._is_ordinary(fields)
        ):
            return self._validate(fields, self_instance=made)
        _set(made, "__dict__", fields)
        _set(made, "__pydantic_fields_set__", self._names.copy())
        _set(made, "__pydantic_extra__", {})
        _set(made, "__pydantic_private__", None)
        return made


_KNOWN = {
    (known.kind.__module__, known.kind.__name__): known
    for known in (
        _Class(AIMessage, "ai", _is_ordinary_ai),
        _Class(HumanMessage, "human", lambda _: True),
        _Class(SystemMessage, "system", lambda _: True),
        _Class(ToolMessage, "tool", _is_ordinary_result),
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
