"""What the name of a model means: `auto`, an alias or a group of the configuration, `provider/model`, or a
model's own id."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from routing.candidate import Candidate
from routing.catalogue import nearest_providers, retired
from routing.config import ModelCard, ProviderSpec, Strategy
from routing.errors import ModelNotFound, ProviderNotFound, ProviderRetired
from routing.slate import Slate
from routing.types import AUTO, Quality

_LONGEST_SHOWN = 100
_MOST_SHOWN = 4
"""Names that are told to whom none is near."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidates that a name leaves, and what else it says."""

    slate: Slate
    strategy: Strategy | None = None
    """How to choose among them; None = as the router does where no name says how."""
    is_open: bool = False
    """Whether the name leaves the choice to the router, among all that there is."""
    quality: Quality | None = None
    """What the name itself asks for; None = the request decides."""
    prefers_tools: bool = False


@dataclass(frozen=True, slots=True)
class _Meaning:
    quality: Quality | None
    prefers_tools: bool = False


BUILT_IN_ALIASES: Mapping[str, _Meaning] = MappingProxyType(
    {
        "default": _Meaning(None),
        "fast": _Meaning("fastest"),
        "code": _Meaning("best_quality", prefers_tools=True),
        "reasoning": _Meaning("best_quality"),
    }
)
"""Names that mean `auto` unless the configuration gives them a chain or group."""


def verbatim(spec: ProviderSpec, cards: Mapping[str, ModelCard], model: str) -> Candidate:
    """The model of that name at this account, known or not; the provider's own prefix is taken off once.

    `cards` are those known, by their ids.
    """
    for name in (model, model.removeprefix(f"{spec.name}/")):
        if card := cards.get(name):
            return Candidate(spec, card)
    return Candidate(spec, ModelCard(id=model.removeprefix(f"{spec.name}/")))


def bare(name: str, everything: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """All candidates whose id is the name.

    Raises ModelNotFound, with the nearest names or else some that there are; ProviderRetired where the name
    begins with that of a provider that is no more.
    """
    everything = tuple(everything)
    found = tuple(each for each in everything if each.card.id == name)
    if found:
        return found
    prefix, slash, _ = name.partition("/")
    if slash and (gone := retired(prefix)):
        raise ProviderRetired(_shown(prefix), gone.words)
    names = [spelling for each in everything for spelling in (each.name, each.card.id)]
    there = (AUTO, *dict.fromkeys(each.name for each in everything))
    raise ModelNotFound(_shown(name), nearest(name, [*names, *BUILT_IN_ALIASES]), there[:_MOST_SHOWN])


def provider_named(name: str, names: Iterable[str]) -> ProviderNotFound:
    """The error for a provider that is not configured."""
    if gone := retired(name):
        return ProviderRetired(_shown(name), gone.words)
    names = tuple(names)
    meant = tuple(each for each in nearest_providers(name) if each in names)
    return ProviderNotFound(_shown(name), meant or nearest(name, names))


def nearest(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """Up to three of the names that look like this one, whatever its case."""
    spelled = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(_shown(name).casefold(), list(spelled), n=3)
    return tuple(spelled[each] for each in close)


def _shown(name: str) -> str:
    return name[:_LONGEST_SHOWN]
