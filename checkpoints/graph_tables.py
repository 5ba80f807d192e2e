"""The tables of the graph's own state; `checkpoints.sql_saver` writes them, nobody else does.

Every row of a thread can be found by its thread_id alone. Keys are clustered (no hidden row number on
SQLite), so one checkpoint's rows lie together; items are the exception, as they are long.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import (
    DDL,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    event,
)

from checkpoints.columns import key

metadata = MetaData()

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("thread_id", key(255), nullable=False),
    Column("namespace", key(), nullable=False),
    Column("checkpoint_id", key(64), nullable=False),
    Column("parent_id", key(64)),
    Column("run_id", key(255)),
    Column("metadata", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("thread_id", "namespace", "checkpoint_id"),
    sqlite_with_rowid=False,
)
"""One row per superstep: everything of the checkpoint but its channels' values."""
_of_a_run = checkpoints.c.run_id.is_not(None)
Index("checkpoints_by_run", checkpoints.c.run_id, sqlite_where=_of_a_run, postgresql_where=_of_a_run)

channel_values = Table(
    "channel_values",
    metadata,
    Column("thread_id", key(255), nullable=False),
    Column("namespace", key(), nullable=False),
    Column("channel", key(), nullable=False),
    Column("version", key(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("thread_id", "namespace", "channel", "version"),
    sqlite_with_rowid=False,
)
"""What a channel held at a version; a channel that was empty then has no row. Kinds: `checkpoints.values`."""

writes = Table(
    "writes",
    metadata,
    Column("thread_id", key(255), nullable=False),
    Column("namespace", key(), nullable=False),
    Column("checkpoint_id", key(64), nullable=False),
    Column("task_id", key(64), nullable=False),
    Column("idx", Integer, nullable=False),
    Column("task_path", Text, nullable=False),
    Column("channel", key(), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("thread_id", "namespace", "checkpoint_id", "task_id", "idx"),
    sqlite_with_rowid=False,
)
"""What the tasks of a superstep have produced so far: with it, a finished task is not run again."""

items = Table(
    "items",
    metadata,
    Column("thread_id", key(255), nullable=False),
    Column("id", LargeBinary(16), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("thread_id", "id"),
)
"""Long values, elements of lists, and the nodes that hold long lists together; each content once a thread."""
WHOLE_ROWS = "ALTER TABLE items SET (toast_tuple_target = 8160)"
"""PostgreSQL would cut a value into pieces as soon as its row has 2 KB, and look up each piece to read it. A
row that fits a page stays whole; the number is the largest allowed."""
event.listen(
    items,
    "after_create",
    DDL(WHOLE_ROWS).execute_if(dialect="postgresql"),  # type: ignore[no-untyped-call]
)

GRAPH_TABLES = (checkpoints, channel_values, writes, items)

ROOT = ""
"""The namespace of the graph itself; those of graphs within it have names."""


class Where(NamedTuple):
    """A namespace of a thread; its fields are named as the columns."""

    thread_id: str
    namespace: str
