"""What the router is told: providers, models, chains and its numbers. Frozen, checked, plain data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from routing.fields import OPENAI_CHAT_FIELDS
from routing.types import Tier

Protocol = Literal[
    "openai-chat", "anthropic-messages", "azure-openai", "cohere-chat", "gemini", "vertex-ai", "replicate"
]
"""The wire formats (`routing/providers/formats.py`)."""
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How long a model is to think, in OpenAI's words, from the least to the most."""
ToolCalling = Literal["native", "constrained", "none"]
"""How a model calls tools: by the provider's own means; by a JSON schema that every step is held to (for
models that are too weak to do it freely); or not at all."""
Strategy = Literal["by-quality", "in-order", "simple-shuffle", "least-cost", "latency-based", "usage-based"]
"""How one of several models is chosen: as the quality of the request says; in the order given; by lot; the
cheapest; the one that is done first; the one that had the fewest tokens in the last minute."""


_TAKEN_BY_ALL = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "response_format",
        "stop",
        "stream_options",
        "tool_choice",
        "tools",
    }
)
_SAMPLING = frozenset({"seed", "temperature", "top_p"})
_PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
_THINKING = frozenset({"reasoning_effort"})
_TAKEN_BY_GEMINI = _TAKEN_BY_ALL | _SAMPLING | _PENALTIES | _THINKING
TAKEN_BY: Mapping[Protocol, frozenset[str]] = MappingProxyType(
    {
        "anthropic-messages": _TAKEN_BY_ALL | _THINKING | {"parallel_tool_calls"},
        "cohere-chat": _TAKEN_BY_ALL | _SAMPLING | _THINKING,
        "gemini": _TAKEN_BY_GEMINI,
        "vertex-ai": _TAKEN_BY_GEMINI,
        "replicate": frozenset(
            {"max_completion_tokens", "max_tokens", "messages", "stream_options", "temperature", "top_p"}
        ),
    }
)
"""The fields of a chat request that a format has words for; those not named here take all of them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelCard(_Frozen):
    """What is known of one model at one provider."""

    id: str
    """The provider's own name for it."""
    quality: float | None = Field(default=None, ge=0, le=1)
    """Prior of answer quality, 0..1 (see `routing/data/README.md`); None = unknown."""
    context_window: int | None = Field(default=None, gt=0)
    """Tokens, prompt and answer together; None = unknown."""
    max_output: int | None = Field(default=None, gt=0)
    """Tokens; None = unknown."""
    tools: bool | None = None
    vision: bool | None = None
    json_schema: bool | None = None
    tool_calling: ToolCalling | None = None
    """None = as the provider says."""
    input_price: float | None = Field(default=None, ge=0)
    """US dollars per million prompt tokens; None = unknown."""
    output_price: float | None = Field(default=None, ge=0)
    """US dollars per million answer tokens; None = unknown."""
    cached_input_price: float | None = Field(default=None, ge=0)
    """US dollars per million prompt tokens that were read from a cache; None = as any other."""
    cache_write_price: float | None = Field(default=None, ge=0)
    """US dollars per million prompt tokens that were written to a cache; None = as any other."""
    free: bool | None = None
    """Whether it costs nothing within the provider's allowance; None = its prices and the provider's tier
    decide."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """Answer speed, prior; None = unknown."""
    ttft_seconds: float | None = Field(default=None, ge=0)
    """Time to the first token, prior; None = unknown."""
    efforts: tuple[Effort, ...] | None = None
    """What `reasoning_effort` may say, the least first; empty = nothing, None = unknown."""
    forced_tools: bool | None = None
    """Whether a call can be demanded of it (`tool_choice` that is `required` or names a function); None =
    unknown, so it is tried."""


DEFAULT_ACCOUNT = "default"


def account_id(provider: str, account: str) -> str:
    """What an account is counted, cooled and parked by; `provider` alone for its default account."""
    return provider if account == DEFAULT_ACCOUNT else f"{provider}:{account}"


class RateLimits(_Frozen):
    """How much of an account its owner lets us use; None = as much as the provider does. Days are UTC's."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    requests_per_second: int | None = Field(default=None, ge=1)
    """Requests in a second."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests in a minute."""
    requests_per_day: int | None = Field(default=None, ge=1)
    """Requests in a day of UTC."""
    tokens_per_second: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers together in a second."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """The same in a minute."""
    tokens_per_day: int | None = Field(default=None, ge=1)
    """The same in a day of UTC."""
    concurrent: int | None = Field(default=None, ge=1)
    """Calls at once."""


NO_LIMITS = RateLimits()


class ProviderSpec(_Frozen):
    """One account at one provider, as a row of data."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    display_name: str = ""
    protocol: Protocol = "openai-chat"
    base_url: str
    """Including the version part: `https://api.example.com/v1`."""
    api_version: str | None = None
    """The dated version of the API, in formats that have one; None = the one the format was written for."""
    api_key: SecretStr | None = None
    """None = the provider takes requests without a key."""
    account: str = Field(default=DEFAULT_ACCOUNT, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")
    """Which of our accounts it is: a provider may know us by several."""
    cap_usd_per_day: float | None = Field(default=None, ge=0)
    """The most that may be spent at this account in a day (UTC), in US dollars; 0 = only what is free."""
    limits: RateLimits = NO_LIMITS
    tier: Tier = "paid"
    models: tuple[ModelCard, ...] = ()
    """Empty = whatever the provider lists."""
    tool_calling: ToolCalling = "native"
    headers: dict[str, str] = Field(default_factory=dict)
    """Fixed further headers."""
    unsupported: frozenset[str] = Field(default=frozenset(), validate_default=True)
    """Request fields this provider refuses, and all that its format has no words for; they are left out
    and named in `RouteDecision.dropped`."""
    stream_usage: bool = True
    """Whether `stream_options.include_usage` is understood."""

    @field_validator("unsupported")
    @classmethod
    def _with_those_of_the_format(cls, given: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        taken = TAKEN_BY.get(info.data.get("protocol", "openai-chat"), OPENAI_CHAT_FIELDS)
        return given | (OPENAI_CHAT_FIELDS - taken)

    @property
    def is_local(self) -> bool:
        return self.tier == "local"

    @property
    def account_id(self) -> str:
        """See `account_id`."""
        return account_id(self.name, self.account)

    def is_same_account(self, other: ProviderSpec) -> bool:
        """Whether the provider cannot tell them apart: same address, same credentials."""
        return (self.base_url, self.api_key, self.headers) == (other.base_url, other.api_key, other.headers)


class ChainLink(_Frozen):
    """One candidate of an alias, tried in the order given."""

    provider: str
    model: str


class ModelGroup(_Frozen):
    """Models that stand in for each other under one name."""

    of: Annotated[tuple[ChainLink, ...], Field(min_length=1)]
    strategy: Strategy | None = None
    """None = the router's own."""


class FallbackConfig(_Frozen):
    """When the next candidate is tried."""

    on_rate_limit: bool = True
    on_context_window: bool = True
    on_error: bool = True


class RouterConfig(_Frozen):
    """The router's numbers."""

    num_retries: Annotated[int, Field(ge=0, le=3)] = 3
    """Further attempts on the same provider."""
    timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for one call, all attempts together."""
    retry_after_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Cool-down where a 429 names none, in seconds."""
    free_only: bool = False
    """Whether only free and local models are eligible."""
    detect_local: bool = True
    """Whether servers on localhost are looked for when nothing is configured."""
    strategy: Strategy = "by-quality"
    """How one of several models is chosen where the request names none, or a group without a strategy."""
    exploration: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    """Share of requests that go to another model than the best, so that a change for the better is seen; more
    where speed counts and some models never answered yet. Only where the choice is left to the router."""


class RoutingConfig(_Frozen):
    """Everything the router is told; a change of it makes a new pool."""

    providers: tuple[ProviderSpec, ...] = ()
    aliases: dict[str, tuple[ChainLink, ...]] = Field(default_factory=dict)
    """Name -> chain, tried in order."""
    groups: dict[str, ModelGroup] = Field(default_factory=dict)
    """Name -> models that stand in for each other."""
    fallbacks: FallbackConfig = FallbackConfig()
    router: RouterConfig = RouterConfig()
