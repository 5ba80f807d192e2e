"""On what terms the known providers serve: free limits, trial credit, training on prompts, what is forbidden.

Dated facts (`routing/data/terms.json`), numbers with a source each. To be shown; nothing is decided by them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

from routing.catalogue import shipped


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limit(_Fact):
    """One limit of free use."""

    metric: str
    """`requests_per_minute`, `tokens_per_day`, `usd_credit_per_month`, ..."""
    value: float | None = None
    """None = there is a limit, but its number is not published."""
    scope: str
    """What is counted together."""
    source: str
    """A key of `sources`."""
    note: str | None = None

    @property
    def words(self) -> str:
        """`20 requests per minute (free models)`."""
        number = "unpublished" if self.value is None else f"{self.value:,.15g}"
        what, per, time = self.metric.partition("_per_")
        counted = what.removesuffix("s") if self.value == 1 else what
        return f"{number} {(counted + per + time).replace('_', ' ')} ({self.scope})"


class Credit(_Fact):
    """What a new account is given once."""

    usd: float | None = None
    tokens: int | None = None
    expires_days: int | None = None
    note: str | None = None
    source: str

    @property
    def words(self) -> str:
        """`$5 for 30 days`."""
        amount = f"${self.usd:g}" if self.usd is not None else f"{self.tokens or 0:,} tokens"
        return amount if self.expires_days is None else f"{amount} for {self.expires_days} days"


class Terms(_Fact):
    """The terms of one provider; what is None or empty is not known."""

    limits: tuple[Limit, ...] = ()
    """Of free use. Several may disagree, where their sources do."""
    credit: Credit | None = None
    training: str | None = None
    """Whether models are trained on prompts, or prompts are kept."""
    restriction: str | None = None
    """What it must not be used for."""
    signup: str | None = None
    """What an account takes, besides an address."""
    signup_url: str | None = None


@functools.cache
def all_terms() -> Mapping[str, Terms]:
    """The terms by provider, read on first use."""
    rows = shipped("terms.json")["terms"]
    return MappingProxyType({name: Terms.model_validate(row) for name, row in rows.items()})


def terms_of(provider: str) -> Terms:
    """The terms of a provider; empty if none are known."""
    return all_terms().get(provider, Terms())


@functools.cache
def sources() -> Mapping[str, str]:
    """What the sources are called that limits and credits name."""
    return MappingProxyType(shipped("terms.json")["sources"])
