"""The user's own edits while the agent waits or works: never overwritten, and told to the model."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.agent.workspace_watch import MAX_WATCHED
from tests.service import RunningService, SseEvent, sse, wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls

ASK = ("ask_human_for_input", {"question": "Which name?"}, "ask_1")
READ = ("read_file", {"filepath": "a.py"})
EDIT = ("edit_file", {"filepath": "a.py", "old_text": "name = 'x'", "new_text": "name = 'Orion'"})
BEFORE = "import os\nname = 'x'\n"
AFTER = "import os\nname = 'x'  # mine\nmine = 1\n"


def write(content: str) -> tuple[str, dict[str, str]]:
    return "write_file", {"filepath": "a.py", "content": content}


def messages(upstream: ScriptedUpstream) -> list[dict[str, Any]]:
    """The history of the last request."""
    found: list[dict[str, Any]] = upstream.bodies[-1]["messages"]
    return found


def answers(upstream: ScriptedUpstream) -> list[str]:
    return [m["content"] for m in messages(upstream) if m["role"] == "tool"]


def notes(upstream: ScriptedUpstream) -> list[str]:
    """What the model was told of changes by others."""
    said = [m["content"] for m in messages(upstream) if m["role"] == "user"]
    return [text for text in said if "changed by somebody else" in text]


def times_told(service: RunningService) -> int:
    """How often followers were told of changes by others."""
    with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database:
        count = "SELECT count(*) FROM events WHERE kind = 'workspace.changed'"
        (times,) = database.execute(count).fetchone()
    return int(times)


def test_an_edit_between_question_and_answer(tmp_path: Path, project: Path) -> None:
    file = project / "a.py"
    file.write_text(BEFORE)
    (project / "b.py").write_text("b\n")
    script: list[ScriptItem] = [
        calls(READ, ("read_file", {"filepath": "b.py"})),
        calls(ASK),
        calls(EDIT),
        calls(EDIT),
        "done",
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id="thread-01")
        file.write_text(AFTER)
        done = service.resume("thread-01", "ask_1", "Orion").json()
        assert done["agent_status"] == "completed"
        assert len(notes(upstream)) == 1
        assert "a.py" in notes(upstream)[0]
        assert "b.py" not in notes(upstream)[0]
        *_, refused, edited = answers(upstream)
        assert refused.startswith("Error: a.py was changed by somebody else since you last saw it")
        assert refused.endswith("1: import os\n2: name = 'x'  # mine\n3: mine = 1")
        assert edited == "edited a.py in 1 place"
        assert file.read_text() == "import os\nname = 'Orion'  # mine\nmine = 1\n"
        assert done["files_changed"] == [
            {"path": "a.py", "action": "modified", "additions": 1, "deletions": 1}
        ]
        assert upstream.refusals == []


def test_the_user_s_content_stands_against_a_whole_new_one(tmp_path: Path, project: Path) -> None:
    file = project / "a.py"
    file.write_text(BEFORE)
    with (
        ScriptedUpstream([calls(READ), calls(ASK), calls(write("mine alone\n")), "done"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01")
        file.write_text(AFTER)
        service.resume("thread-01", "ask_1", "Orion")
        assert file.read_text() == AFTER
        assert "3: mine = 1" in answers(upstream)[-1]


def test_of_a_long_file_the_region_is_shown_and_it_must_be_read(tmp_path: Path, project: Path) -> None:
    file = project / "a.py"
    lines = [f"value_{number} = {number}" for number in range(1_000)]
    file.write_text("\n".join(lines))
    edit = ("edit_file", {"filepath": "a.py", "old_text": lines[500], "new_text": "gone = 0"})
    script: list[ScriptItem] = [calls(READ), calls(ASK), calls(edit), calls(edit), calls(READ), calls(edit)]
    with ScriptedUpstream([*script, "done"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id="thread-01")
        lines[502] = "mine = 1"
        file.write_text("\n".join(lines))
        service.resume("thread-01", "ask_1", "Orion")
        *_, first, second, _, edited = answers(upstream)
        assert "503: mine = 1" in first
        assert "Read it before you change it" in first
        assert "value_900" not in first
        assert second == first
        assert edited == "edited a.py in 1 place"
        assert file.read_text().count("mine = 1") == 1


def test_a_file_that_the_user_deleted_is_not_made_again_by_the_way(tmp_path: Path, project: Path) -> None:
    file = project / "a.py"
    file.write_text(BEFORE)
    script: list[ScriptItem] = [calls(READ), calls(ASK), calls(write("1\n")), calls(write("2\n")), "done"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id="thread-01")
        file.unlink()
        service.resume("thread-01", "ask_1", "Orion")
        assert "a.py (deleted)" in notes(upstream)[0]
        *_, refused, made = answers(upstream)
        assert "was deleted by somebody else since" in refused
        assert made.startswith("created a.py")
        assert file.read_text() == "2\n"


@pytest.mark.parametrize("tool", [EDIT, write("all new\n")], ids=["edit", "write"])
def test_an_edit_during_an_approval(tmp_path: Path, project: Path, tool: tuple[str, dict[str, str]]) -> None:
    file = project / "a.py"
    file.write_text(BEFORE)
    with (
        ScriptedUpstream([calls(READ), calls((*tool, "w1")), "done"]) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {tool[0]: "ask"}}) as service,
    ):
        paused = service.invoke(project_directory=str(project), thread_id="thread-01").json()
        assert paused["human_input_request"]["kind"] == "approval"
        file.write_text(AFTER)
        done = service.resume("thread-01", "w1", "yes").json()
        assert done["agent_status"] == "completed"
        assert done["files_changed"] == []
        assert file.read_text() == AFTER
        assert "3: mine = 1" in answers(upstream)[-1]
        assert notes(upstream) == []  # it has just seen the lines as they are
        assert upstream.refusals == []


def test_a_no_to_a_stale_proposal_is_still_heard(tmp_path: Path, project: Path) -> None:
    file = project / "a.py"
    file.write_text(BEFORE)
    with (
        ScriptedUpstream([calls(READ), calls((*EDIT, "w1")), "done"]) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {"edit_file": "ask"}}) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01")
        file.write_text(AFTER)
        service.resume("thread-01", "w1", "I have done it myself")
        assert "I have done it myself" in answers(upstream)[-1]
        assert "a.py" in notes(upstream)[0]


def test_an_approval_stays_open_when_its_file_is_changed(tmp_path: Path, project: Path) -> None:
    for name in ("a.py", "b.py"):
        (project / name).write_text(BEFORE)
    edits = calls((*EDIT, "w1"), ("edit_file", {**EDIT[1], "filepath": "b.py"}, "w2"))
    script: list[ScriptItem] = [calls(READ, ("read_file", {"filepath": "b.py"})), edits, "done"]
    with (
        ScriptedUpstream(script) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {"edit_file": "ask"}}) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01")
        (project / "b.py").write_text(AFTER)
        between = service.resume("thread-01", "w1", "yes").json()
        assert [q["tool_call_id"] for q in between["pending_requests"]] == ["w2"]
        assert len(upstream.requests) == 2
        done = service.resume("thread-01", "w2", "yes").json()
        assert done["agent_status"] == "completed"
        assert "3: mine = 1" in answers(upstream)[-1]
        assert "Orion" in (project / "a.py").read_text()
        assert (project / "b.py").read_text() == AFTER


def test_a_turn_later_it_is_told_once(tmp_path: Path, project: Path) -> None:
    file = project / "a.py"
    file.write_text(BEFORE)
    script: list[ScriptItem] = [calls(READ), calls(write("ours\n")), "one", "two", "three", "four"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:

        def turn(thread_id: str = "thread-01") -> int:
            """How many notes the model has had after one more instruction."""
            body = {"project_directory": str(project), "thread_id": thread_id}
            assert service.invoke(**body).json()["agent_status"] == "completed"
            return "\n".join(notes(upstream)).count("Note from the workspace")

        assert turn() == 0
        assert turn() == 0  # its own write is nobody else's
        file.write_text(AFTER)
        assert turn() == 1
        assert turn() == 1
        assert messages(upstream)[-1]["role"] == "user"
        assert file.read_text() == AFTER
        assert upstream.refusals == []


def test_the_note_waits_for_the_answers_of_open_calls(tmp_path: Path, project: Path) -> None:
    file = project / "a.py"
    file.write_text(BEFORE)
    asks = calls(
        ("ask_human_for_input", {"question": "First?"}, "q1"),
        ("ask_human_for_input", {"question": "Second?"}, "q2"),
    )
    with (
        ScriptedUpstream([calls(READ), asks, "done"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01")
        file.write_text(AFTER)
        service.resume("thread-01", "q1", "one")
        assert len(upstream.requests) == 2
        service.resume("thread-01", "q2", "two")
        assert [m["role"] for m in messages(upstream)[-3:]] == ["tool", "tool", "user"]
        assert len(notes(upstream)) == 1
        assert times_told(service) == 1, "followers heard of it at the first of the two answers"
        assert upstream.refusals == []


def test_a_run_that_failed_before_the_model_was_asked_leaves_it_to_be_told(
    tmp_path: Path, project: Path
) -> None:
    file = project / "a.py"
    file.write_text(BEFORE)
    with (
        ScriptedUpstream([calls(READ), "one"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        body = {"project_directory": str(project), "thread_id": "thread-01"}
        service.invoke(**body)
        file.write_text(AFTER)
        assert service.invoke(**body).json()["agent_status"] == "error"  # the script is at its end
        upstream.otherwise = "two"
        wait_until(lambda: service.invoke(**body).json()["agent_status"] == "completed")
        assert "\n".join(notes(upstream)).count("Note from the workspace") == 1
        assert times_told(service) == 1


def test_a_file_never_seen_may_be_replaced_whole(tmp_path: Path, project: Path) -> None:
    (project / "a.py").write_text(BEFORE)
    with (
        ScriptedUpstream([calls(write("new\n")), "done"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        done = service.invoke(project_directory=str(project)).json()
        assert done["files_changed"][0]["action"] == "modified"
        assert (project / "a.py").read_text() == "new\n"


@contextmanager
def following(service: RunningService, thread_id: str) -> Iterator[list[SseEvent]]:
    """The events of a thread while somebody follows it, in a list that grows."""
    seen: list[SseEvent] = []
    with service.client.stream("GET", f"/v1/agents/threads/{thread_id}/events", timeout=60) as response:
        reader = threading.Thread(target=_read, args=(response, seen.append), daemon=True)
        reader.start()
        try:
            yield seen
        finally:
            connection = response.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):  # the stream may have ended by itself
                connection.shutdown(socket.SHUT_RDWR)  # to close it would not wake the reader
            reader.join(5)


def _read(response: httpx.Response, take: Callable[[SseEvent], None]) -> None:
    try:
        for event in sse(response):
            take(event)
    except httpx.TransportError:
        return  # the test is over


def changed(seen: list[SseEvent]) -> set[str]:
    return {path for event in seen if event.kind == "workspace.changed" for path in event.data["paths"]}


def save_until_told(file: Path, seen: list[SseEvent]) -> None:
    """Save the file anew until its name is told: a watch takes its time to be set up."""
    save_all_until_told({file: seen})


def save_all_until_told(waiting: dict[Path, list[SseEvent]]) -> None:
    """Save each file anew until its followers are told its name."""
    contents = iter(range(1_000_000))

    def told() -> bool:
        untold = [file for file, seen in waiting.items() if file.name not in changed(seen)]
        for file in untold:
            file.write_text(f"{next(contents)}\n")
        if untold:
            time.sleep(0.5)  # changes are told once nothing more happens for a moment
        return not untold

    wait_until(told, 60)


def test_a_follower_hears_of_edits_but_not_of_the_agent_s_own(tmp_path: Path, project: Path) -> None:
    (project / "a.py").write_text(BEFORE)
    (project / ".git").mkdir()
    with (
        ScriptedUpstream(["hello", calls(READ, write("ours\n")), "done"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        body = {"project_directory": str(project), "thread_id": "thread-01"}
        run_id = service.invoke(**body).json()["run_id"]
        with following(service, "thread-01") as seen:
            save_until_told(project / "first.txt", seen)
            assert {event.data["run_id"] for event in seen} == {run_id}
            assert service.invoke(**body).json()["files_changed"]
            (project / ".git" / "index").write_text("x")
            (project / ".env").write_text("x")
            (project / ".agent-service-0123456789abcdef.tmp").write_text("x")
            (project / "folder").mkdir()
            save_until_told(project / "second.txt", seen)
            assert changed(seen) == {"first.txt", "second.txt"}
            (project / "a.py").unlink()
            wait_until(lambda: "a.py" in changed(seen))


def test_what_is_found_at_the_start_of_a_run_is_an_event_too(tmp_path: Path, project: Path) -> None:
    (project / "a.py").write_text(BEFORE)
    with (
        ScriptedUpstream([calls(READ), "one", "two"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        body = {"project_directory": str(project), "thread_id": "thread-01"}
        service.invoke(**body)
        (project / "a.py").write_text(AFTER)
        request = {"instruction": "go on", "stream": True, **body}
        with service.client.stream("POST", "/v1/agents/code/invoke", json=request) as response:
            kinds = {event.kind: event.data for event in sse(response)}
        assert kinds["workspace.changed"]["paths"] == ["a.py"]


def test_the_seventeenth_project_is_not_watched_but_its_hashes_are_compared(tmp_path: Path) -> None:
    projects = [tmp_path / f"project{number}" for number in range(MAX_WATCHED + 1)]
    last = projects[-1]
    for each in projects:
        each.mkdir()
    (last / "a.py").write_text(BEFORE)
    with (
        ScriptedUpstream(["hello"] * MAX_WATCHED + [calls(READ), "hello"], otherwise="later") as upstream,
        RunningService(tmp_path, upstream) as service,
        ExitStack() as followers,
    ):
        for number, each in enumerate(projects):
            service.invoke(project_directory=str(each), thread_id=f"thread-{number:02}")

        def follow(number: int) -> list[SseEvent]:
            return followers.enter_context(following(service, f"thread-{number:02}"))

        # A stream begins before its project has a watch: only what is told shows that all places are taken.
        watched = {each / "b.py": follow(number) for number, each in enumerate(projects[:-1])}
        save_all_until_told(watched)
        seen = follow(MAX_WATCHED)
        (last / "a.py").write_text(AFTER)
        save_until_told(projects[0] / "c.py", watched[projects[0] / "b.py"])
        assert changed(seen) == set()
        service.invoke(project_directory=str(last), thread_id=f"thread-{MAX_WATCHED:02}")
        assert "a.py" in notes(upstream)[0]
        wait_until(lambda: changed(seen) == {"a.py"})
