"""The tables. Every one that belongs to a thread starts with thread_id, so deleting and copying stay simple.

Times are seconds since 1970 (UTC); JSON columns hold UTF-8 text made by their writers. A change here is a
step in `checkpoints.migrations` too.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
)

from checkpoints.columns import Prose, key

metadata = MetaData()

threads = Table(
    "threads",
    metadata,
    Column("thread_id", key(64), primary_key=True),
    Column("principal", key(255), nullable=False),
    Column("title", Prose, nullable=False),
    Column("project_directory", Text),
    Column("project_identity", Text),
    Column("status", String(32), nullable=False),
    Column("holder", Text),
    Column("fence", Integer, nullable=False),
    Column("lease_until", Double),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("run_id", key(64)),
    Column("last_event", Integer, nullable=False, server_default="0"),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("threads_by_principal", "principal", "updated_at"),
    Index("threads_by_status", "status"),
)
"""`holder`, `fence`, `lease_until`: `checkpoints.leases`. `last_event`: the number of the latest event."""

runs = Table(
    "runs",
    metadata,
    Column("run_id", key(64), primary_key=True),
    Column("thread_id", key(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("turn_id", key(64), nullable=False),
    Column("instruction", Prose, nullable=False, server_default=""),
    Column("request", LargeBinary, nullable=False),
    Column("response", LargeBinary),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Index("runs_by_thread", "thread_id"),
)

questions = Table(
    "questions",
    metadata,
    Column("thread_id", key(64), nullable=False),
    Column("tool_call_id", key(64), nullable=False),
    Column("interrupt_id", String(64), nullable=False),
    Column("run_id", key(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("question", Prose, nullable=False),
    Column("options", Text, nullable=False),
    Column("preview", Prose),
    Column("proposal", Text),
    Column("status", String(16), nullable=False),
    Column("answer", Prose),
    Column("answered_by", Text),
    Column("created_at", Double, nullable=False),
    Column("answered_at", Double),
    Column("expires_at", Double),
    PrimaryKeyConstraint("thread_id", "tool_call_id"),
)
_expiring = questions.c.expires_at.is_not(None)
Index("questions_by_expiry", questions.c.expires_at, sqlite_where=_expiring, postgresql_where=_expiring)

blobs = Table(
    "blobs",
    metadata,
    Column("thread_id", key(64), nullable=False),
    Column("hash", key(64), nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("thread_id", "hash"),
)
"""Contents of files before and after effects, by their SHA-256."""

effects = Table(
    "effects",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("thread_id", key(64), nullable=False),
    Column("tool_call_id", key(64), nullable=False),
    Column("turn_id", key(64), nullable=False),
    Column("path", Text),
    Column("before_hash", String(64)),
    Column("after_hash", String(64)),
    Column("state", String(16), nullable=False),
    Column("result", Prose),
    Column("created_at", Double, nullable=False),
    Index("effects_by_call", "thread_id", "tool_call_id", unique=True),
    ForeignKeyConstraint(["thread_id"], ["threads.thread_id"], ondelete="CASCADE"),
)

events = Table(
    "events",
    metadata,
    Column("thread_id", key(64), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("run_id", key(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("thread_id", "seq"),
    sqlite_with_rowid=False,
)
"""What happened on a thread, numbered; `data` is the event as a JSON object, without its number."""

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", key(255), nullable=False),
    Column("route", String(64), nullable=False),
    Column("key", key(255), nullable=False),
    Column("body_hash", String(64), nullable=False),
    Column("run_id", key(64), nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("principal", "route", "key"),
    Index("idempotency_by_age", "created_at"),
    Index("idempotency_by_run", "run_id"),
)
