"""Who may use the service: keys as the operator writes them, and the principals they stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

MIN_KEY_LENGTH = 8
"""Shorter keys can be guessed over the network; 32 random bytes are what a key should be."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request acts for. Threads belong to the name, so that keys can be replaced."""

    name: str
    admin: bool = False
    allowed_roots: tuple[Path, ...] = ()
    """Folders this principal's projects must be in; empty = the service's own list."""


LOCAL = Principal("local", admin=True)
"""Anybody who reaches a service on loopback that has no keys."""


def key_digest(key: bytes) -> str:
    """The hexadecimal SHA-256 under which a key is known: keys themselves are not kept."""
    return hashlib.sha256(key).hexdigest()


def _absolute(value: Any, info: ValidationInfo) -> Any:
    """A folder as an absolute path; `~` is the home folder."""
    if not isinstance(value, str | Path):
        return value
    text = str(value)
    home = (info.context or {}).get("home")
    if home is not None and (text == "~" or text.startswith("~/")):
        text = str(home) + text[1:]
    if "\0" in text or not Path(text).is_absolute():
        raise ValueError(f"must be an absolute path (or start with ~/), not {text!r}")
    return Path(text)


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]


class ApiKey(BaseModel):
    """A client's key, kept as its digest only: `{name, key}` or `{name, sha256}` in the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    admin: bool = False
    owner: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")
    """The principal; None = the key's name."""
    allowed_roots: tuple[AbsolutePath, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _forget_key(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if ("key" in value) == ("sha256" in value):
            raise ValueError("give either `key` or `sha256` (the key's hexadecimal SHA-256)")
        if "key" not in value:
            return {**value, "sha256": str(value["sha256"]).lower()}
        key = value["key"]
        if not isinstance(key, str) or not key.isprintable() or key != "".join(key.split()):
            raise ValueError("`key` must be text without blanks; put it in quotes")
        if len(key) < MIN_KEY_LENGTH:
            raise ValueError(
                f"`key` is shorter than {MIN_KEY_LENGTH} characters and can be guessed; "
                "`openssl rand -hex 32` makes a good one"
            )
        rest = {name: part for name, part in value.items() if name != "key"}
        return {**rest, "sha256": key_digest(key.encode())}

    @property
    def principal(self) -> Principal:
        return Principal(self.owner or self.name, self.admin, self.allowed_roots)
