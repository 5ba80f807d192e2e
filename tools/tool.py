"""A tool as a value: a name, a JSON schema made from a function's signature, and what it does.

Tools with effects have two halves. `plan` says what would change and changes nothing; `commit` makes
the planned change. Approval, journal, drift check and diff all hang on the seam between the two.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from tools.errors import InvalidArguments, ToolError, UnknownTool
from tools.paths import normalise

if TYPE_CHECKING:
    from tools.human import HumanReply, HumanRequest
    from tools.workspace import Workspace

EffectKind = Literal["none", "workspace", "external", "human"]
"""What a tool may change: nothing; files of the workspace; the world outside it; or it asks the human."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may use while it runs."""

    workspace: Workspace | None
    """The project's files; None when the request named no project."""
    ask: Callable[[HumanRequest], HumanReply]
    """Pauses the run until the human has answered. May raise to do so: let it through.

    Once in one call, as the question goes by the call's name; the approval of what a tool plans is such a
    question, too. Raises ToolError the second time.
    """

    @property
    def files(self) -> Workspace:
        """The workspace. Raises ToolError when there is none."""
        if self.workspace is None:
            raise ToolError(
                "this conversation has no project folder, so there are no files to work with. "
                "Answer with the code itself."
            )
        return self.workspace


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model is told after a call."""

    content: str
    ok: bool = True
    summary: str = ""
    """A few words for people: `12 lines`, `no such file`."""

    @classmethod
    def error(cls, reason: str) -> ToolResult:
        """A refusal or failure, told to the model as `Error: <reason>`."""
        return cls(
            content=f"Error: {reason}", ok=False, summary=reason.splitlines()[0][:200] if reason else ""
        )


@dataclass(frozen=True, slots=True)
class Effect:
    """A planned change of one file. Nothing has happened yet."""

    path: str
    """Relative to the project, `/` between the parts."""
    before: bytes | None
    """The content the plan was made against; None = the file does not exist."""
    after: bytes | None
    """The content after the change; None = the file is deleted."""
    result: ToolResult
    """What the model is told once the change is made."""
    preview: str
    """The change as a unified diff, for the human."""

    @property
    def fingerprint(self) -> str:
        """Identifies path, before and after: equal fingerprints are the same change of the same content."""
        digest = hashlib.sha256(self.path.encode())
        for content in (self.before, self.after):
            digest.update(b"\0absent" if content is None else b"\1" + hashlib.sha256(content).digest())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ExternalEffect:
    """A planned act outside the workspace, such as a command. Nothing has happened yet."""

    preview: str
    """What would be done, for the human."""
    act: Callable[[], Awaitable[ToolResult]]
    """Does it. Never called twice for one tool call."""


Planned = Effect | ExternalEffect


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call whose arguments fit the tool's schema."""

    tool: Tool
    arguments: Mapping[str, Any]

    @property
    def path(self) -> str | None:
        """The file the call is about, in its one spelling; calls on one path must not overtake each other.

        None for a tool that is about no single file. Raises ToolError for a path that is not allowed.
        """
        value = self.arguments.get(self.tool.path_parameter or "")
        return normalise(value) if isinstance(value, str) else None

    @property
    def wanted(self) -> str:
        """The text the call is about, such as the passage to replace: its first text besides the path."""
        texts = (value for name, value in self.arguments.items() if name != self.tool.path_parameter)
        return next((value for value in texts if isinstance(value, str)), "")

    async def run(self, ctx: ToolContext) -> ToolResult:
        """Run a tool without effects. Raises ToolError, and whatever `ctx.ask` raises to pause."""
        if self.tool.effect not in ("none", "human"):
            raise TypeError(f"{self.tool.name} has effects: plan it, then commit the plan")
        result = await self.tool.invoke(ctx, self.arguments)
        if not isinstance(result, ToolResult):
            return ToolResult(content=str(result))
        return result

    async def plan(self, ctx: ToolContext) -> Planned:
        """What the call would change; changes nothing. Raises ToolError when it cannot be done."""
        planned = await self.tool.invoke(ctx, self.arguments)
        if isinstance(planned, Effect | ExternalEffect):
            return planned
        raise TypeError(f"{self.tool.name} is declared with effects but planned none")


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """A named function that a model may call."""

    name: str
    description: str
    effect: EffectKind
    arguments_model: type[BaseModel]
    function: Callable[..., Any]
    path_parameter: str | None
    parameters: dict[str, Any]
    """The JSON schema of the arguments, flat, as providers take it."""

    def bind(self, arguments: str | Mapping[str, Any]) -> ToolCall:
        """The call with checked arguments; surplus ones are dropped.

        Raises InvalidArguments, with the schema in the message so that the model can correct itself.
        """
        problem: str
        try:
            raw = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
            if not isinstance(raw, Mapping):
                raise InvalidArguments(self._explain("they are not a JSON object"))
            model = self.arguments_model.model_validate(dict(raw))
        except (ValueError, RecursionError) as error:
            if isinstance(error, ValidationError):
                problem = "; ".join(
                    f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors()[:5]
                )
            else:
                problem = f"they are not valid JSON ({error.__class__.__name__})"
            raise InvalidArguments(self._explain(problem)) from None
        return ToolCall(self, {name: getattr(model, name) for name in self.arguments_model.model_fields})

    def _explain(self, problem: str) -> str:
        schema = json.dumps(self.parameters, ensure_ascii=False)
        return f"the arguments of {self.name} are wrong: {problem}. They must fit this JSON schema: {schema}"

    async def invoke(self, ctx: ToolContext, arguments: Mapping[str, Any]) -> Any:
        """Call the function; a plain (not async) one runs in a worker thread."""
        if inspect.iscoroutinefunction(self.function):
            return await self.function(ctx, **arguments)
        return await asyncio.to_thread(self.function, ctx, **arguments)


def tool(*, effect: EffectKind, path_parameter: str | None = None) -> Callable[[Callable[..., Any]], Tool]:
    """Make a `Tool` of a function. Registers nothing.

    The name is the function's; description and parameter descriptions come from its docstring (an
    `Args:` section, Google style); the schema from its annotations. The first parameter receives the
    `ToolContext` and is not shown to the model. With effect `none` or `human` the function returns a
    `ToolResult`; with `workspace` an `Effect`; with `external` an `ExternalEffect`.

    Raises TypeError when the schema would not be flat: weak models cannot fill nested ones.
    """

    def decorate(function: Callable[..., Any]) -> Tool:
        hints = get_type_hints(function)
        description, of_parameter = _read_docstring(inspect.getdoc(function) or "")
        fields: dict[str, Any] = {}
        for parameter in list(inspect.signature(function).parameters.values())[1:]:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (
                hints[parameter.name],
                Field(default=default, description=of_parameter.get(parameter.name)),
            )
        name = function.__name__
        model = create_model(name, __config__=ConfigDict(extra="ignore"), **fields)
        parameters = _plain_schema(model)
        _refuse_nesting(name, parameters)
        return Tool(name, description, effect, model, function, path_parameter, parameters)

    return decorate


class ToolRegistry:
    """The tools one agent has, by name. Assembled once, at the root."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for each in tools:
            if each.name in self._tools:
                raise ValueError(f"two tools are named {each.name!r}; rename one")
            self._tools[each.name] = each

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __getitem__(self, name: str) -> Tool:
        """The tool of that name. Raises UnknownTool, naming those that exist."""
        try:
            return self._tools[name]
        except KeyError:
            raise UnknownTool(
                f"there is no tool named {name[:64]!r}. The tools are: {', '.join(self._tools)}"
            ) from None


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Split a Google-style docstring into its description and its `Args:` entries."""
    description, _, rest = text.partition("\nArgs:\n")
    entries: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if match := re.match(r"\s{4}(\w+)(?:\s*\([^)]*\))?:\s*(.*)", line):
            name, entries[match[1]] = match[1], match[2]
        elif name and line.startswith(" " * 8):
            entries[name] += " " + line.strip()
        elif line.strip():
            break
    return " ".join(description.split()), entries


def _plain_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema without titles and without `null` alternatives: fewer tokens, wider support."""
    schema = model.model_json_schema()
    properties = {}
    for name, field in schema.get("properties", {}).items():
        field = {k: v for k, v in field.items() if k != "title" and not (k == "default" and v is None)}
        if "anyOf" in field:
            kinds = [kind for kind in field.pop("anyOf") if kind != {"type": "null"}]
            field = {**(kinds[0] if len(kinds) == 1 else {"anyOf": kinds}), **field}
        properties[name] = field
    return {
        "type": "object",
        "properties": properties,
        "required": schema.get("required", []),
        "additionalProperties": False,
    }


def _refuse_nesting(name: str, schema: dict[str, Any]) -> None:
    for parameter, field in schema["properties"].items():
        for kind in field.get("anyOf", [field]):
            inner = kind.get("items", {})
            inners = inner.get("anyOf", [inner])
            if _is_object(kind) or any(_is_object(each) or each.get("type") == "array" for each in inners):
                raise TypeError(
                    f"tool {name}: parameter {parameter!r} is nested; use plain values or lists of them"
                )


def _is_object(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "object" or "$ref" in schema
