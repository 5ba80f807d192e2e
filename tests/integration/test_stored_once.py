"""What comes with an instruction may be long; the conversation holds it once."""

from __future__ import annotations

import random
import sqlite3
import string
from contextlib import closing
from pathlib import Path

from tests.service import RunningService
from tests.upstream import ScriptedUpstream

LENGTH = 50_000
OF_THE_GRAPH = (("items", "data"), ("channel_values", "data"), ("writes", "data"), ("checkpoints", "body"))


def test_a_long_context_is_stored_once_with_the_conversation(tmp_path: Path) -> None:
    context = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=LENGTH))
    with ScriptedUpstream(["ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        assert service.invoke(context=context).json()["agent_status"] == "completed"
        assert context in upstream.bodies[-1]["messages"][-1]["content"]
        with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database:
            sizes = [
                database.execute(f"SELECT coalesce(sum(length({column})), 0) FROM {table}").fetchone()[0]
                for table, column in OF_THE_GRAPH
            ]
    assert LENGTH / 2 < sum(sizes) < 1.5 * LENGTH
