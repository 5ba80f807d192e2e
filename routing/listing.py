"""The models of one account: those of its row, those that the provider lists, and what becomes of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from routing.catalogue import known_models
from routing.config import ModelCard
from routing.errors import ProviderError
from routing.providers.base import Provider

LISTING_KEPT = 60.0
"""Seconds that a provider's list of models, or its failure to give one, is remembered."""
LISTING_TIMEOUT = 5.0
MOST_LISTED = 2000
"""Models taken from one provider's list."""


class Listing:
    """What one account offers. Asks its provider at most once a minute, and only where it has to."""

    def __init__(self, provider: Provider, clock: Callable[[], float]) -> None:
        self._provider, self._clock = provider, clock
        row, shipped = provider.spec.models, known_models(provider.spec.name)
        self._facts = {card.id: card for card in shipped}
        self._is_chosen = bool(row) and [card.id for card in row] != [card.id for card in shipped]
        """Whether somebody named the models: then there are no others."""
        self.known = row
        """The models to choose from; another object when they changed."""
        self._listed = row
        """The models that there are, as far as was asked: more than those known where the row is shipped."""
        self.by_id = {card.id: card for card in row}
        """All of both, by their ids."""
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    @property
    def is_due(self) -> bool:
        """Whether the provider has to be asked before its models are known, or known again."""
        return not self._provider.spec.models and self._is_stale

    async def cards(self) -> tuple[ModelCard, ...]:
        """The models of the row, else those the provider lists, else what was known before."""
        if not self._provider.spec.models:
            await self._refresh()
        return self.known

    async def offered(self) -> tuple[ModelCard, ...]:
        """The models that the provider lists now; where it gives no list, what was known before."""
        if not self._is_chosen:
            await self._refresh()
        return self._listed

    @property
    def _is_stale(self) -> bool:
        return self._asked_at is None or self._clock() - self._asked_at >= LISTING_KEPT

    async def _refresh(self) -> None:
        async with self._asking:
            if self._is_stale:
                await self._ask()
                self._asked_at = self._clock()
                self.by_id = {card.id: card for card in (*self._listed, *self.known)}

    async def _ask(self) -> None:
        has_row = bool(self._provider.spec.models)
        try:
            async with asyncio.timeout(LISTING_TIMEOUT):
                answer = await self._provider.list_models()
        except (ProviderError, TimeoutError):
            self._listed = self._listed or tuple(self._facts.values())
            self.known = self.known or self._listed
            return
        cards = tuple(_merged(card, self._facts.get(card.id)) for card in answer[:MOST_LISTED])
        if cards or not has_row:  # a shipped row is better than an empty list
            self._listed = cards
        if not has_row and cards != self.known:  # the same object says that nothing changed
            self.known = cards


def _merged(listed: ModelCard, known: ModelCard | None) -> ModelCard:
    """What the provider says of its model, filled up with what the catalogue knows."""
    return known.model_copy(update=listed.model_dump(exclude_none=True)) if known else listed
