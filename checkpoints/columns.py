"""Column types that mean the same on every database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, String, Text, TypeDecorator
from sqlalchemy.types import TypeEngine


def key(length: int | None = None) -> TypeEngine[str]:
    """Text that rows are found and ordered by: compared byte by byte, whatever the database's language is."""
    plain = Text if length is None else String
    return plain(length).with_variant(plain(length, collation="C"), "postgresql")


def storable(text: str) -> str:
    """The text as databases take it: NUL and lone surrogates are replaced."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class Prose(TypeDecorator[str]):
    """Text from people and models. What no database takes is replaced (`storable`)."""

    impl = Text
    cache_ok = True

    @property
    def python_type(self) -> type[str]:
        return str

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return storable(value) if isinstance(value, str) else value
