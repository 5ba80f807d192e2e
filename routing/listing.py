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
    """What one account offers. Asks its provider at most once a minute, and only where it has to.

    It is asked in a task of its own, which ends with `aclose`: a provider that takes its time keeps nobody
    waiting who can do with what is known.
    """

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
        self._failure = ""
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def asking(self) -> asyncio.Task[None] | None:
        """The question that is under way."""
        return None if self._asking is None or self._asking.done() else self._asking

    @property
    def silence(self) -> str | None:
        """Why no model of the account is known; None = some are, or it was not asked yet."""
        return None if self.known or self._asked_at is None else self._failure

    def look(self) -> None:
        """Begin to ask the provider if its row names no models, and it was not asked in the last minute."""
        if not self._provider.spec.models:
            self._begin()

    async def cards(self) -> tuple[ModelCard, ...]:
        """The models of the row, else those the provider listed; waits only for its very first list."""
        self.look()
        if self._asked_at is None:
            await self._answered()
        return self.known

    async def offered(self) -> tuple[ModelCard, ...]:
        """The models that the provider lists now; where it gives no list, what was known before."""
        if not self._is_chosen:
            self._begin()
            await self._answered()
        return self._listed

    async def aclose(self) -> None:
        """Ask nothing any more."""
        self._is_closed = True
        if self.asking:
            self.asking.cancel()
            await self._answered()

    def _begin(self) -> None:
        is_stale = self._asked_at is None or self._clock() - self._asked_at >= LISTING_KEPT
        if is_stale and not self.asking and not self._is_closed:
            self._asking = asyncio.create_task(self._refresh())

    async def _answered(self) -> None:
        if self.asking:
            await asyncio.wait([self.asking])  # whoever leaves off waiting does not end it for the others

    async def _refresh(self) -> None:
        await self._ask()
        self._asked_at = self._clock()
        self.by_id = {card.id: card for card in (*self._listed, *self.known)}

    async def _ask(self) -> None:
        has_row = bool(self._provider.spec.models)
        try:
            async with asyncio.timeout(LISTING_TIMEOUT):
                answer = await self._provider.list_models()
        except (ProviderError, TimeoutError) as error:
            late = f"{self._provider.spec.name} did not answer in time"
            self._failure = f"gave no list of models: {str(error).rstrip('.') or late}"
            self._listed = self._listed or tuple(self._facts.values())
            self.known = self.known or self._listed
            return
        self._failure = "lists no models"
        cards = tuple(_merged(card, self._facts.get(card.id)) for card in answer[:MOST_LISTED])
        if cards or not has_row:  # a shipped row is better than an empty list
            self._listed = cards
        if not has_row and cards != self.known:  # the same object says that nothing changed
            self.known = cards


def _merged(listed: ModelCard, known: ModelCard | None) -> ModelCard:
    """What the provider says of its model, filled up with what the catalogue knows."""
    return known.model_copy(update=listed.model_dump(exclude_none=True)) if known else listed
