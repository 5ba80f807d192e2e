"""Whether an error says that the database itself is damaged, so that nothing but a backup helps."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError

_SQLITE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Primary result codes: https://sqlite.org/rescode.html"""
_SQLSTATES = frozenset({"XX001", "XX002"})
"""Of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html"""


def is_damage(error: BaseException) -> bool:
    """Whether the driver met damage; `checkpoints.diagnosis.diagnose` has the words for it."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        code: int = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return code & 0xFF in _SQLITE_CODES  # the primary code is the lowest byte
    return getattr(error.orig, "sqlstate", None) in _SQLSTATES
