"""The live providers: one immutable set at a time, replaced whole."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from routing.candidate import Candidate
from routing.catalogue import known_models
from routing.config import ChainLink, ModelCard, ModelGroup, ProviderSpec
from routing.errors import NoProviderConfigured, ProviderError
from routing.naming import AUTO, BUILT_IN_ALIASES, Choice, bare, provider_named, verbatim
from routing.providers.base import Provider
from routing.slate import Slate

LISTING_KEPT = 60.0
"""Seconds that a provider's list of models, or its failure to give one, is remembered."""
LISTING_TIMEOUT = 5.0
MOST_LISTED = 2000
"""Models taken from one provider's list."""


class ProviderPool:
    """Who can be asked now. Requests in flight keep the providers they began with."""

    def __init__(
        self, providers: Iterable[Provider] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._members: Mapping[str, _Member] = self._members_for(providers, {})
        self._everything = Slate(())
        self._made_of: tuple[tuple[ModelCard, ...], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The configured providers, in the order given."""
        return tuple(self._members)

    def live(self, spec: ProviderSpec) -> Provider | None:
        """The provider in service with exactly this row, to be kept over a change of the others."""
        member = self._members.get(spec.name)
        return member.provider if member and member.provider.spec == spec else None

    async def swap(self, providers: Iterable[Provider]) -> frozenset[str]:
        """Replace the whole set at once; the names of those that are new, replaced or gone.

        A provider that is not the same object any more is closed, by its last request in flight if
        there are any.
        """
        old, new = self._members, self._members_for(providers, self._members)
        self._members, self._everything, self._made_of = new, Slate(()), ()
        for member in old.values():
            if new.get(member.provider.spec.name) is not member:
                await member.retire()
        return frozenset(name for name in {*old, *new} if old.get(name) is not new.get(name))

    async def aclose(self) -> None:
        """Take all providers out of service."""
        await self.swap(())

    @contextlib.asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[Provider]:
        """The provider, kept open while the context is. Raises ProviderNotFound when it left the pool."""
        member = self._member(name)
        member.leases += 1
        try:
            yield member.provider
        finally:
            member.leases -= 1
            if member.retired:
                await member.retire()

    async def candidates(self) -> tuple[Candidate, ...]:
        """Every model of every provider. Providers that name none are asked, at most once a minute."""
        return (await self._all()).candidates

    async def resolve(
        self,
        model: str,
        provider: str | None = None,
        aliases: Mapping[str, Sequence[ChainLink]] = MappingProxyType({}),
        groups: Mapping[str, ModelGroup] = MappingProxyType({}),
    ) -> Choice:
        """The candidates a request means by these names (DESIGN section 2).

        The configuration's own names come first: it may give `auto`, too, a meaning. Raises
        NoProviderConfigured, ProviderNotFound and ModelNotFound.
        """
        if not self._members:
            raise NoProviderConfigured(
                "No model provider is configured: set a provider's key, start a model server on this "
                "machine, or run `agent-service local install`."
            )
        if provider is not None:
            return await self._at_provider(self._member(provider), model)
        if chain := aliases.get(model):
            return Choice(self._linked(chain), "in-order")
        if group := groups.get(model):
            return Choice(self._linked(group.of), group.strategy)
        if model == AUTO:
            return Choice(await self._all(), is_open=True)
        if meaning := BUILT_IN_ALIASES.get(model):
            return Choice(
                await self._all(),
                is_open=True,
                quality=meaning.quality,
                prefers_tools=meaning.prefers_tools,
            )
        return await self._by_name(model)

    async def _all(self) -> Slate:
        """Every model of every provider; the same object until one of them changes."""
        members, now = self._members, self._clock()
        if asking := [member.cards(self._clock) for member in members.values() if member.is_due(now)]:
            await asyncio.gather(*asking)
        made_of = tuple(member.known for member in members.values())
        if len(made_of) != len(self._made_of) or any(
            new is not old for new, old in zip(made_of, self._made_of, strict=True)
        ):
            specs = [member.provider.spec for member in members.values()]
            everything = Slate(
                Candidate(spec, card) for spec, cards in zip(specs, made_of, strict=True) for card in cards
            )
            if members is not self._members:  # swapped while providers were asked
                return everything
            self._everything, self._made_of = everything, made_of
        return self._everything

    async def _at_provider(self, member: _Member, model: str) -> Choice:
        spec = member.provider.spec
        if model == AUTO:
            return Choice(Slate(Candidate(spec, card) for card in await member.cards(self._clock)))
        return Choice(Slate([verbatim(spec, member.known, model)]))

    def _linked(self, links: Sequence[ChainLink]) -> Slate:
        """The links at configured providers. Raises ProviderNotFound when there are none."""
        members = [(self._members.get(link.provider), link.model) for link in links]
        found = [verbatim(each.provider.spec, each.known, model) for each, model in members if each]
        if not found:
            raise provider_named(links[0].provider, self._members)
        return Slate(found)

    async def _by_name(self, model: str) -> Choice:
        """`provider/model` of a configured provider, or a bare id at any."""
        prefix, slash, rest = model.partition("/")
        if slash and rest and (member := self._members.get(prefix)):
            cards = await member.cards(self._clock)
            if not cards or rest in {card.id for card in cards}:
                # A provider that cannot say what it has is taken at the caller's word.
                return Choice(Slate([verbatim(member.provider.spec, cards, rest)]))
        return Choice(Slate(bare(model, await self.candidates())))

    def _member(self, name: str) -> _Member:
        try:
            return self._members[name]
        except KeyError:
            raise provider_named(name, self._members) from None

    @staticmethod
    def _members_for(providers: Iterable[Provider], old: Mapping[str, _Member]) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        for provider in providers:
            name = provider.spec.name
            if name in members:
                raise ValueError(f"two providers are named {name!r}; rename one")
            former = old.get(name)
            members[name] = former if former and former.provider is provider else _Member(provider)
        return members


class _Member:
    """A provider in service, with what is counted and remembered about it."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.leases = 0
        self.retired = False
        self.known: tuple[ModelCard, ...] = provider.spec.models
        """The models we know of without asking."""
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        self._closed = False

    async def retire(self) -> None:
        """Close the provider as soon as nobody uses it."""
        self.retired = True
        if not self.leases and not self._closed:
            self._closed = True
            await self.provider.aclose()

    def is_due(self, now: float) -> bool:
        """Whether its models are to be asked for, before they are known or again."""
        if self.provider.spec.models:
            return False
        return self._asked_at is None or now - self._asked_at >= LISTING_KEPT

    async def cards(self, clock: Callable[[], float]) -> tuple[ModelCard, ...]:
        """The models of the row, else those the provider lists, else what was known before."""
        if self.provider.spec.models:
            return self.provider.spec.models
        async with self._asking:
            if self.is_due(clock()):
                await self._ask()
                self._asked_at = clock()
        return self.known

    async def _ask(self) -> None:
        facts = {card.id: card for card in known_models(self.provider.spec.name)}
        try:
            async with asyncio.timeout(LISTING_TIMEOUT):
                listed = await self.provider.list_models()
        except (ProviderError, TimeoutError):
            self.known = self.known or tuple(facts.values())
            return
        cards = tuple(_merged(card, facts.get(card.id)) for card in listed[:MOST_LISTED])
        if cards != self.known:  # the same object says that nothing changed
            self.known = cards


def _merged(listed: ModelCard, known: ModelCard | None) -> ModelCard:
    """What the provider says of its model, filled up with what the catalogue knows."""
    return known.model_copy(update=listed.model_dump(exclude_none=True)) if known else listed
