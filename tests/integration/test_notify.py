"""Somebody is told when a question waits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.service import RunningService, wait_until
from tests.upstream import ScriptedUpstream, calls

ASK = calls(("ask_human_for_input", {"question": "Which name?"}, "ask_1"))
STORE = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"


def test_a_command_and_a_web_hook_are_told_of_a_question(tmp_path: Path) -> None:
    note = tmp_path / "note.json"
    with ScriptedUpstream([ASK], pages={"/hook": {}}) as upstream:
        told = {"command": [sys.executable, "-c", STORE, str(note)], "url": f"{upstream.origin}/hook"}
        with RunningService(tmp_path, upstream, notify=told) as service:
            service.invoke(thread_id="thread-01")
            wait_until(lambda: note.exists() and note.read_text())
            wait_until(lambda: "POST /hook" in upstream.lookups)
    event = json.loads(note.read_text())
    assert (event["kind"], event["thread_id"]) == ("question.opened", "thread-01")
    assert event["human_input_request"]["question_for_human"] == "Which name?"


def test_who_cannot_be_told_does_no_harm(tmp_path: Path) -> None:
    told = {"command": [str(tmp_path / "missing")], "url": "http://127.0.0.1:9/"}
    with (
        ScriptedUpstream([ASK]) as upstream,
        RunningService(tmp_path, upstream, notify=told) as service,
    ):
        assert service.invoke(thread_id="thread-01").json()["agent_status"] == "requires_human_input"


def test_the_question_of_a_fork_is_told_too(tmp_path: Path) -> None:
    note = tmp_path / "note.json"
    told = {"command": [sys.executable, "-c", STORE, str(note)]}
    with (
        ScriptedUpstream([ASK]) as upstream,
        RunningService(tmp_path, upstream, notify=told) as service,
    ):
        service.invoke(thread_id="thread-01")
        made = service.client.post("/v1/agents/threads/thread-01/fork", json={}).json()
        wait_until(lambda: note.exists() and made["thread_id"] in note.read_text())
        assert json.loads(note.read_text())["human_input_request"]["tool_call_id"] == "ask_1"
