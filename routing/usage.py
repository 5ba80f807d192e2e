"""What calls of models cost and who pays for them, and what others are told of it. No storage, no network.

`routing.meter` measures the calls; whoever keeps the records implements `UsageSink` and `Budgets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from routing.candidate import Candidate
from routing.errors import RoutingError
from routing.slate import UNKNOWN_PRICES
from routing.types import Payer, Usage

CallOutcome = Literal[
    "ok",
    "rate_limited",
    "key_refused",
    "rejected",
    "too_long",
    "timeout",
    "unavailable",
    "over_budget",
    "abandoned",
]
"""How a call ended. `abandoned`: nobody waited for the rest of the answer any more."""


class BudgetExceeded(RoutingError):
    """A budget does not allow the call, or the rest of it. The message names the budget and what to do."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds until the budget is renewed; None = it is not by itself."""
        self.usage: Usage | None = None
        """Of a stream that was stopped: what was counted so far, estimated unless the provider told."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of one call."""

    prompt: int = 0
    """Those read from a cache among them."""
    completion: int = 0
    """Those of reasoning among them."""
    cached: int = 0
    reasoning: int = 0

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> Tokens:
        """The counts of an OpenAI usage object; what is no count is 0."""
        read, written = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        cached = read.get("cached_tokens") if isinstance(read, Mapping) else None
        return cls(
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            # DeepSeek tells what its cache gave beside the details, not in them.
            _count(usage.get("prompt_cache_hit_tokens") if cached is None else cached),
            _count(written.get("reasoning_tokens")) if isinstance(written, Mapping) else 0,
        )

    def as_usage(self) -> Usage:
        """As OpenAI writes it, without the details."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens at list price; None = unknown."""

    prompt: float | None
    completion: float | None
    cached: float | None = None
    """None = as any prompt token."""

    @classmethod
    def of(cls, candidate: Candidate) -> Prices:
        """What the model costs; nothing where it is free."""
        prompt, completion = candidate.prices
        return cls(prompt, completion, 0.0 if candidate.is_free else candidate.card.cached_input_price)

    @property
    def assumed(self) -> Prices:
        """With usual prices in the place of unknown ones: money must not leak where no price is known."""
        prompt = UNKNOWN_PRICES[0] if self.prompt is None else self.prompt
        completion = UNKNOWN_PRICES[1] if self.completion is None else self.completion
        return Prices(prompt, completion, self.cached)

    def cost(self, tokens: Tokens) -> float | None:
        """US dollars for these; None when a price is not known."""
        if self.prompt is None or self.completion is None:
            return None
        cached = min(tokens.cached, tokens.prompt)
        read = self.prompt if self.cached is None else self.cached
        fresh = tokens.prompt - cached
        return (fresh * self.prompt + cached * read + tokens.completion * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model, after its end."""

    id: str
    payer: Payer
    task: str
    """The kind of the request (`learning.TaskClass`)."""
    provider: str
    account: str
    """At that provider."""
    model: str
    tokens: Tokens
    estimated: bool
    """Whether the counts are ours, because the provider told none."""
    cost_usd: float | None
    """At list prices; None = a price is not known."""
    charged_usd: float
    """What budgets count: the cost, with usual prices in the place of unknown ones."""
    seconds: float
    ttft: float | None
    """Seconds to the first text or tool call of a stream; None = not streamed, or there was none."""
    outcome: CallOutcome


class UsageSink(Protocol):
    """Where finished calls are told."""

    def record(self, call: ModelCall) -> None:
        """Take note of a call, and give back what was reserved for it. Called once for each; never waits."""
        ...


class Budgets(Protocol):
    """What may be spent."""

    async def reserve(self, call_id: str, payer: Payer, usd: float, seconds: float) -> None:
        """Set so much aside for a call that takes so long at most; called again, it is changed to that.

        It is given back by the call's record, or by itself when the time is over. Raises BudgetExceeded;
        then nothing changes.
        """
        ...


def _count(tokens: Any) -> int:
    """A number of tokens, which some providers write as 12.0; 0 if it is none."""
    return int(tokens) if isinstance(tokens, int | float) and 0 <= tokens < 1 << 31 else 0
