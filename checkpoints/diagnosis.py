"""What is wrong with a database that refuses, and what to do about it, in one sentence for people.

None of these names a file, an address or a statement, so clients may be told.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, literal, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncConnection

from checkpoints.errors import DatabaseUnusable
from checkpoints.tables import router_memory

if TYPE_CHECKING:
    from checkpoints.database import Database

_LOCKED = "The database is locked by another program; end that one, or wait for it, then try again."
_READ_ONLY = "The database is read-only just now; make it writable, then try again."
_FULL = "The disk of the database is full; make room on it, then try again."
_DAMAGED = "The database is damaged; restore it from a backup."
_UNREACHABLE = "The database server cannot be reached; see that it runs, then try again."
_BUSY = "The database has no connection free just now; try again in a moment."
_UNKNOWN = "The database refused; the service's log says why."

_BY_SQLITE_CODE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: "The disk of the database fails; see the system's log, then try again.",
    sqlite3.SQLITE_CANTOPEN: "The database file cannot be opened; see that it is there and that the service "
    "may write to its folder, then try again.",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
"""By the primary result code: https://sqlite.org/rescode.html"""

_BY_SQLSTATE = {
    "08": _UNREACHABLE,
    "25006": "The database server takes no writes, as a standby does; let state.url name the primary.",
    "25P03": "The service was held up for too long in the middle of a transaction; try again.",
    "28": "The database server refuses the service's user or password; mend state.url.",
    "3D000": "The database of state.url is not there any more; create it, then try again.",
    "40": "Others changed the same rows again and again; try again in a moment.",
    "42501": "The database server does not let the service's user do this; grant it the tables.",
    "53100": _FULL,
    "53300": "The database server takes no more connections; raise its max_connections, or try again later.",
    "55P03": _LOCKED,
    "57P": "The database server is being stopped or started; try again in a moment.",
    "58": "The disk of the database server fails; see its log, then try again.",
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
"""By how the SQLSTATE begins: https://www.postgresql.org/docs/current/errcodes-appendix.html"""


_LASTING = (_DAMAGED, _UNKNOWN)
_PATIENCE = 2.0
"""Seconds; a database that has not answered by then is in trouble."""


_PROBE = "a probe"
"""A key of the router's memory under which nothing is ever found."""


async def trouble_with(database: Database) -> str | None:
    """What is wrong with it, in a sentence; None when it can be read and, as far as is known, written.

    After a write was refused it is tried again with a row that does not stay.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            async with database.read() as connection:
                await connection.execute(select(literal(1)))
            if database.refusal is not None:
                await database.write(_probe)
    except TimeoutError:
        if database.refusal is not None:
            return _told(database.refusal)
        return "The database does not answer; see that its server runs."
    except (SQLAlchemyError, DatabaseUnusable) as error:
        return _told(error)
    return None


async def _probe(connection: AsyncConnection) -> None:
    """A change that takes room on the disk, which an update that changes nothing would not."""
    await connection.execute(insert(router_memory).values(key=_PROBE, data=b"", updated_at=0.0))
    await connection.execute(delete(router_memory).where(router_memory.c.key == _PROBE))


def _told(error: Exception) -> str:
    if isinstance(error, SQLAlchemyError) and not isinstance(error, DatabaseUnusable):
        return diagnose(error)
    return str(error)  # it is ours, and says all


def passes(error: Exception) -> bool:
    """Whether the same may succeed later, without anybody changing the program or the data."""
    if isinstance(error, DatabaseUnusable):
        return True
    return isinstance(error, SQLAlchemyError) and diagnose(error) not in _LASTING


def is_damage(error: BaseException) -> bool:
    """Whether the database itself is damaged, so that nothing but a backup helps."""
    return isinstance(error, DBAPIError) and diagnose(error) == _DAMAGED


def diagnose(error: SQLAlchemyError) -> str:
    """What is wrong, and what to do."""
    if isinstance(error, PoolExhausted):
        return _BUSY
    if not isinstance(error, DBAPIError):
        return _UNKNOWN
    if isinstance(error.orig, sqlite3.Error):
        extended: int = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return _BY_SQLITE_CODE.get(extended & 0xFF, _UNKNOWN)  # the primary code is the lowest byte
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:  # libpq gives none when it is the connection that fails
        return _UNREACHABLE if isinstance(error, InterfaceError | OperationalError) else _UNKNOWN
    return next((text for start, text in _BY_SQLSTATE.items() if state.startswith(start)), _UNKNOWN)
