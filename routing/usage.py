"""What calls of models cost and who pays for them, and what others are told of it. No storage, no network.

`routing.meter` measures the calls; whoever keeps the records implements `UsageSink` and `Budgets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from routing.candidate import Candidate
from routing.config import ProviderSpec
from routing.errors import RoutingError
from routing.slate import UNKNOWN_PRICES
from routing.types import Payer, RouteDecision, Usage

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


UNASKED: Usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
"""The usage of an answer that no model was asked for. Known by its identity: a provider that tells only zeros
is not believed."""


class BudgetExceeded(RoutingError):
    """A budget does not allow the call, or the rest of it. The message names the budget and what to do."""

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        *,
        account_id: str | None = None,
        spent: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds until the budget is renewed; None = it is not by itself."""
        self.account_id, self.spent = account_id, spent
        """The account whose cap it is (None = a budget for all of them), and whether that is used up."""
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
    cache_written: int = 0
    """Prompt tokens that were written to a cache, where that has a price of its own."""

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> Tokens:
        """The counts of an OpenAI usage object, of either of its APIs; what is no count is 0."""
        read, written = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        cached = read.get("cached_tokens") if isinstance(read, Mapping) else None
        return cls(
            _count(usage.get("prompt_tokens")) or _count(usage.get("input_tokens")),
            _count(usage.get("completion_tokens")) or _count(usage.get("output_tokens")),
            # DeepSeek tells what its cache gave beside the details, not in them.
            _count(usage.get("prompt_cache_hit_tokens") if cached is None else cached),
            _count(written.get("reasoning_tokens")) if isinstance(written, Mapping) else 0,
            _count(read.get("cache_write_tokens")) if isinstance(read, Mapping) else 0,
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
    cache_written: float | None = None
    """None = as any prompt token."""

    @classmethod
    def of(cls, candidate: Candidate) -> Prices:
        """What the model costs; nothing where it is free."""
        prompt, completion = candidate.prices
        if candidate.is_free:
            return cls(prompt, completion, 0.0, 0.0)
        return cls(prompt, completion, candidate.card.cached_input_price, candidate.card.cache_write_price)

    @classmethod
    def told(cls, decision: RouteDecision) -> Prices:
        """Those of the model that gave an answer."""
        further = (decision.cached_input_price, decision.cache_write_price)
        return cls(decision.input_price, decision.output_price, *further)

    def as_tuple(self) -> tuple[float | None, float | None, float | None, float | None]:
        """In the order of the fields here, which is that of `RouteDecision`."""
        return self.prompt, self.completion, self.cached, self.cache_written

    @property
    def assumed(self) -> Prices:
        """With usual prices in the place of unknown ones: money must not leak where no price is known."""
        prompt = UNKNOWN_PRICES[0] if self.prompt is None else self.prompt
        completion = UNKNOWN_PRICES[1] if self.completion is None else self.completion
        return Prices(prompt, completion, self.cached, self.cache_written)

    def cost(self, tokens: Tokens) -> float | None:
        """US dollars for these; None when a price is not known. Reasoning is part of the answer."""
        if self.prompt is None or self.completion is None:
            return None
        read = min(tokens.cached, tokens.prompt)
        written = min(tokens.cache_written, tokens.prompt - read)
        usd = (tokens.prompt - read - written) * self.prompt + tokens.completion * self.completion
        usd += read * (self.prompt if self.cached is None else self.cached)
        usd += written * (self.prompt if self.cache_written is None else self.cache_written)
        return usd / 1e6


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
    """Whether the counts are ours, all or some, because the provider told none that can be right."""
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

    async def reserve(
        self, call_id: str, payer: Payer, usd: float, seconds: float, spec: ProviderSpec
    ) -> None:
        """Set so much aside for a call at this account, of so many seconds at most; called again, it is
        changed to that. Counts against the account's cap, too.

        It is given back by the call's record, or by itself when the time is over. Raises BudgetExceeded;
        then nothing changes.
        """
        ...

    async def refusals(
        self, payer: Payer, calls: Sequence[tuple[float, ProviderSpec]]
    ) -> list[BudgetExceeded | None]:
        """For each call, so dear at that account, why it could not be paid now; None = it could.

        Sets nothing aside.
        """
        ...


def _count(tokens: Any) -> int:
    """A number of tokens, which some providers write as 12.0; 0 if it is none."""
    return int(tokens) if isinstance(tokens, int | float) and 0 <= tokens < 1 << 31 else 0
