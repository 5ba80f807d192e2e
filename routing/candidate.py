"""A model at an account of a provider: the thing that is chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

from routing.config import DEFAULT_ACCOUNT, ModelCard, ProviderSpec
from routing.health import Key


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model at an account of a provider."""

    spec: ProviderSpec
    card: ModelCard
    key: Key = field(init=False, repr=False, compare=False)
    """Account and model, what health is kept by. Made once: it is looked up in every request."""
    kind: Key = field(init=False, repr=False, compare=False)
    """Provider and model, whatever the account: what quality is learned by."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.spec.account_id, self.card.id))
        object.__setattr__(self, "kind", (self.spec.name, self.card.id))

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.spec.name}/{self.card.id}"

    @property
    def label(self) -> str:
        """The name, and the account where it is not the default one."""
        account = self.spec.account
        return self.name if account == DEFAULT_ACCOUNT else f"{self.name} (account {account})"

    @property
    def is_free(self) -> bool:
        """Whether an answer costs nothing: by its card, else its prices, else its provider's tier."""
        if self.card.free is not None:
            return self.card.free
        prices = (self.card.input_price, self.card.output_price)
        if prices == (None, None):
            return self.spec.tier in ("free", "local")
        return prices == (0, 0)

    @property
    def is_metered(self) -> bool:
        """Whether it is free only within somebody's allowance, which can be used up."""
        return self.is_free and not self.spec.is_local

    @property
    def prices(self) -> tuple[float | None, float | None]:
        """US dollars per million prompt and answer tokens; None = unknown."""
        return (0.0, 0.0) if self.is_free else (self.card.input_price, self.card.output_price)

    @property
    def takes_tools(self) -> bool | None:
        """Whether it can call tools; None = not known."""
        calling = self.card.tool_calling or self.spec.tool_calling
        if calling != "native":
            return calling == "constrained"
        return True if self.card.tool_calling == "native" else self.card.tools
