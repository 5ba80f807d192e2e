"""Accounts from files of other programs: YAML, JSON, `.env`, `.lenv` and indented Links notation.

What cannot be read is skipped and named, never guessed. No reason quotes a value, because a value may be
a key; nor a name that looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import orjson

from agent_service.config_file import ValueUnreadable, read_value
from agent_service.keys.account import Account, last4
from agent_service.keys.address import checked_address
from agent_service.keys.assignments import ENV_LINE, LENV_LINE, assignments, last_of_each
from agent_service.keys.errors import AccountInvalid
from agent_service.keys.links import linked_records
from agent_service.keys.records import Misshapen, Unreadable, account_of, shown
from agent_service.keys.rows import records_in
from agent_service.keys.variables import accounts_of_variables, usual_provider
from routing.catalogue import known_providers
from routing.redaction import redact

MAX_IMPORT_BYTES = 256 * 1024
"""A list of keys larger than this is not one."""
MAX_RECORDS = 1000
_STORE_LINE = re.compile(r"PROVIDER:\s*(\{.*)")
_YAML_LINE = re.compile(r"\s*(?:- +)*[^\s:]+:(?:\s.*)?|\s*-(?: .*)?|---")
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")
_QUOTED = re.compile(r"""(['"])(.*)\1""")
_FORMS = {".yaml": "YAML", ".yml": "YAML", ".json": "JSON", ".env": ".env", ".lino": "Links notation"}
"""Endings of names that say what a file must be."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something of a file that was not taken."""

    where: str
    """A provider's name, `record 3` or `line 7`."""
    reason: str
    lost: Literal["part", "account", "file"] = "part"
    """What was not taken because of it."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file holds."""

    form: str
    """What it was read as."""
    accounts: tuple[Account, ...]
    """Read, not yet checked (`account.checked_account`)."""
    skipped: tuple[Note, ...]
    """Accounts that could not be read, and parts of others that were left out."""


def read_accounts(text: str, environ: Mapping[str, str], name: str = "") -> Imported:
    """The accounts in a file's text. `${NAME}` and `api_key_env` read `environ`. Never raises.

    The ending of the file's `name`, if it is one of a form, decides how the text is read; else the text does.
    """
    text = text.removeprefix("\ufeff")
    lines = text.splitlines()
    form = _form(lines, name)
    try:
        if match := _NO_TEXT.search(text):
            line = text.count("\n", 0, match.start()) + 1
            raise Misshapen(line, "it is no text, or not in UTF-8; save it as UTF-8")
        if form in (".env", ".lenv"):
            return _from_variables(form, lines)
        return _from_records(form, _records(form, text, lines), environ)
    except Misshapen as error:
        return Imported(form, (), (Note(error.where, str(error), "file"),))


def _form(lines: list[str], name: str) -> str:
    lower = PurePath(name).name.lower()
    if form := _FORMS.get(".env" if lower == ".env" or lower.startswith(".env.") else PurePath(lower).suffix):
        return form
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))]
    if rows and rows[0].lstrip()[0] in "{[":
        return "JSON"
    if any(_STORE_LINE.fullmatch(row) for row in rows):
        return "provider store (.lenv)"
    if any(ENV_LINE.fullmatch(row) for row in rows) or (
        rows and all(ENV_LINE.fullmatch(row.strip()) for row in rows)
    ):
        return ".env"
    if rows and all(LENV_LINE.fullmatch(row) for row in rows):
        return ".lenv"
    # Links notation may have colons, too, but a file of nothing else is meant as YAML, however broken.
    if all(_YAML_LINE.fullmatch(row) for row in rows) or _is_yaml("\n".join(lines)):
        return "YAML"
    return "Links notation"


def _is_yaml(text: str) -> bool:
    try:
        return isinstance(read_value(text), Mapping | list)
    except (ValueError, OverflowError):
        return False


def _records(form: str, text: str, lines: list[str]) -> Iterable[tuple[str, Any]]:
    """The records of the text in that form. Raises Misshapen."""
    if form == "JSON":
        return records_in(_json(text))
    if form == "YAML":
        return records_in(_yaml(text))
    return linked_records(lines) if form == "Links notation" else _stored_records(lines)


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Misshapen(error.lineno, "it is not valid JSON") from None


def _yaml(text: str) -> Any:
    try:
        data = read_value(text)
    except ValueUnreadable as error:
        raise Misshapen(error.line, f"it is not valid YAML: {_unquoting(error.problem)}") from None
    except (ValueError, OverflowError):
        raise Misshapen(None, "it is not valid YAML: a value makes no sense") from None
    if data is not None and not isinstance(data, Mapping | list):
        raise Misshapen(None, "it is not YAML with names and fields, such as `groq: {api_key: ...}`")
    return data


def _unquoting(problem: str) -> str:
    """What a parser says, for a person, and without what it quotes unless that is fit to be shown."""
    if problem.startswith("expected <block end>"):
        return "its indentation does not fit the lines above it"
    return _QUOTED.sub(lambda quoted: f"`{shown(quoted[2], '...')}`", problem)


def _from_variables(form: str, lines: list[str]) -> Imported:
    """Raises Misshapen."""
    variables, replaced = last_of_each(assignments(lines, ENV_LINE if form == ".env" else LENV_LINE))
    accounts, unknown = accounts_of_variables(variables)
    notes = [Note(where, reason) for where, reason in [*replaced, *unknown]]
    if not accounts and not notes:
        notes = [Note("the file", "it names no key of a provider")]
    return Imported(form, tuple(accounts), tuple(notes))


def _from_records(form: str, records: Iterable[tuple[str, Any]], environ: Mapping[str, str]) -> Imported:
    accounts: dict[tuple[str, str], Account] = {}
    notes = []
    for count, (where, record) in enumerate(records):
        if count == MAX_RECORDS:
            notes.append(Note(where, f"a file may hold at most {MAX_RECORDS} accounts", "account"))
            break
        try:
            if isinstance(record, Unreadable):
                raise record
            account, left_out = account_of(record, environ)
            if (names := (account.provider, account.account)) in accounts:
                raise Unreadable("the account appears twice; the first one counts")
        except Unreadable as error:
            notes.append(Note(where, str(error), "account"))
            continue
        accounts[names] = account
        if left_out:
            notes.append(Note(where, f"fields left out: {', '.join(left_out)}"))
    if not accounts and not notes:
        notes = [Note("the file", "it holds no accounts")]
    return Imported(form, tuple(accounts.values()), tuple(notes))


def _stored_records(lines: list[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if match := _STORE_LINE.fullmatch(line.strip()):
            try:
                yield f"line {number}", orjson.loads(match[1])
            except orjson.JSONDecodeError:
                yield f"line {number}", None


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
