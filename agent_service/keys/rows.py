"""The records in a parsed YAML or JSON file: a provider's row, or one record for each of its accounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent_service.keys.records import FIELDS, Unreadable, canonical, name_in, shown
from routing.config import DEFAULT_ACCOUNT

_KEYS = frozenset({"api_key", "api_key_env", "encrypted_api_key"})


def records_in(data: Any) -> Iterator[tuple[str, Any]]:
    """Each record with a word for where it is; Unreadable in the place of one that cannot be told apart."""
    if isinstance(data, Mapping) and isinstance(inner := data.get("litellm"), Mapping):
        data = inner
    if isinstance(data, Mapping):
        data = data.get("providers", data.get("data", data))
    if isinstance(data, list):
        for number, record in enumerate(data, 1):
            yield from _with_accounts(shown(name_in(record), f"record {number}"), record)
    elif isinstance(data, Mapping):
        if FIELDS.keys() & data.keys() or {"name", "api_key", "base_url"} & data.keys():
            yield from _with_accounts(shown(name_in(data), "record 1"), data)
            return
        for number, (name, record) in enumerate(data.items(), 1):
            where = shown(str(name), f"record {number}")
            if isinstance(record, list):
                record = {"accounts": record}
            elif not isinstance(record, Mapping):
                record = {} if record is None else {"api_key": record}
            yield from _with_accounts(where, {**record, "name": name})


def _with_accounts(where: str, record: Any) -> Iterator[tuple[str, Any]]:
    """The record, or one for each of its accounts, and one for itself if it has a key beside them."""
    accounts = record.get("accounts") if isinstance(record, Mapping) else None
    if not accounts:
        yield where, record
        return
    if not isinstance(accounts, list | Mapping):
        yield where, Unreadable("its accounts are neither a list nor a mapping")
        return
    row = {name: value for name, value in record.items() if name != "accounts"}
    if any(value for name, value in row.items() if canonical(name) in _KEYS):
        yield where, row
    for number, (name, entry) in enumerate(_entries(accounts), 1):
        place = name if isinstance(accounts, Mapping) else str(number)
        yield f"{where}, account {shown(place, str(number))}", _account(row, name, entry)


def _entries(accounts: Mapping[Any, Any] | list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each account's name and what is said of it, by our names of fields."""
    named = isinstance(accounts, Mapping)
    pairs = accounts.items() if isinstance(accounts, Mapping) else enumerate(accounts)
    for number, (name, value) in enumerate(pairs, 1):
        entry: dict[str, Any] = {}
        for field, said in (value if isinstance(value, Mapping) else {"api_key": value}).items():
            if said is not None:
                entry.setdefault(canonical(field), said)
        usual = DEFAULT_ACCOUNT if number == 1 else str(number)
        yield str(name if named else entry.get("account", entry.get("name", usual))), entry


def _account(row: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> dict[str, Any] | Unreadable:
    """What the row says holds for its accounts, but for its key: that is the row's own."""
    if not any(entry.get(key) for key in _KEYS):
        return Unreadable("the account has no key of its own")
    own = {field: value for field, value in entry.items() if field not in ("name", "account", "accounts")}
    apart = own.keys() | _KEYS | {"account"}
    shared = {field: value for field, value in row.items() if canonical(field) not in apart}
    return {**shared, **own, "account": name}
