"""Accounts from files of other programs: YAML, JSON, `.env`, `.lenv` and indented Links notation.

What cannot be read is skipped and named, never guessed. No reason quotes a value, because a value may be
a key; nor a name that looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from agent_service.config_file import read_value
from agent_service.keys.account import Account, last4
from agent_service.keys.address import checked_address
from agent_service.keys.errors import AccountInvalid
from agent_service.keys.records import FIELDS, Unreadable, account_of, name_in, shown
from agent_service.keys.variables import accounts_of_variables, usual_provider
from routing.catalogue import known_providers
from routing.config import DEFAULT_ACCOUNT
from routing.redaction import redact

MAX_IMPORT_BYTES = 256 * 1024
"""A list of keys larger than this is not one."""
MAX_RECORDS = 1000
_ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_LENV_LINE = re.compile(r"([A-Z][A-Z0-9_]*):(?:\s+(.*))?")
_STORE_LINE = re.compile(r"PROVIDER:\s*(\{.*)")
_LINKS_FIELD = re.compile(r"\s+([A-Za-z][A-Za-z_-]*)\s*(?:[:=]\s*|\s)(.*)")


@dataclass(frozen=True, slots=True)
class Note:
    """Something of a file that was not taken."""

    where: str
    """A provider's name, `record 3` or `line 7`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file holds."""

    form: str
    """What it was read as."""
    accounts: tuple[Account, ...]
    """Read, not yet checked (`account.checked_account`)."""
    skipped: tuple[Note, ...]
    """Accounts that could not be read, and parts of others that were left out."""


def read_accounts(text: str, environ: Mapping[str, str]) -> Imported:
    """The accounts in a file's text. `${NAME}` and `api_key_env` read `environ`. Never raises."""
    text = text.removeprefix("\ufeff")
    lines = text.splitlines()
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))]
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text, environ)
    if any(_STORE_LINE.fullmatch(row) for row in rows):
        return _from_records("provider store (.lenv)", _stored_records(lines), environ)
    if rows and all(_ENV_LINE.fullmatch(row.strip()) for row in rows):
        return _from_variables(".env", _assignments(lines, _ENV_LINE), environ)
    if rows and all(_LENV_LINE.fullmatch(row) for row in rows):
        return _from_variables(".lenv", _assignments(lines, _LENV_LINE), environ)
    try:
        data = read_value(text)
    except (ValueError, OverflowError):
        data = None
    if isinstance(data, Mapping | list):
        return _from_records("YAML", _records(data), environ)
    return _from_records("Links notation", _linked_records(lines), environ)


def _from_json(text: str, environ: Mapping[str, str]) -> Imported:
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Imported("JSON", (), (Note(f"line {error.lineno}", "it is not valid JSON"),))
    return _from_records("JSON", _records(data), environ)


def _from_variables(
    form: str, variables: Iterable[tuple[int, str, str]], environ: Mapping[str, str]
) -> Imported:
    accounts, unknown = accounts_of_variables(variables)
    notes = [Note(where, reason) for where, reason in unknown]
    if not accounts and not notes:
        notes = [Note("the file", "it names no key of a provider")]
    return Imported(form, tuple(accounts), tuple(notes))


def _from_records(form: str, records: Iterable[tuple[str, Any]], environ: Mapping[str, str]) -> Imported:
    accounts: dict[tuple[str, str], Account] = {}
    notes = []
    for count, (where, record) in enumerate(records):
        if count == MAX_RECORDS:
            notes.append(Note(where, f"a file may hold at most {MAX_RECORDS} accounts"))
            break
        try:
            account, left_out = account_of(record, environ)
            if (names := (account.provider, account.account)) in accounts:
                raise Unreadable("the account appears twice; the first one counts")
        except Unreadable as error:
            notes.append(Note(where, str(error)))
            continue
        accounts[names] = account
        if left_out:
            notes.append(Note(where, f"fields left out: {', '.join(left_out)}"))
    if not accounts and not notes:
        notes = [Note("the file", "it holds no accounts")]
    return Imported(form, tuple(accounts.values()), tuple(notes))


def _records(data: Any) -> Iterator[tuple[str, Any]]:
    """The records of a parsed file, each with a word for where it is."""
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
    """The record, or one for each entry of its list of accounts."""
    accounts = record.get("accounts") if isinstance(record, Mapping) else None
    if not isinstance(accounts, list):
        yield where, record
        return
    for number, each in enumerate(accounts, 1):
        entry = dict(each) if isinstance(each, Mapping) else {"api_key": each}
        if not {"account", "account_id"} & entry.keys():
            entry["account"] = DEFAULT_ACCOUNT if number == 1 else str(number)
        yield f"{where}, account {number}", {**record, **entry, "accounts": None}


def _stored_records(lines: list[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if match := _STORE_LINE.fullmatch(line.strip()):
            try:
                yield f"line {number}", orjson.loads(match[1])
            except orjson.JSONDecodeError:
                yield f"line {number}", None


def _linked_records(lines: list[str]) -> Iterator[tuple[str, Any]]:
    """A name on a line of its own, then its fields, indented."""
    record: dict[str, Any] | None = None
    where = ""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(("#", "//")):
            continue
        if not line[0].isspace():
            if record is not None:
                yield where, record
            name = _unquoted(line.strip().rstrip(":").strip("()"))
            where, record = shown(name, f"line {number}"), {"name": name}
        elif record is not None and (match := _LINKS_FIELD.fullmatch(line.rstrip())):
            record[match[1]] = _unquoted(match[2].strip())
        else:
            yield f"line {number}", None
    if record is not None:
        yield where, record


def _assignments(lines: list[str], form: re.Pattern[str]) -> Iterator[tuple[int, str, str]]:
    """(line number, name, value) of each."""
    for number, line in enumerate(lines, 1):
        if (match := form.fullmatch(line.strip())) and not line.lstrip().startswith("#"):
            yield number, match[1], _unquoted((match[2] or "").strip())


def _unquoted(text: str) -> str:
    for quote in "\"'`":
        if len(text) >= 2 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text


def described(account: Account) -> str:
    """An account in a line: where its key comes from and goes to, with at most the last four characters."""
    end = last4(account.api_key)
    key = "no key" if end is None else f"key ...{end}"
    read = f" (from the environment: {', '.join(account.variables)})" if account.variables else ""
    return f"{account.provider}/{account.account}: {key}{read}, {address_of(account)}"


def address_of(account: Account) -> str:
    """Where the key of an account would go, as it may be shown."""
    if account.base_url is None:
        return "the provider's own address"
    try:
        shown = checked_address(account.base_url, allow_private=True)
    except AccountInvalid:
        return "to an address that is none"
    if account.written_url is not None and account.written_url.isprintable():
        shown = account.written_url  # what its variables hold is not to be shown
    return f"to {redact(shown)}"


def gives_away(account: Account) -> bool:
    """Whether a file had a variable of the environment read that is not the provider's, or is sent to an
    address of the file's own: whoever wrote the file would get to see it."""
    if not account.variables:
        return False
    known = known_providers().get(account.provider)
    if known is None or (account.base_url is not None and not known.is_at(account.base_url)):
        return True
    return not all(usual_provider(name) == account.provider for name in account.variables)
