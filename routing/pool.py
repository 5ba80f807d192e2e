"""The live accounts at providers: one immutable set at a time, replaced whole."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from types import MappingProxyType

from routing.candidate import Candidate
from routing.config import ChainLink, ModelCard, ModelGroup, ProviderSpec
from routing.errors import ModelNotFound, NoProviderConfigured, ProviderRetired
from routing.listing import Listing
from routing.naming import BUILT_IN_ALIASES, Choice, bare, provider_named, verbatim
from routing.providers.base import Provider
from routing.slate import Slate
from routing.types import AUTO

MOST_SLATES = 256
"""Sets of candidates that are remembered, so that a model asked by name is not looked at anew each time."""


class ProviderPool:
    """Who can be asked now. Requests in flight keep the accounts they began with."""

    def __init__(
        self, providers: Iterable[Provider] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._members: Mapping[str, _Member] = {}
        self._at: Mapping[str, Sequence[_Member]] = {}
        self._everything = Slate(())
        self._slates: dict[tuple[tuple[int, int], ...], Slate] = {}
        self._made_of: tuple[tuple[ModelCard, ...], ...] = ()
        self._take(self._members_for(providers))

    @property
    def names(self) -> tuple[str, ...]:
        """The configured providers, in the order given."""
        return tuple(self._at)

    @property
    def accounts(self) -> Mapping[str, tuple[str, ...]]:
        """Of each provider, the ids of its accounts (`ProviderSpec.account_id`), in the order given."""
        return {name: tuple(each.spec.account_id for each in at) for name, at in self._at.items()}

    @property
    def specs(self) -> tuple[ProviderSpec, ...]:
        """The rows of the accounts in service, in the order given."""
        return tuple(member.spec for member in self._members.values())

    def has(self, spec: ProviderSpec) -> bool:
        """Whether the account in service under that name is still that one: same address, same key."""
        member = self._members.get(spec.account_id)
        return member is not None and member.spec.is_same_account(spec)

    def known(self, account_id: str) -> frozenset[str]:
        """The models of the account to choose from, by their ids, as far as it told."""
        member = self._members.get(account_id)
        return frozenset(card.id for card in member.listing.known) if member else frozenset()

    def silent(self) -> list[tuple[ProviderSpec, str]]:
        """The accounts of which no model is known, and why; they are asked anew where it is time."""
        _look(self._members.values())
        reasons = ((member.spec, member.listing.silence) for member in self._members.values())
        return [(spec, reason) for spec, reason in reasons if reason is not None]

    def live(self, spec: ProviderSpec) -> Provider | None:
        """The account in service with exactly this row, to be kept over a change of the others."""
        member = self._members.get(spec.account_id)
        return member.provider if member and member.spec == spec else None

    def swap(self, providers: Iterable[Provider]) -> Swap:
        """Replace the whole set at once, in no time. `finish` what it returns.

        Providers that name no models are asked for them in advance.
        """
        old, new = self._members, self._members_for(providers)
        self._take(new)
        _look(new.values())
        leaving = [each for place, each in old.items() if new.get(place) is not each]
        for member in leaving:
            member.is_retired = True
        both = old.keys() & new.keys()
        same = {each for each in both if old[each].spec.is_same_account(new[each].spec)}
        return Swap(frozenset(old.keys() | new.keys()) - same, tuple(leaving))

    async def aclose(self) -> None:
        """Take all accounts out of service."""
        await self.swap(()).finish()

    @contextlib.asynccontextmanager
    async def lease(self, account_id: str) -> AsyncIterator[Provider]:
        """The account, kept open while the context is. Raises ProviderNotFound when it left the pool."""
        member = self._members.get(account_id)
        if member is None:
            raise provider_named(account_id, self._members)
        member.leases += 1
        try:
            yield member.provider
        finally:
            member.leases -= 1
            if member.is_retired:
                await member.retire()

    async def candidates(self) -> tuple[Candidate, ...]:
        """Every model of every account that is chosen from, once all have told theirs."""
        _look(self._members.values())
        while await self.another_listing():
            pass
        return self._all().candidates

    async def another_listing(self) -> bool:
        """Wait for the next answer of a provider that is asked for its models while none is known of it.

        False = there is no such provider.
        """
        unheard = [member.listing.asking for member in self._members.values() if not member.listing.known]
        asked = [task for task in unheard if task]
        if asked:
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        return bool(asked)

    async def offered(self) -> tuple[Candidate, ...]:
        """Every model that the providers list, also those that are only asked by name.

        A provider that gives no list has the models that are known of it.
        """
        members = list(self._members.values())
        return tuple(
            _candidates(members, await asyncio.gather(*(member.listing.offered() for member in members)))
        )

    async def resolve(
        self,
        model: str,
        provider: str | None = None,
        aliases: Mapping[str, Sequence[ChainLink]] = MappingProxyType({}),
        groups: Mapping[str, ModelGroup] = MappingProxyType({}),
    ) -> Choice:
        """The candidates a request means by these names (see `naming`), as far as they are known by now.

        The configuration's own names come first: it may give `auto`, too, a meaning. It is waited for
        providers' lists of models only where a name is on none. Raises NoProviderConfigured,
        ProviderNotFound and ModelNotFound.
        """
        if not self._members:
            raise NoProviderConfigured(
                "No model provider is configured: set a provider's key, start a model server on this "
                "machine, or run `agent-service local install`."
            )
        if provider is not None:
            return await self._at_provider(provider, model)
        if chain := aliases.get(model):
            return Choice(self._linked(chain), "in-order")
        if group := groups.get(model):
            return Choice(self._linked(group.of), group.strategy)
        if model == AUTO:
            return Choice(self._all(), is_open=True)
        if meaning := BUILT_IN_ALIASES.get(model):
            return Choice(
                self._all(),
                is_open=True,
                quality=meaning.quality,
                prefers_tools=meaning.prefers_tools,
            )
        return await self._by_name(model)

    def _all(self) -> Slate:
        """Every model that is known of any account; the same object until one of them changes."""
        members = self._members.values()
        _look(members)
        made_of = tuple(member.listing.known for member in members)
        if len(made_of) != len(self._made_of) or any(
            new is not old for new, old in zip(made_of, self._made_of, strict=True)
        ):
            self._everything, self._made_of = Slate(_candidates(members, made_of)), made_of
        return self._everything

    async def _at_provider(self, name: str, model: str) -> Choice:
        """A model of one provider, at any of its accounts."""
        members = self._at.get(name)
        if members is None:
            raise provider_named(name, self._at)
        if model != AUTO:
            return Choice(self._slate(member.candidate(model) for member in members))
        _look(members)
        return Choice(self._slate(_candidates(members, [member.listing.known for member in members])))

    def _linked(self, links: Sequence[ChainLink]) -> Slate:
        """The links at configured providers. Raises ProviderNotFound when there are none."""
        found = [member.candidate(link.model) for link in links for member in self._at.get(link.provider, ())]
        if not found:
            raise provider_named(links[0].provider, self._at)
        return self._slate(found)

    async def _by_name(self, model: str) -> Choice:
        """`provider/model` of a configured provider, or a bare id at any."""
        prefix, slash, rest = model.partition("/")
        if slash and rest and (members := self._at.get(prefix)):
            answers = await asyncio.gather(*(member.may_have(rest) for member in members))
            if having := [*compress(members, answers)]:
                return Choice(self._slate(member.candidate(rest) for member in having))
        try:
            return Choice(self._slate(bare(model, self._all().candidates)))
        except (ModelNotFound, ProviderRetired):
            return Choice(self._slate(bare(model, await self.offered())))

    def _slate(self, candidates: Iterable[Candidate]) -> Slate:
        """A slate of these: the one from before if they are the same, for it has worked out much already."""
        found = tuple(candidates)
        same = tuple((id(each.spec), id(each.card)) for each in found)
        slate = self._slates.get(same)
        if slate is None:
            if len(self._slates) >= MOST_SLATES:
                self._slates.clear()
            slate = self._slates[same] = Slate(found)
        return slate

    def _take(self, members: Mapping[str, _Member]) -> None:
        at: dict[str, list[_Member]] = {}
        for member in members.values():
            at.setdefault(member.spec.name, []).append(member)
        self._members, self._at = members, at
        self._everything, self._made_of = Slate(()), ()
        self._slates = {}

    def _members_for(self, providers: Iterable[Provider]) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        for provider in providers:
            place = provider.spec.account_id
            if place in members:
                raise ValueError(f"two accounts are named {place!r}; rename one")
            former = self._members.get(place)
            members[place] = (
                former if former and former.provider is provider else _Member(provider, self._clock)
            )
        return members


@dataclass(frozen=True, slots=True)
class Swap:
    """What a change of the providers means. It is in force already."""

    changed: frozenset[str]
    """The ids of accounts that are new, gone, or others by the same name."""
    _leaving: tuple[_Member, ...]

    async def finish(self) -> None:
        """Close the providers that left; those with requests in flight are closed by the last of these."""
        await asyncio.gather(*(member.retire() for member in self._leaving))


def _look(members: Iterable[_Member]) -> None:
    """Begin to ask those for their models that name none, where it is time."""
    for member in members:
        member.listing.look()


def _candidates(members: Iterable[_Member], lists: Iterable[Iterable[ModelCard]]) -> Iterator[Candidate]:
    """The models of each account."""
    for member, cards in zip(members, lists, strict=True):
        for card in cards:
            yield Candidate(member.spec, card)


class _Member:
    """An account in service, with what is counted and remembered about it."""

    def __init__(self, provider: Provider, clock: Callable[[], float]) -> None:
        self.provider, self.spec = provider, provider.spec
        self.listing = Listing(provider, clock)
        self.leases = 0
        self.is_retired = False
        self._closed = False

    async def retire(self) -> None:
        """Close the provider if nobody uses it."""
        await self.listing.aclose()
        if not self.leases and not self._closed:
            self._closed = True
            await self.provider.aclose()

    async def may_have(self, model: str) -> bool:
        """Whether it has the model; one that cannot say what it has is taken at the caller's word."""
        if not await self.listing.cards() or model in self.listing.by_id:
            return True
        await self.listing.offered()
        return model in self.listing.by_id

    def candidate(self, model: str) -> Candidate:
        """The model of that name here, known or not."""
        return verbatim(self.spec, self.listing.by_id, model)
