"""5: items with checksums that hold for many of them at once; on PostgreSQL, rows of items stay whole.

Items that are there stay as they are: both kinds of checksum are read. Programs of earlier versions would
take the new kind for damage, so they shall refuse the database.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE items SET (toast_tuple_target = 8160)")
