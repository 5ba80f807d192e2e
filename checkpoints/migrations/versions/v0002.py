"""2: our own saver. The tables of LangGraph's own one go unread, and with them the conversations.

Threads, their last responses and the journal of their files stay. Without their conversation nothing can wait
or go on where it was: threads become idle, open questions are cancelled, claims are void.
"""

from alembic import op
from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for table in ("writes", "checkpoints"):
        op.execute(f"DROP TABLE IF EXISTS {table}")
    _tables().create_all(op.get_bind())
    op.execute(
        "UPDATE threads SET status = 'idle', holder = NULL, fence = fence + 1 "
        "WHERE status IN ('running', 'requires_human_input')"
    )
    op.execute("UPDATE questions SET status = 'cancelled' WHERE status = 'open'")
    op.execute("DELETE FROM idempotency WHERE run_id IN (SELECT run_id FROM runs WHERE response IS NULL)")


def _tables() -> MetaData:
    metadata = MetaData()
    Table(
        "checkpoints",
        metadata,
        Column("thread_id", String(255), nullable=False),
        Column("namespace", Text, nullable=False),
        Column("checkpoint_id", String(64), nullable=False),
        Column("parent_id", String(64)),
        Column("run_id", String(255)),
        Column("metadata", Text, nullable=False),
        Column("kind", String(32), nullable=False),
        Column("body", LargeBinary, nullable=False),
        PrimaryKeyConstraint("thread_id", "namespace", "checkpoint_id"),
        Index("checkpoints_by_run", "run_id", sqlite_where=text("run_id IS NOT NULL")),
        sqlite_with_rowid=False,
    )
    Table(
        "channel_values",
        metadata,
        Column("thread_id", String(255), nullable=False),
        Column("namespace", Text, nullable=False),
        Column("channel", Text, nullable=False),
        Column("version", String(64), nullable=False),
        Column("kind", String(32), nullable=False),
        Column("data", LargeBinary, nullable=False),
        PrimaryKeyConstraint("thread_id", "namespace", "channel", "version"),
        sqlite_with_rowid=False,
    )
    Table(
        "writes",
        metadata,
        Column("thread_id", String(255), nullable=False),
        Column("namespace", Text, nullable=False),
        Column("checkpoint_id", String(64), nullable=False),
        Column("task_id", String(64), nullable=False),
        Column("idx", Integer, nullable=False),
        Column("task_path", Text, nullable=False),
        Column("channel", Text, nullable=False),
        Column("kind", String(32), nullable=False),
        Column("data", LargeBinary, nullable=False),
        PrimaryKeyConstraint("thread_id", "namespace", "checkpoint_id", "task_id", "idx"),
        sqlite_with_rowid=False,
    )
    Table(
        "items",
        metadata,
        Column("thread_id", String(255), nullable=False),
        Column("id", LargeBinary(16), nullable=False),
        Column("kind", String(32), nullable=False),
        Column("data", LargeBinary, nullable=False),
        PrimaryKeyConstraint("thread_id", "id"),
    )
    return metadata
