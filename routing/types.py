"""The router's own words: OpenAI's chat shape, as plain data.

Bodies stay dictionaries, as they came in and as they go out: nothing is lost that we do not know, tool
arguments pass byte-exact, and no model object is built per streamed chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

Quality = Literal["fastest", "balanced", "best_quality"]
TaskClass = Literal["chat", "tools", "long_context", "structured"]
"""Kinds of request at which the same model may be good or bad."""
Tier = Literal["free", "trial", "paid", "local"]
"""What it costs to use an account."""
AUTO = "auto"
"""The name that leaves the choice of the model to the router."""


class FunctionCall(TypedDict):
    name: str
    arguments: str
    """JSON text, exactly as the model wrote it."""


class ToolCall(TypedDict):
    id: str
    type: Literal["function"]
    function: FunctionCall
    extra_content: NotRequired[dict[str, Any]]
    """The model's signature (`routing.signatures`)."""


class ChatMessage(TypedDict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: NotRequired[str | list[dict[str, Any]] | None]
    name: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    extra_content: NotRequired[dict[str, Any]]
    """The model's signature (`routing.signatures`)."""
    reasoning_content: NotRequired[str]
    """What the model thought, where it wants to be told again; likewise in OpenRouter's form."""
    reasoning_details: NotRequired[list[dict[str, Any]]]


class Usage(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Payer:
    """On whose account a call is made."""

    principal: str
    thread_id: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion to be had from any suitable model."""

    body: Mapping[str, Any]
    """An OpenAI chat completion body (`messages`, `tools`, ...), without `model` and `stream`."""
    model: str = AUTO
    """`auto`, an alias, `provider/model` or a bare model id; with `provider`, the provider's own id."""
    provider: str | None = None
    """If given, only this provider is used; there is no fail-over to another."""
    quality: Quality = "balanced"
    affinity: str | None = None
    """What it shares the beginning of its prompt with, as a thread's id; None = its first messages tell."""
    payer: Payer | None = None
    """Who pays for it; None = nobody: it is neither counted nor held to a budget."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one candidate that did not give the answer."""

    provider: str
    model: str
    reason: str
    """One sentence, safe to show: keys are redacted."""


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Who answered, and what was tried before."""

    provider: str
    model: str
    failed: tuple[Attempt, ...] = ()
    dropped: tuple[str, ...] = ()
    """Request fields that this provider does not take and that were left out."""
    input_price: float | None = None
    """US dollars per million prompt tokens; None = unknown. Likewise for the answer."""
    output_price: float | None = None
    cached_input_price: float | None = None
    """Of prompt tokens that were read from a cache; None = as any other. Likewise of those written to one."""
    cache_write_price: float | None = None
    task: TaskClass = "chat"
    """The kind of request it was, for reporting what became of the answer."""
    account: str = "default"
    """Which of our accounts at the provider was asked."""

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"

    @property
    def attempts(self) -> int:
        return len(self.failed) + 1


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    """A whole answer."""

    data: dict[str, Any]
    """The OpenAI chat completion object, checked: `choices` holds at least one message."""
    decision: RouteDecision

    @property
    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = self.data["choices"][0]["message"]
        return message


class ChatChunk(NamedTuple):
    """One piece of a streamed answer."""

    raw: bytes
    """The JSON text as the provider sent it, to be forwarded."""
    data: dict[str, Any]
    """The same, decoded: an OpenAI chat completion chunk."""
    more: bool = False
    """Whether the next one is here already, so that both can be passed on at once."""

    @property
    def delta(self) -> dict[str, Any]:
        """The first choice's delta; empty for a chunk that only carries usage."""
        choices = self.data.get("choices") or [{}]
        return choices[0].get("delta") or {}
