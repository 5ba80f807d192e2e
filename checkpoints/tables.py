"""The tables. Every one that belongs to a thread starts with thread_id, so deleting and copying stay simple.

Times are seconds since 1970 (UTC); JSON columns hold UTF-8 text made by their writers.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

SCHEMA_VERSION = 2
metadata = MetaData()

threads = Table(
    "threads",
    metadata,
    Column("thread_id", String(64), primary_key=True),
    Column("principal", String(255), nullable=False),
    Column("title", Text, nullable=False),
    Column("project_directory", Text),
    Column("project_identity", Text),
    Column("status", String(32), nullable=False),
    Column("holder", Text),
    Column("fence", Integer, nullable=False),
    Column("run_id", String(64)),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("threads_by_principal", "principal", "updated_at"),
    Index("threads_by_status", "status"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("thread_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("turn_id", String(64), nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("response", LargeBinary),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("runs_by_thread", "thread_id"),
)

questions = Table(
    "questions",
    metadata,
    Column("thread_id", String(64), nullable=False),
    Column("tool_call_id", String(64), nullable=False),
    Column("interrupt_id", String(64), nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("question", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("preview", Text),
    Column("proposal", Text),
    Column("status", String(16), nullable=False),
    Column("answer", Text),
    Column("answered_by", String(255)),
    Column("created_at", Float, nullable=False),
    Column("answered_at", Float),
    PrimaryKeyConstraint("thread_id", "tool_call_id"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("thread_id", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("thread_id", "hash"),
)

effects = Table(
    "effects",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("thread_id", String(64), nullable=False),
    Column("tool_call_id", String(64), nullable=False),
    Column("turn_id", String(64), nullable=False),
    Column("path", Text),
    Column("before_hash", String(64)),
    Column("after_hash", String(64)),
    Column("state", String(16), nullable=False),
    Column("result", Text),
    Column("created_at", Float, nullable=False),
    Index("effects_by_call", "thread_id", "tool_call_id", unique=True),
    ForeignKeyConstraint(["thread_id"], ["threads.thread_id"], ondelete="CASCADE"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", String(255), nullable=False),
    Column("route", String(64), nullable=False),
    Column("key", String(255), nullable=False),
    Column("body_hash", String(64), nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("principal", "route", "key"),
)
