"""What was carried out beside a question is known as done when the question is not answered after all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.service import RunningService, wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls

THREAD = "thread-01"
TURN = calls(
    ("write_file", {"filepath": "free.txt", "content": "1\n"}, "w1"),
    ("write_file", {"filepath": "asked.txt", "content": "2\n"}, "w2"),
    ("read_file", {"filepath": "read.txt"}, "r1"),
)
SCRIPT: list[ScriptItem] = [TURN, "one", "two"]
RULES = {"approvals": {"write_file": {"**": "auto", "asked.txt": "ask"}}}
NOT_EXECUTED = "Error: not executed"


def pause(service: RunningService, project: Path) -> None:
    (project / "read.txt").write_text("R\n")
    paused = service.invoke(project_directory=str(project), thread_id=THREAD).json()
    assert paused["human_input_request"]["tool_call_id"] == "w2"
    assert (project / "free.txt").exists()


def told(service: RunningService, upstream: ScriptedUpstream) -> dict[str, str]:
    """What the model hears of its calls in two more turns, which is the same."""
    heard: list[list[tuple[str, str]]] = []
    for _ in range(2):
        assert service.invoke(thread_id=THREAD).json()["agent_status"] == "completed"
        messages = upstream.bodies[-1]["messages"]
        heard.append([(m["tool_call_id"], m["content"]) for m in messages if m["role"] == "tool"])
    assert heard[0] == heard[1]
    assert len(heard[0]) == len(dict(heard[0])) == 3, "each call has one answer"
    shown = service.client.get(f"/v1/agents/threads/{THREAD}/messages").json()["messages"]
    answered = [m["tool_call_id"] for m in shown if m["role"] == "tool"]
    assert sorted(answered) == ["r1", "w1", "w2"]
    assert upstream.refusals == []
    return dict(heard[0])


def newest(service: RunningService) -> str:
    found = service.client.get(f"/v1/agents/threads/{THREAD}/history").raise_for_status().json()
    name: str = found["checkpoints"][0]["checkpoint_id"]
    return name


def go_back(service: RunningService, checkpoint_id: str, *, files: bool) -> None:
    body: dict[str, Any] = {"checkpoint_id": checkpoint_id, "files": files}
    service.client.post(f"/v1/agents/threads/{THREAD}/rewind", json=body).raise_for_status()


def test_when_the_question_is_cancelled(tmp_path: Path, project: Path) -> None:
    with ScriptedUpstream(SCRIPT) as upstream, RunningService(tmp_path, upstream, agent=RULES) as service:
        pause(service, project)
        service.client.post(f"/v1/agents/threads/{THREAD}/cancel").raise_for_status()
        answers = told(service, upstream)
        assert answers["w1"].startswith("created free.txt")
        assert answers["r1"].startswith("R")
        assert "cancelled by the user" in answers["w2"]


def test_when_nobody_answers_in_time(tmp_path: Path, project: Path) -> None:
    with ScriptedUpstream(SCRIPT) as upstream:
        with RunningService(tmp_path, upstream, agent=RULES) as service:
            pause(service, project)
        with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database, database:
            database.execute("UPDATE questions SET expires_at = 1.0")
        with RunningService(tmp_path, upstream, agent=RULES) as service:
            wait_until(lambda: service.thread(THREAD)["status"] == "idle")
            answers = told(service, upstream)
            assert answers["w1"].startswith("created free.txt")
            assert "nobody answered in time" in answers["w2"]


@pytest.mark.parametrize("times", [1, 2])
def test_when_the_conversation_goes_back_to_the_question_without_files(
    tmp_path: Path, project: Path, times: int
) -> None:
    with ScriptedUpstream(SCRIPT) as upstream, RunningService(tmp_path, upstream, agent=RULES) as service:
        pause(service, project)
        for _ in range(times):  # the second time to the copy that the first one made
            go_back(service, newest(service), files=False)
        answers = told(service, upstream)
        assert answers["w1"].startswith("created free.txt")
        assert answers["r1"].startswith("R")
        assert answers["w2"].startswith("Error:")
        assert not (project / "asked.txt").exists()


def test_what_the_human_answered_since_is_not_known_there(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [TURN, "ok", "one", "two"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream, agent=RULES) as service:
        pause(service, project)
        asked = newest(service)
        assert service.resume(THREAD, "w2", "no").json()["agent_status"] == "completed"
        go_back(service, asked, files=False)
        answers = told(service, upstream)
        assert answers["w1"].startswith("created free.txt")
        assert answers["w2"].startswith(NOT_EXECUTED)


def test_with_files_it_was_taken_back(tmp_path: Path, project: Path) -> None:
    with ScriptedUpstream(SCRIPT) as upstream, RunningService(tmp_path, upstream, agent=RULES) as service:
        pause(service, project)
        go_back(service, newest(service), files=True)
        assert not (project / "free.txt").exists()
        assert told(service, upstream)["w1"].startswith(NOT_EXECUTED)
