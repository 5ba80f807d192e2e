"""Messages made from their stored form in little more than half the serialiser's time, and no differently.

For each message of a thread the serialiser imports a module and goes through three constructors that hand
their arguments on to the class's validator. Of the classes here that validator is called at once. All else,
and whatever it finds fault with, is the serialiser's.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_PYDANTIC_V2

MSGPACK = "msgpack"
"""The serialiser's name for what it makes of nearly everything."""
_OPTION = ormsgpack.OPT_NON_STR_KEYS
_KNOWN = {
    (each.__module__, each.__name__): (
        each,
        each.__pydantic_validator__.validate_python,
        {*each.model_fields},
    )
    for each in (AIMessage, HumanMessage, SystemMessage, ToolMessage)
}
"""Every serialiser makes these, whatever its list of allowed classes says."""


def revive(serde: SerializerProtocol, data: bytes) -> Any:
    """What `serde`, a JsonPlusSerializer, makes of that msgpack. Raises what it raises."""

    def make(code: int, inner: bytes) -> Any:
        if code == EXT_PYDANTIC_V2:
            try:
                module, name, fields, _ = ormsgpack.unpackb(inner, ext_hook=make, option=_OPTION)
                kind, validate, names = _KNOWN[module, name]
                if fields.keys() == names:  # the constructors give others a meaning of their own
                    return validate(fields, self_instance=kind.__new__(kind))
            except Exception:  # noqa: BLE001 - whatever it was, the serialiser knows what to do about it
                pass
        return serde.loads_typed((MSGPACK, ormsgpack.packb(ormsgpack.Ext(code, inner))))

    with _no_collection():
        return ormsgpack.unpackb(data, ext_hook=make, option=_OPTION)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Thousands of new objects set off Python's collector again and again, and not one of them is garbage.

    What msgpack's documentation advises for long messages (https://github.com/msgpack/msgpack-python).
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
