"""6: of questions that expire, only those that are open are in the index."""

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.drop_index("questions_by_expiry", table_name="questions")
    open_ones = text("expires_at IS NOT NULL AND status = 'open'")
    op.create_index(
        "questions_by_expiry",
        "questions",
        ["expires_at"],
        sqlite_where=open_ones,
        postgresql_where=open_ones,
    )
