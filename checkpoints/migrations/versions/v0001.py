"""1: threads, runs, questions, effects; the graph's checkpoints in the tables of LangGraph's own saver."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Tables of this version are older than Alembic's part in this: there is nothing to be done."""
