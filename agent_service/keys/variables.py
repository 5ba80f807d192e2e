"""Accounts from environment variables written down in a file: `GROQ_API_KEY=...`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import SecretStr

from agent_service.keys.account import Account
from routing.catalogue import known_providers
from routing.config import DEFAULT_ACCOUNT

_NUMBERED = re.compile(r"(.*?)_?(\d{1,3})")
_UNKNOWN_KEY = re.compile(r"[A-Z][A-Z0-9]{0,15}(?:_[A-Z0-9]{1,15}){0,4}_(?:API_KEY|KEY|TOKEN)")


def accounts_of_variables(
    variables: Iterable[tuple[int, str, str]],
) -> tuple[list[Account], list[tuple[str, str]]]:
    """From (line number, name, value) the accounts, and (where, why) of keys that no provider is known for.

    `GROQ_API_KEY_2` is a second account, named `2`. Variables that are about something else are passed over.
    """
    variables = [*variables]
    environ = {name: value for _, name, value in variables}
    keys, addresses = _usual_names()
    found: dict[tuple[str, str], Account] = {}
    places: dict[str, str] = {}
    unknown = []
    for number, name, value in variables:
        if not value:
            continue
        if provider := addresses.get(name):
            places.setdefault(provider, value)
        elif place := _place(name, keys):
            provider, account = place
            known = known_providers()[provider]
            if not known.is_meant_by(name, environ):
                unknown.append(
                    (f"line {number}", f"{name} counts for {provider} only beside {known.env_switches[0]}")
                )
                continue
            found.setdefault(place, Account(provider, account, SecretStr(value)))
        elif _UNKNOWN_KEY.fullmatch(name):
            unknown.append((f"line {number}", f"no known provider takes its key from {name}"))
    return [
        Account(each.provider, each.account, each.api_key, places.get(each.provider))
        for each in found.values()
    ], unknown


def usual_provider(variable: str) -> str | None:
    """The provider whose key or address that variable usually holds."""
    keys, addresses = _usual_names()
    place = _place(variable, keys)
    return place[0] if place else addresses.get(variable)


def _place(name: str, keys: dict[str, str]) -> tuple[str, str] | None:
    """Provider and account that a variable is about."""
    if provider := keys.get(name):
        return provider, DEFAULT_ACCOUNT
    if (match := _NUMBERED.fullmatch(name)) and (provider := keys.get(match[1])):
        return provider, match[2]
    return None


def _usual_names() -> tuple[dict[str, str], dict[str, str]]:
    """Key variable -> provider, address variable -> provider; the catalogue's first one counts."""
    keys: dict[str, str] = {}
    addresses: dict[str, str] = {}
    for name, known in known_providers().items():
        for variable in known.env_keys:
            keys.setdefault(variable, name)
        for variable in known.env_base_url:
            addresses.setdefault(variable, name)
    return keys, addresses
