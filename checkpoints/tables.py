"""The tables. Every one that belongs to a thread starts with thread_id, so deleting and copying stay simple.

Times are seconds since 1970 (UTC); JSON columns hold UTF-8 text made by their writers. A change here is a
step in `checkpoints.migrations` too.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
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
    UniqueConstraint,
    and_,
    false,
    literal_column,
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
OPEN: ColumnElement[str] = literal_column("'open'")
"""The status of open questions. SQLite uses their index only if a query spells it out as the index does."""
_expiring = and_(questions.c.expires_at.is_not(None), questions.c.status == OPEN)
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
    Index("effects_by_thread", "thread_id", "seq"),
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

provider_accounts = Table(
    "provider_accounts",
    metadata,
    Column("id", key(32), primary_key=True),
    Column("provider", key(64), nullable=False),
    Column("account", key(64), nullable=False),
    Column("base_url", Text),
    Column("key_version", String(16)),
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),
    Column("last4", String(4)),
    Column("options", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("provider", "account", name="provider_accounts_by_name"),
)
"""Accounts at model providers. `key_version`, `nonce` and `ciphertext` are the key as `agent_service.keys`
sealed it, null for an account that needs none; `last4` is all of it that is ever shown."""

usage = Table(
    "usage",
    metadata,
    Column("call_id", key(32), primary_key=True),
    Column("day", Integer, nullable=False),
    Column("principal", key(255), nullable=False),
    Column("thread_id", key(64)),
    Column("run_id", key(64)),
    Column("task", String(32), nullable=False),
    Column("provider", key(64), nullable=False),
    Column("account", key(64), nullable=False),
    Column("model", key(255), nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("cost_usd", Double),
    Column("latency", Double, nullable=False),
    Column("ttft", Double),
    Column("outcome", String(32), nullable=False),
    Column("created_at", Double, nullable=False),
    Index("usage_by_principal", "principal", "day"),
    Index("usage_by_day", "day"),
)
"""Finished calls of models. `day` counts from 1970 (UTC). Rows outlive their thread: the money is spent."""

budgets = Table(
    "budgets",
    metadata,
    Column("scope", key(320), nullable=False),
    Column("day", Integer, nullable=False),
    Column("spent_usd", Double, nullable=False),
    PrimaryKeyConstraint("scope", "day"),
)
"""What was spent, by whatever a budget can be about; day 0 is for all time. Kept with the rows of `usage`, in
their transaction."""

budget_holds = Table(
    "budget_holds",
    metadata,
    Column("scope", key(320), nullable=False),
    Column("day", Integer, nullable=False),
    Column("call_id", key(32), nullable=False),
    Column("usd", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    PrimaryKeyConstraint("scope", "day", "call_id"),
    Index("budget_holds_by_call", "call_id"),
)
"""What calls under way may cost."""

router_memory = Table(
    "router_memory",
    metadata,
    Column("key", key(400), primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("updated_at", Double, nullable=False),
)
"""What the router has learned, as JSON: known again after a restart."""

response_cache = Table(
    "response_cache",
    metadata,
    Column("principal", key(255), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("expires_at", Double, nullable=False),
    PrimaryKeyConstraint("principal", "request_hash"),
    Index("response_cache_by_age", "expires_at"),
)
"""Answers to requests that have only one."""
