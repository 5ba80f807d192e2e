"""A service of today on the data of an earlier one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.service import RunningService
from tests.upstream import ScriptedUpstream

VERSION_2 = Path(__file__).parents[1] / "unit/checkpoints/schemas/version_2.sql"


def test_a_thread_that_waits_since_version_2_takes_its_answer(tmp_path: Path) -> None:
    with ScriptedUpstream(["All done.", "Once more."]) as upstream:
        service = RunningService(tmp_path, upstream)
        file = service.data / "agent-service" / "state.db"
        file.parent.mkdir(parents=True, mode=0o700)
        connection = sqlite3.connect(file)
        connection.executescript(VERSION_2.read_text())
        connection.close()
        with service:
            assert service.thread("thread-done")["status"] == "idle"
            assert service.thread("thread-waiting")["status"] == "requires_human_input"
            done = service.resume("thread-waiting", "ask_1", "Orion").json()
            assert (done["agent_status"], done["explanation"]) == ("completed", "All done.")
            messages = [(each["role"], each["content"]) for each in upstream.bodies[-1]["messages"]]
            assert messages[-3:] == [
                ("user", "write the name"),
                ("assistant", "I need a name."),
                ("tool", "Orion"),
            ]
            again = service.invoke("and again", thread_id="thread-done").json()
            assert again["agent_status"] == "completed"
