"""`GET /docs`: the OpenAPI document as one page for reading. It loads nothing and runs nothing."""

from __future__ import annotations

import hashlib
import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()

_METHODS = ("get", "post", "put", "patch", "delete")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid #8886; border-radius: 6px; }
table { border-collapse: collapse; margin: .5rem 0 1rem; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-top: 1px solid #8884; }
details { border: 1px solid #8886; border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 600; }
.dim { opacity: .7; }
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"
    + b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
}

Schema = Mapping[str, Any]


@router.get("/docs", include_in_schema=False)
async def read_docs(request: Request) -> HTMLResponse:
    """Every route with its parameters and bodies, then every shape."""
    return HTMLResponse(page(request.app.openapi()), headers=_HEADERS)


def page(document: Schema) -> str:
    """An OpenAPI document as HTML."""
    info = document["info"]
    return "".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(info["title"])}</title>',
            f"<style>{_STYLE}</style>",
            f'<h1>{_text(info["title"])} <small class="dim">{_text(info["version"])}</small></h1>',
            f"<p>{_prose(info.get('summary'))}</p><p>{_prose(info.get('description'))}</p>",
            '<p>For programs: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>',
            "<h2>Routes</h2>",
            *_routes(document),
            "<h2>Shapes</h2>",
            *(_shape(name, schema) for name, schema in sorted(document["components"]["schemas"].items())),
        ]
    )


def _routes(document: Schema) -> Iterator[str]:
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if operation := operations.get(method):
                title = f'<span class="method">{method.upper()}</span> <code>{_text(path)}</code>'
                yield f"<details><summary>{title} {_prose(operation.get('summary'))}</summary>"
                yield f"<p>{_prose(operation.get('description'))}</p>"
                yield from _parameters(operation)
                yield from _body(operation)
                yield from _answers(operation)
                yield "</details>"


def _parameters(operation: Schema) -> Iterator[str]:
    if parameters := operation.get("parameters"):
        rows = [
            (
                f"<code>{_text(each['name'])}</code>",
                f"{_text(each['in'])}, {_type(each['schema'])}{_default(each['schema'])}"
                + ", required" * each.get("required", False),
                _prose(each.get("description") or each["schema"].get("description")),
            )
            for each in parameters
        ]
        yield _table("Parameters", rows)


def _body(operation: Schema) -> Iterator[str]:
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content.get("schema", {})
        yield f"<p>Body, <code>{_text(media)}</code>: {_type(schema)}</p>"
        if properties := schema.get("properties"):
            yield _fields(properties, schema.get("required", ()))


def _answers(operation: Schema) -> Iterator[str]:
    rows = []
    for status, answer in operation.get("responses", {}).items():
        kinds = [_type(content.get("schema", {})) for content in answer.get("content", {}).values()]
        rows.append((f"<code>{_text(status)}</code>", " or ".join(kinds), _prose(answer.get("description"))))
    yield _table("Answers", rows)


def _shape(name: str, schema: Schema) -> str:
    parts = [
        f'<details id="{_text(name)}"><summary><code>{_text(name)}</code></summary>',
        f"<p>{_prose(schema.get('description'))}</p>",
    ]
    if properties := schema.get("properties"):
        parts.append(_fields(properties, schema.get("required", ())))
    else:
        parts.append(f"<p>{_type({k: v for k, v in schema.items() if k != 'title'})}</p>")
    for example in schema.get("examples", ()):
        parts.append(f"<pre>{_text(json.dumps(example, indent=2, ensure_ascii=False))}</pre>")
    return "".join([*parts, "</details>"])


def _fields(properties: Mapping[str, Schema], required: Any) -> str:
    rows = [
        (
            f"<code>{_text(name)}</code>",
            _type(schema) + _default(schema) + ", required" * (name in required),
            _prose(schema.get("description")),
        )
        for name, schema in properties.items()
    ]
    return _table("Fields", rows)


def _type(schema: Schema) -> str:
    """What a value may be, in a few words."""
    if reference := schema.get("$ref"):
        name = _text(reference.rpartition("/")[2])
        return f'<a href="#{name}"><code>{name}</code></a>'
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_type(each) for each in schema[several])
    return _kind(schema) + _bounds(schema)


def _kind(schema: Schema) -> str:
    if values := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return " or ".join(f"<code>{_text(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        return f"object of {_type(values)}"
    return _text(schema.get("type", "anything"))


def _bounds(schema: Schema) -> str:
    """How large or long a value may be, in brackets; nothing where nothing is said."""
    said = [
        _between(schema.get("minimum"), schema.get("maximum")),
        _between(schema.get("minLength"), schema.get("maxLength"), " characters"),
        _between(schema.get("minItems"), schema.get("maxItems"), " items"),
    ]
    if (above := schema.get("exclusiveMinimum")) is not None:
        said.append(f"more than {_number(above)}")
    if (pattern := schema.get("pattern")) is not None:
        said.append(f"like <code>{_text(pattern)}</code>")
    told = "; ".join(each for each in said if each)
    return told and f" ({told})"


def _between(least: float | None, most: float | None, what: str = "") -> str:
    if least is not None and most is not None:
        return f"{_number(least)} to {_number(most)}{what}"
    if least is not None:
        return f"at least {_number(least)}{what}"
    return "" if most is None else f"at most {_number(most)}{what}"


def _number(value: float) -> str:
    return f"{value:,.12g}"


def _default(schema: Schema) -> str:
    """What counts where nothing is given, after a comma; that nothing does is the rule, and not told."""
    value = schema.get("default")
    return "" if value in (None, [], {}) else f", <code>{_text(json.dumps(value))}</code> if omitted"


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(f"<tr><td>{a}</td><td>{b}</td><td>{c}</td></tr>" for a, b, c in rows)
    return f'<table><tr><th colspan="3">{title}</th></tr>{cells}</table>'


def _prose(text: str | None) -> str:
    """Escaped, with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text or ""))


def _text(text: object) -> str:
    return html.escape(str(text))
