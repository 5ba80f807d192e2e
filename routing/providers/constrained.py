"""Tool calls for models that are too weak to make them freely: each step is held to a JSON schema.

Measured with Qwen2.5-Coder-1.5B (q4_k_m) on ten small tasks: none solved with its native calls, eight with
a schema, a `finish` action and a loop guard, nine with the named files put in front of it and only useful
calls on offer. To the rest of the system the answers look like any other.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from routing.answers import as_chunks
from routing.config import ModelCard, ProviderSpec
from routing.errors import ContextTooLong, ProviderUnavailable, RequestRejected
from routing.providers.actions import EXAMPLE_ANSWER, constrained_body
from routing.providers.base import Provider
from routing.providers.steps import FIRST_LOOK_ARGUMENTS, WRITE, read_task
from routing.providers.transcript import FINISH, plain_messages
from routing.types import ChatChunk
from routing.usage import UNASKED

_FOR_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
_TAKEN = frozenset({*_FOR_TOOLS, "messages", "max_tokens", "max_completion_tokens", "stream_options"})
"""The fields of a request that a constrained step is made from; sampling is greedy whatever is asked for."""


class ConstrainedProvider:
    """Any provider, with constrained tool calls where card or spec ask for them. Implements `Provider`.

    Keeps nothing between requests: what to offer next follows from the messages alone.
    """

    def __init__(self, inner: Provider) -> None:
        self._inner = inner

    @property
    def spec(self) -> ProviderSpec:
        return self._inner.spec

    async def complete(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """A checked OpenAI chat completion object. Raises ProviderError.

        Raises ContextTooLong when the model reached its token limit inside an action: the same request
        would end the same way, and only a larger model helps.
        """
        if not self._applies(card, body):
            return await self._inner.complete(card, body, deadline)
        try:
            step = _next_step(card, body)
        except (LookupError, TypeError, AttributeError) as error:
            reason = f"a message or tool lacks what it needs ({type(error).__name__}: {error})"
            raise RequestRejected(self.spec.name, f"the request is malformed: {reason}") from None
        if step.answer is not None:
            return step.answer
        completion = await self._inner.complete(card, step.request, deadline)
        if step.known and _is_example(completion):  # then it is to do something
            step = _next_step(card, body, may_finish=False)
            completion = await self._inner.complete(card, step.request, deadline)
        return self._translated(completion, step.known) if step.known else completion

    def stream(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> AsyncIterator[ChatChunk]:
        """The chunks of the answer, all at its end if it was constrained. Raises ProviderError."""
        if self._applies(card, body):
            return self._at_once(card, body, deadline)
        return self._inner.stream(card, body, deadline)

    async def list_models(self) -> list[ModelCard]:
        """The models the provider offers now. Raises ProviderError."""
        return await self._inner.list_models()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _at_once(
        self, card: ModelCard, body: Mapping[str, Any], deadline: float
    ) -> AsyncIterator[ChatChunk]:
        for chunk in as_chunks(await self.complete(card, body, deadline)):
            yield chunk

    def _applies(self, card: ModelCard, body: Mapping[str, Any]) -> bool:
        return _applies(self.spec, card, body)

    def _translated(self, completion: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
        """The model's action as an ordinary answer."""
        name = self.spec.name
        choice = completion["choices"][0]
        if choice.get("finish_reason") == "length":
            raise ContextTooLong(name, f"{name}'s model reached its token limit before its action was whole")
        try:
            action = json.loads(choice["message"].get("content") or "")
            wanted, arguments = str(action["tool"]), dict(action["arguments"])
        except (ValueError, KeyError, TypeError):
            raise ProviderUnavailable(name, f"{name} did not keep to the JSON schema it was given") from None
        if wanted in known:
            content = arguments.get("content")
            if wanted == WRITE and isinstance(content, str) and content and not content.endswith("\n"):
                arguments["content"] = f"{content}\n"  # which such models always leave out
            message, finish = _calls([(wanted, arguments)]), "tool_calls"
        elif wanted == FINISH:
            message, finish = (
                {"role": "assistant", "content": str(arguments.get("message") or "Done.")},
                "stop",
            )
        else:
            raise ProviderUnavailable(name, f"{name} called a tool that was not offered")
        return {**completion, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def ignored_fields(spec: ProviderSpec, card: ModelCard, body: Mapping[str, Any]) -> frozenset[str]:
    """The fields of the request that do not reach the model.

    Because its steps are held to a schema, which leaves few; else because it does not think, or because no
    call can be demanded of it: then calling is left to it, which is the nearest.
    """
    if _applies(spec, card, body) and body.get("tool_choice") != "none":
        return frozenset(body).difference(_TAKEN)
    ignored = set()
    if card.efforts == () and "reasoning_effort" in body:
        ignored.add("reasoning_effort")
    if card.forced_tools is False and body.get("tool_choice") not in (None, "auto", "none"):
        ignored.add("tool_choice")
    return frozenset(ignored)


def _applies(spec: ProviderSpec, card: ModelCard, body: Mapping[str, Any]) -> bool:
    return bool(body.get("tools")) and (card.tool_calling or spec.tool_calling) == "constrained"


@dataclass(frozen=True, slots=True)
class _Step:
    """What follows from a request: an answer at once, or another request."""

    answer: dict[str, Any] | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    """The tools the reply may call; empty if it is to be passed on as it comes."""


def _is_example(completion: Mapping[str, Any]) -> bool:
    """Whether the model repeats the answer of the example that it was given."""
    return EXAMPLE_ANSWER in (completion["choices"][0]["message"].get("content") or "")


def _next_step(card: ModelCard, body: Mapping[str, Any], *, may_finish: bool = True) -> _Step:
    choice = body.get("tool_choice") or "auto"
    functions = [tool["function"] for tool in body["tools"] if tool["type"] == "function"]
    if choice == "none" or not functions:
        return _Step(request=_without_tools(body))
    task = read_task(body["messages"])
    if isinstance(choice, dict):
        functions = [each for each in functions if each["name"] == choice["function"]["name"]] or functions
    elif first := task.first_look({each["name"] for each in functions if _takes_first_look(each)}):
        return _Step(answer=_answer(card, _calls(first), "tool_calls"))
    known = frozenset(each["name"] for each in functions)
    may_finish = may_finish and choice == "auto" and FINISH not in known
    return _Step(request=constrained_body(card, body, task, functions, may_finish=may_finish), known=known)


def _takes_first_look(function: Mapping[str, Any]) -> bool:
    """Whether a tool can be called as the first look does; a client's own of that name may want more."""
    required = (function.get("parameters") or {}).get("required") or []
    return list(required) == FIRST_LOOK_ARGUMENTS.get(function["name"])


def _without_tools(body: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in body.items() if key not in _FOR_TOOLS}
    return {**rest, "messages": plain_messages(body["messages"], sys.maxsize)}


def _calls(wanted: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """An assistant message with these calls, under fresh ids."""
    calls = [
        {
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for name, arguments in wanted
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _answer(card: ModelCard, message: dict[str, Any], finish: str) -> dict[str, Any]:
    """A completion that cost no model call."""
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": card.id,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": UNASKED,
    }
