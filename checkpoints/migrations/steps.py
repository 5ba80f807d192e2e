"""Takes the steps, with Alembic, within the transaction that opens the database."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection


def upgrade(connection: Connection, unmarked: str | None = None) -> None:
    """Bring the tables up to date, whole or not at all.

    `unmarked` is their version where Alembic has not written it down yet.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if unmarked:
        command.stamp(config, unmarked)
    command.upgrade(config, "head")
