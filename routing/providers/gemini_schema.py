"""JSON schemas cut down to what Gemini takes: other keywords make it refuse the whole request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PLAIN = frozenset(
    {
        "$anchor",
        "$id",
        "$ref",
        "description",
        "enum",
        "format",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "propertyOrdering",
        "required",
        "title",
        "type",
    }
)
_OF_ONE = frozenset({"additionalProperties", "items"})
_OF_A_LIST = frozenset({"anyOf", "oneOf", "prefixItems"})
_OF_NAMES = frozenset({"$defs", "properties"})
"""Keywords that hold plain values, a schema, a list of schemas, and schemas by name.

Source: the documentation of `response_json_schema` in Google's SDK google-genai 3.4."""


def cleaned(schema: Any) -> Any:
    """The schema in Gemini's subset; what can be said in it otherwise stays (`const`, `allOf`, ...)."""
    if not isinstance(schema, Mapping):
        return schema
    clean: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _PLAIN:
            clean[name] = value.replace("#/definitions/", "#/$defs/") if name == "$ref" else value
        elif name in _OF_ONE:
            clean[name] = cleaned(value)
        elif name in _OF_A_LIST:
            clean[name] = [cleaned(each) for each in value]
        elif name in _OF_NAMES or name == "definitions":
            place = "$defs" if name == "definitions" else name
            clean[place] = {key: cleaned(each) for key, each in value.items()}
        elif name == "const":
            clean["enum"] = [value]
    for each in schema.get("allOf") or ():
        clean = _both(cleaned(each), clean)
    return clean


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """One schema that asks for what either asks for, as far as objects go."""
    both = {**first, **second}
    if properties := {**first.get("properties", {}), **second.get("properties", {})}:
        both["properties"] = properties
    if required := [*first.get("required", []), *second.get("required", [])]:
        both["required"] = list(dict.fromkeys(required))
    return both
