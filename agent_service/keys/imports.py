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
from pydantic import SecretStr, ValidationError

from agent_service.config_file import read_value
from agent_service.keys.account import (
    ACCOUNT_PATTERN,
    NAME_PATTERN,
    Account,
    AccountOptions,
    last4,
)
from agent_service.keys.variables import accounts_of_variables
from routing.catalogue import known_providers
from routing.config import DEFAULT_ACCOUNT, Protocol
from routing.redaction import redact

MAX_RECORDS = 1000
_FIELDS = {
    "api_base": "base_url",
    "url": "base_url",
    "endpoint": "base_url",
    "key": "api_key",
    "token": "api_key",
    "kind": "protocol",
    "type": "protocol",
    "default_model": "model",
    "account_id": "account",
    "is_active": "enabled",
    "provider": "name",
    "id": "name",
}
"""Other names of fields -> ours."""
_PROTOCOLS: Mapping[str, Protocol] = {
    "openai-compatible": "openai-chat",
    "openai": "openai-chat",
    "openai-like": "openai-chat",
    "openai-chat": "openai-chat",
    "litellm": "openai-chat",
    "anthropic": "anthropic-messages",
    "anthropic-messages": "anthropic-messages",
    "azure": "azure-openai",
    "azure-openai": "azure-openai",
    "cohere": "cohere-chat",
    "cohere-chat": "cohere-chat",
    "gemini": "gemini",
    "google": "gemini",
}
_TAKEN = frozenset(
    {"name", "account", "api_key", "api_key_env", "encrypted_api_key", "base_url", "protocol", "model"}
    | {"models", "enabled", "allow_private", "cap_usd_per_day", "accounts"}
)
_ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
_LENV_LINE = re.compile(r"([A-Z][A-Z0-9_]*):(?:\s+(.*))?")
_STORE_LINE = re.compile(r"PROVIDER:\s*(\{.*)")
_LINKS_FIELD = re.compile(r"\s+([A-Za-z][A-Za-z_-]*)\s*(?:[:=]\s*|\s)(.*)")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LOOKS_SECRET = re.compile(r"[A-Za-z0-9_-]{20,}|\d[A-Za-z0-9_-]{11,}")
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


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


class _Unreadable(Exception):
    """A record that makes no account; the message quotes nothing of it."""


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
            account, left_out = _account(record, environ)
            if (names := (account.provider, account.account)) in accounts:
                raise _Unreadable("the account appears twice; the first one counts")
        except _Unreadable as error:
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
            yield from _with_accounts(_shown(_name_in(record), f"record {number}"), record)
    elif isinstance(data, Mapping):
        if _FIELDS.keys() & data.keys() or {"name", "api_key", "base_url"} & data.keys():
            yield from _with_accounts(_shown(_name_in(data), "record 1"), data)
            return
        for number, (name, record) in enumerate(data.items(), 1):
            where = _shown(str(name), f"record {number}")
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
            where, record = _shown(name, f"line {number}"), {"name": name}
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


def _account(record: Any, environ: Mapping[str, str]) -> tuple[Account, list[str]]:
    """The account of a record, and the names of the fields that mean nothing here. Raises _Unreadable."""
    if not isinstance(record, Mapping):
        raise _Unreadable("it is no record with fields")
    fields: dict[str, Any] = {}
    for name, value in record.items():
        plain = str(name).lower().replace("-", "_")
        if value is not None:
            fields.setdefault(_FIELDS.get(plain, plain), value)
    left_out = sorted(_shown(name, "one with a strange name") for name in fields.keys() - _TAKEN)
    provider = _name_in(fields).lower().replace(" ", "_")
    if not re.fullmatch(NAME_PATTERN, provider):
        raise _Unreadable("its name is missing, or not of letters, digits, `-`, `_` and `.`")
    account = str(fields.get("account", DEFAULT_ACCOUNT))
    if not re.fullmatch(ACCOUNT_PATTERN, account):
        raise _Unreadable("the name of its account is not of letters, digits, `-`, `_`, `.` and `@`")
    base_url = _text(fields, "base_url", environ)
    options = _options(fields, provider, base_url)
    return Account(provider, account, _key(fields, environ), base_url, options), left_out


def _key(fields: Mapping[str, Any], environ: Mapping[str, str]) -> SecretStr | None:
    """The key of a record; its environment variable wins, as where these files come from."""
    variable = fields.get("api_key_env")
    if isinstance(variable, str) and (value := environ.get(variable, "").strip()):
        return SecretStr(value)
    if key := _text(fields, "api_key", environ):
        return SecretStr(key)
    if variable is not None:
        raise _Unreadable("the environment variable that api_key_env names is not set")
    if "encrypted_api_key" in fields:
        raise _Unreadable(
            "its key is encrypted for another program; add it with `agent-service providers add`"
        )
    return None


def _options(fields: Mapping[str, Any], provider: str, base_url: str | None) -> AccountOptions:
    """Raises _Unreadable."""
    kind = str(fields.get("protocol", "")).lower().replace("_", "-")
    if kind and kind not in _PROTOCOLS:
        raise _Unreadable("its kind is none that we speak")
    own = provider not in known_providers() or base_url is not None
    try:
        return AccountOptions(
            enabled=_truth(fields, "enabled", usual=True),
            protocol=_PROTOCOLS[kind] if kind and own else None,
            models=_models(fields),
            allow_private=_truth(fields, "allow_private", usual=False),
            cap_usd_per_day=fields.get("cap_usd_per_day"),
        )
    except ValidationError as error:
        field = error.errors(include_input=False, include_url=False)[0]["loc"][0]
        raise _Unreadable(f"its field {field} makes no sense") from None


def _models(fields: Mapping[str, Any]) -> Any:
    """All that are named, the default one first; None if there are none."""
    models = fields.get("models") or []
    if isinstance(models, str):
        models = [part.strip() for part in models.split(",") if part.strip()]
    first = fields.get("model")
    if isinstance(first, str) and first.strip() and isinstance(models, list):
        models = [first.strip(), *(each for each in models if each != first.strip())]
    return models or None


def _truth(fields: Mapping[str, Any], name: str, *, usual: bool) -> bool:
    word = str(fields.get(name, usual)).strip().lower()
    if word not in _TRUE | _FALSE:
        raise _Unreadable(f"its field {name} is neither true nor false")
    return word in _TRUE


def _text(fields: Mapping[str, Any], name: str, environ: Mapping[str, str]) -> str | None:
    """A field as text, with `${NAME}` replaced; None if it is empty. Raises _Unreadable."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Unreadable(f"its field {name} is no text")

    def replace(match: re.Match[str]) -> str:
        if not environ.get(match[1]):
            raise _Unreadable(f"its field {name} names an environment variable that is not set")
        return environ[match[1]]

    return _VARIABLE.sub(replace, str(value)).strip() or None


def _name_in(record: Any) -> str:
    if not isinstance(record, Mapping):
        return ""
    found = record.get("name", record.get("provider", record.get("id")))
    return str(found) if isinstance(found, str | int) else ""


def _shown(name: str, otherwise: str) -> str:
    """The name if it is fit to be shown: a misplaced key must not come out as one."""
    if name in known_providers():
        return name
    plain = re.fullmatch(ACCOUNT_PATTERN, name) and len(name) <= 40
    return name if plain and not _LOOKS_SECRET.search(name) and redact(name) == name else otherwise


def _unquoted(text: str) -> str:
    for quote in "\"'`":
        if len(text) >= 2 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text


def described(account: Account) -> str:
    """An account in a line, with at most the last four characters of its key."""
    end = last4(account.api_key)
    return f"{account.provider}/{account.account}: {'no key' if end is None else f'key ...{end}'}"
