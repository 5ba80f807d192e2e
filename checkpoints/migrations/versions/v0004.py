"""4: accounts at model providers, with encrypted keys; costs of calls, budgets, what the router learned.

And how far a thread's effects have come is found at once.
"""

from alembic import op
from sqlalchemy import (
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from checkpoints.columns import key

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "provider_accounts",
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
    op.create_index("effects_by_thread", "effects", ["thread_id", "seq"])
    for tables in (_usage(), _budgets(), _memory()):
        tables.create_all(op.get_bind())


def _usage() -> MetaData:
    metadata = MetaData()
    Table(
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
    return metadata


def _budgets() -> MetaData:
    metadata = MetaData()
    Table(
        "budgets",
        metadata,
        Column("scope", key(320), nullable=False),
        Column("day", Integer, nullable=False),
        Column("spent_usd", Double, nullable=False),
        PrimaryKeyConstraint("scope", "day"),
    )
    Table(
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
    return metadata


def _memory() -> MetaData:
    metadata = MetaData()
    Table(
        "router_memory",
        metadata,
        Column("key", key(400), primary_key=True),
        Column("data", LargeBinary, nullable=False),
        Column("updated_at", Double, nullable=False),
    )
    Table(
        "response_cache",
        metadata,
        Column("principal", key(255), nullable=False),
        Column("request_hash", String(64), nullable=False),
        Column("data", LargeBinary, nullable=False),
        Column("expires_at", Double, nullable=False),
        PrimaryKeyConstraint("principal", "request_hash"),
        Index("response_cache_by_age", "expires_at"),
    )
    return metadata
