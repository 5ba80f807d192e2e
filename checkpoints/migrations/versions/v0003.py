"""3: leases with a time, stored events, questions that can expire, cancelling from another process.

Only SQLite files are as old as this; the first version on PostgreSQL is this one.
"""

from alembic import op
from sqlalchemy import (
    Boolean,
    Column,
    Double,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Text,
    false,
    text,
)

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("threads", Column("lease_until", Double))
    op.add_column("threads", Column("cancel_requested", Boolean, nullable=False, server_default=false()))
    op.add_column("threads", Column("last_event", Integer, nullable=False, server_default="0"))
    op.add_column("runs", Column("instruction", Text, nullable=False, server_default=""))
    op.execute(
        "UPDATE runs SET instruction = coalesce((SELECT json_extract(CAST(turn.request AS TEXT), "
        "'$.instruction') FROM runs AS turn WHERE turn.run_id = runs.turn_id), '')"
    )
    op.add_column("questions", Column("expires_at", Double))
    op.create_index(
        "questions_by_expiry", "questions", ["expires_at"], sqlite_where=text("expires_at IS NOT NULL")
    )
    op.create_table(
        "events",
        Column("thread_id", String(64), nullable=False),
        Column("seq", Integer, nullable=False),
        Column("run_id", String(64), nullable=False),
        Column("kind", String(32), nullable=False),
        Column("data", LargeBinary, nullable=False),
        Column("created_at", Double, nullable=False),
        PrimaryKeyConstraint("thread_id", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_by_age", "idempotency", ["created_at"])
    op.create_index("idempotency_by_run", "idempotency", ["run_id"])
