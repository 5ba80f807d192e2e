"""Rows as they are found: each value is of the kind that its table declares, or a thread's state is damaged.

SQLite keeps any value in any column, and what it calls text need not be UTF-8. Its driver refuses a whole
result for one such text, hence for one row that of all threads; so text is taken as it is (`as_text`), and
looked at where it is known whose it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Row, Table

from checkpoints.errors import StateDamaged

_LATEST_TIME = 253_402_300_800.0
"""Seconds since 1970 when the year 10000 begins, of which no date can be made."""


def as_text(data: bytes) -> str:
    """What is stored as text; bytes that are no UTF-8 become lone surrogates, which `is_text` sees."""
    return data.decode("utf-8", "surrogateescape")


def is_text(value: Any) -> bool:
    """Whether it is text that was stored as such."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def is_time(value: Any) -> bool:
    """Whether it is a moment, in seconds since 1970, that has a date."""
    return isinstance(value, float | int) and 0 <= value < _LATEST_TIME


def check_row(thread_id: str, table: Table, row: Row[Any]) -> None:
    """Raises StateDamaged unless the row, of that thread, holds what its table's columns are for."""
    kinds = _kinds(table)
    for name, value in row._mapping.items():
        if name in kinds and not _fits(value, *kinds[name]):
            raise StateDamaged(thread_id, f"`{name}` of its row in the table `{table.name}` was changed")


@contextmanager
def understanding(thread_id: str, what: str) -> Iterator[None]:
    """What is in a row is given its meaning in this block: if it has none, this raises StateDamaged.

    `what` names it, for people.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise StateDamaged(thread_id, f"{what} cannot be read") from error


@cache
def _kinds(table: Table) -> dict[str, tuple[type, bool]]:
    return {column.name: (column.type.python_type, bool(column.nullable)) for column in table.c}


def _fits(value: Any, kind: type, nullable: bool) -> bool:
    if value is None:
        return nullable
    if kind is str:
        return is_text(value)
    if kind is float:  # in the tables of threads each is a time
        return is_time(value)
    return isinstance(value, kind)
