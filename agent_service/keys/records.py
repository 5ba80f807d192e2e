"""Accounts from the records of other programs' files: their fields by other names, checked.

No reason why a record is no account quotes a value, because a value may be a key; nor a name that looks like
one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr, ValidationError

from agent_service.keys.account import ACCOUNT_PATTERN, NAME_PATTERN, Account, AccountOptions
from routing.catalogue import known_providers
from routing.config import DEFAULT_ACCOUNT, Protocol
from routing.redaction import redact

FIELDS = {
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
TAKEN = frozenset(
    {"name", "account", "api_key", "api_key_env", "encrypted_api_key", "base_url", "protocol", "model"}
    | {"models", "enabled", "allow_private", "cap_usd_per_day", "limits", "accounts"}
)
"""Our names of the fields that mean something."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LOOKS_SECRET = re.compile(r"[A-Za-z0-9_-]{20,}|\d[A-Za-z0-9_-]{11,}")
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


class Unreadable(Exception):
    """A record that makes no account; the message quotes nothing of it."""


class Misshapen(Exception):
    """A file that is not of its form, so nothing of it is taken; the message quotes nothing of it."""

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason)
        self.where = "the file" if line is None else f"line {line}"


def canonical(name: Any) -> str:
    """Our name of a field that may have another one in the file."""
    plain = str(name).lower().replace("-", "_")
    return FIELDS.get(plain, plain)


def account_of(record: Any, environ: Mapping[str, str]) -> tuple[Account, list[str]]:
    """The account of a record, and the names of the fields that mean nothing here. Raises Unreadable."""
    if not isinstance(record, Mapping):
        raise Unreadable("it is no record with fields")
    fields: dict[str, Any] = {}
    for name, value in record.items():
        if value is not None:
            fields.setdefault(canonical(name), value)
    left_out = sorted(shown(name, "one with a strange name") for name in fields.keys() - TAKEN)
    provider = name_in(fields).lower().replace(" ", "_")
    if not re.fullmatch(NAME_PATTERN, provider):
        raise Unreadable("its name is missing, or not of letters, digits, `-`, `_` and `.`")
    account = str(fields.get("account", DEFAULT_ACCOUNT))
    if not re.fullmatch(ACCOUNT_PATTERN, account):
        raise Unreadable("the name of its account is not of letters, digits, `-`, `_`, `.` and `@`")
    read = _Read(environ)
    base_url = _text(fields, "base_url", read)
    options = _options(fields, provider, base_url)
    key = _key(fields, read)
    variables = tuple(dict.fromkeys(read.names))
    written = str(fields["base_url"]) if base_url is not None else None
    found = Account(provider, account, key, base_url, options, variables=variables, written_url=written)
    return found, left_out


class _Read:
    """The environment, and what was read of it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.names: list[str] = []

    def __call__(self, name: str) -> str:
        """The variable without blanks around it; empty if it is not set."""
        value = self._environ.get(name, "").strip()
        self.names += [name] if value else []
        return value


def _key(fields: Mapping[str, Any], read: _Read) -> SecretStr | None:
    """The key of a record; its environment variable wins, as where these files come from."""
    variable = fields.get("api_key_env")
    if isinstance(variable, str) and (value := read(variable)):
        return SecretStr(value)
    if key := _text(fields, "api_key", read):
        return SecretStr(key)
    if variable is not None:
        raise Unreadable("the environment variable that api_key_env names is not set")
    if "encrypted_api_key" in fields:
        raise Unreadable(
            "its key is encrypted for another program; add it with `agent-service providers add`"
        )
    return None


def _options(fields: Mapping[str, Any], provider: str, base_url: str | None) -> AccountOptions:
    """Raises Unreadable."""
    kind = str(fields.get("protocol", "")).lower().replace("_", "-")
    if kind and kind not in _PROTOCOLS:
        raise Unreadable("its kind is none that we speak")
    own = provider not in known_providers() or base_url is not None
    try:
        options = AccountOptions(
            enabled=_truth(fields, "enabled", usual=True),
            protocol=_PROTOCOLS[kind] if kind and own else None,
            models=_models(fields),
            allow_private=_truth(fields, "allow_private", usual=False),
            cap_usd_per_day=fields.get("cap_usd_per_day"),
            limits=fields.get("limits"),
        )
    except ValidationError as error:
        field = error.errors(include_input=False, include_url=False)[0]["loc"][0]
        raise Unreadable(f"its field {field} makes no sense") from None
    if any(redact(model.id) != model.id for model in options.models or ()):
        raise Unreadable("what looks like a key is among the names of its models")
    return options


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
        raise Unreadable(f"its field {name} is neither true nor false")
    return word in _TRUE


def _text(fields: Mapping[str, Any], name: str, read: _Read) -> str | None:
    """A field as text, with `${NAME}` replaced; None if it is empty. Raises Unreadable."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unreadable(f"its field {name} is no text")

    def replace(match: re.Match[str]) -> str:
        value = read(match[1])
        if not value:
            raise Unreadable(f"its field {name} names an environment variable that is not set")
        return value

    return _VARIABLE.sub(replace, str(value)).strip() or None


def name_in(record: Any) -> str:
    """The provider's name in a record of any kind; empty if it has none."""
    if not isinstance(record, Mapping):
        return ""
    found = record.get("name", record.get("provider", record.get("id")))
    return str(found) if isinstance(found, str | int) else ""


def shown(name: str, otherwise: str) -> str:
    """The name if it is fit to be shown: a misplaced key must not come out as one."""
    if name in known_providers():
        return name
    plain = re.fullmatch(ACCOUNT_PATTERN, name) and len(name) <= 40
    return name if plain and not _LOOKS_SECRET.search(name) and redact(name) == name else otherwise
