"""History, fork and rewind of threads: what is shown, what goes back, and what stays as it is."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent_service.agent import supervisor
from agent_service.agent.rewind import NOT_ASKED_AGAIN
from tests.service import RunningService, SseEvent, sse, wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls, wait

ASK = ("ask_human_for_input", {"question": "Which name?"}, "ask_1")
THREAD = "thread-01"


def write(path: str, content: str, call_id: str = "w1") -> Any:
    return calls(("write_file", {"filepath": path, "content": content}, call_id))


def history(service: RunningService, thread_id: str = THREAD, **query: Any) -> list[dict[str, Any]]:
    response = service.client.get(f"/v1/agents/threads/{thread_id}/history", params=query)
    found: list[dict[str, Any]] = response.raise_for_status().json()["checkpoints"]
    return found


def checkpoint(service: RunningService, messages: int, thread_id: str = THREAD) -> str:
    """The newest checkpoint with so many messages."""
    name: str = next(c["checkpoint_id"] for c in history(service, thread_id) if c["messages"] == messages)
    return name


def rewind(
    service: RunningService, checkpoint_id: str, thread_id: str = THREAD, **fields: Any
) -> dict[str, Any]:
    headers = fields.pop("headers", {})
    response = service.client.post(
        f"/v1/agents/threads/{thread_id}/rewind",
        json={"checkpoint_id": checkpoint_id, **fields},
        headers=headers,
    )
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


def fork(service: RunningService, thread_id: str = THREAD, **fields: Any) -> dict[str, Any]:
    response = service.client.post(f"/v1/agents/threads/{thread_id}/fork", json=fields)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def messages(service: RunningService, thread_id: str = THREAD) -> list[str]:
    response = service.client.get(f"/v1/agents/threads/{thread_id}/messages")
    return [m["content"] for m in response.raise_for_status().json()["messages"]]


def diff(service: RunningService) -> str:
    shown: str = service.client.get(f"/v1/agents/threads/{THREAD}/diff").raise_for_status().json()["diff"]
    return shown


def test_a_history_reads_from_the_newest_to_the_oldest(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [write("name.txt", "Orion\n"), calls(ASK, text="A name?"), "All done."]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        paused = service.invoke("write it", project_directory=str(project), thread_id=THREAD).json()
        found = history(service)
        assert [c["messages"] for c in found] == [4, 3, 2, 1, 0, 0]
        assert [c["step"] for c in found] == [4, 3, 2, 1, 0, -1]
        assert [c["parent_id"] for c in found[:-1]] == [c["checkpoint_id"] for c in found[1:]]
        assert [c["summary"] for c in found] == [
            "ask_human_for_input(Which name?)",
            found[1]["summary"],
            "write_file(name.txt)",
            "write it",
            "",
            "",
        ]
        assert found[1]["summary"].startswith("write_file: ")
        assert [c["waiting"] for c in found] == [True] + [False] * 5
        assert {c["run_id"] for c in found} == {paused["run_id"]}
        done = service.resume(THREAD, "ask_1", "Orion").json()
        newest, *_ = history(service)
        assert (newest["summary"], newest["waiting"]) == ("All done.", False)
        assert newest["run_id"] == done["run_id"]


def test_a_history_comes_in_pages(tmp_path: Path) -> None:
    with ScriptedUpstream(["one", "two"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id=THREAD)
        service.invoke(thread_id=THREAD)
        whole = history(service)
        pages: list[dict[str, Any]] = []
        before = None
        while True:
            query = {"limit": 3, **({"before": before} if before else {})}
            page = service.client.get(f"/v1/agents/threads/{THREAD}/history", params=query).json()
            pages += page["checkpoints"]
            assert len(page["checkpoints"]) <= 3
            if not (before := page["next_cursor"]):
                break
        assert pages == whole


def test_only_the_owner_sees_and_moves_a_thread(tmp_path: Path) -> None:
    keys = [{"name": name, "key": name * 16} for name in ("alice", "bob")]
    with (
        ScriptedUpstream(["ok"]) as upstream,
        RunningService(tmp_path, upstream, key="alice" * 16, server={"api_keys": keys}) as service,
    ):
        service.invoke(thread_id=THREAD)
        name = checkpoint(service, 1)
        service.client.headers["Authorization"] = f"Bearer {'bob' * 16}"
        path = f"/v1/agents/threads/{THREAD}"
        for response in (
            service.client.get(f"{path}/history"),
            service.client.post(f"{path}/fork", json={}),
            service.client.post(f"{path}/rewind", json={"checkpoint_id": name}),
        ):
            assert (response.status_code, response.json()["error"]["code"]) == (404, "thread_not_found")
        everything = {"older_than_days": 0, "delete": True}
        pruned = service.client.post("/v1/agents/threads/prune", json=everything)
        assert pruned.json()["threads_deleted"] == 0
        service.client.headers["Authorization"] = f"Bearer {'alice' * 16}"
        assert service.thread(THREAD)["status"] == "idle"


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with ScriptedUpstream(["ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id=THREAD)
        for action in ("fork", "rewind"):
            path = f"/v1/agents/threads/{THREAD}/{action}"
            response = service.client.post(path, json={"checkpoint_id": "no-such"})
            assert (response.status_code, response.json()["error"]["code"]) == (404, "checkpoint_not_found")
        assert len(service.client.get("/v1/agents/threads").json()["threads"]) == 1


def test_a_running_thread_stays_as_it_is(tmp_path: Path) -> None:
    release = threading.Event()
    with (
        ScriptedUpstream(["one", wait(release, "two")]) as upstream,
        RunningService(tmp_path, upstream) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        service.invoke(thread_id=THREAD)
        name = checkpoint(service, 1)
        running = pool.submit(service.invoke, thread_id=THREAD)
        wait_until(lambda: len(upstream.requests) == 2)
        for action in ("fork", "rewind"):
            path = f"/v1/agents/threads/{THREAD}/{action}"
            response = service.client.post(path, json={"checkpoint_id": name})
            assert (response.status_code, response.json()["error"]["code"]) == (409, "thread_busy")
        release.set()
        assert running.result().json()["explanation"] == "two"


def test_a_rewind_takes_the_conversation_back(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(["one", "two", "other two"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke("first", thread_id=THREAD)
        service.invoke("second", thread_id=THREAD)
        back = rewind(service, checkpoint(service, 2))
        assert (back["status"], back["agent_status"]) == ("idle", "completed")
        assert (back["restored"], back["kept"]) == ([], [])
        assert messages(service) == ["first", "one"]
        service.invoke("another second", thread_id=THREAD)
        assert [m["content"] for m in upstream.bodies[-1]["messages"][1:]] == [
            "first",
            "one",
            "another second",
        ]
        assert messages(service) == ["first", "one", "another second", "other two"]
        assert upstream.refusals == []


def test_a_rewind_comes_back_to_the_branch_that_it_left(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(["one", "two", "other two", "three"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke("first", thread_id=THREAD)
        service.invoke("second", thread_id=THREAD)
        end_of_first_branch = checkpoint(service, 4)
        rewind(service, checkpoint(service, 2))
        service.invoke("another second", thread_id=THREAD)
        rewind(service, end_of_first_branch)
        assert messages(service) == ["first", "one", "second", "two"]
        service.invoke("third", thread_id=THREAD)
        assert messages(service) == ["first", "one", "second", "two", "third", "three"]
        assert upstream.refusals == []


def test_every_checkpoint_can_be_gone_back_to(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [write("a.txt", "1"), calls(ASK), write("b.txt", "2", "w2"), "done"]
    with ScriptedUpstream(script, otherwise="again") as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke(project_directory=str(project), thread_id=THREAD)
            service.resume(THREAD, "ask_1", "Orion")
            whole = history(service)
            for each in whole:
                rewind(service, each["checkpoint_id"], files=True)
                answer = service.invoke("go on", thread_id=THREAD).json()
                assert answer["agent_status"] == "completed", each
            assert len(whole) == 10
        assert upstream.refusals == []


def test_files_go_back_too(tmp_path: Path, project: Path) -> None:
    (project / "edited.txt").write_text("old\n")
    script: list[ScriptItem] = [
        write("first.txt", "stays\n"),
        "one",
        calls(
            ("write_file", {"filepath": "new/made.txt", "content": "made\n"}, "w2"),
            ("edit_file", {"filepath": "edited.txt", "old_text": "old", "new_text": "newer"}, "w3"),
        ),
        write("edited.txt", "newest\n", "w4"),
        "two",
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        at_first = diff(service)
        service.invoke("more", thread_id=THREAD)
        back = rewind(service, checkpoint(service, 4), files=True)
        assert (sorted(back["restored"]), back["kept"]) == (["edited.txt", "new/made.txt"], [])
        assert (project / "edited.txt").read_text() == "old\n"
        assert not (project / "new/made.txt").exists()
        assert (project / "first.txt").read_text() == "stays\n"
        assert diff(service) == at_first
        changed = {f["path"]: f["action"] for f in back["last_response"]["files_changed"]}
        assert changed == {"edited.txt": "modified", "new/made.txt": "deleted"}
        whole = rewind(service, checkpoint(service, 1), files=True)
        assert whole["restored"] == ["first.txt"]
        assert diff(service) == ""
        forward = rewind(service, history(service, limit=200)[-1]["checkpoint_id"], files=True)
        assert forward["restored"] == []


def test_without_files_they_stay(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [write("a.txt", "1\n"), "one", "two"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        rewind(service, checkpoint(service, 1))
        assert (project / "a.txt").read_text() == "1\n"
        service.invoke("go on", thread_id=THREAD)
        assert upstream.refusals == []


def test_a_file_that_somebody_else_changed_is_kept_and_named(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [
        calls(
            ("write_file", {"filepath": "a.txt", "content": "1\n"}, "w1"),
            ("write_file", {"filepath": "b.txt", "content": "2\n"}, "w2"),
            ("write_file", {"filepath": "c.txt", "content": "3\n"}, "w3"),
        ),
        "one",
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        (project / "a.txt").write_text("mine\n")
        (project / "c.txt").unlink()
        (project / "c.txt").mkdir()
        back = rewind(service, checkpoint(service, 1), files=True)
        assert back["restored"] == ["b.txt"]
        kept = {each["path"]: each["reason"] for each in back["kept"]}
        assert kept.keys() == {"a.txt", "c.txt"}
        assert kept["a.txt"] == "changed since by somebody else"
        assert (project / "a.txt").read_text() == "mine\n"
        assert not (project / "b.txt").exists()
        assert "a.txt" in service.thread(THREAD)["last_response"]["explanation"]


def test_what_somebody_else_wrote_in_between_is_kept_and_named(tmp_path: Path, project: Path) -> None:
    """The agent built upon it since, so the file is as the agent left it, and yet not the agent's alone."""
    read = calls(("read_file", {"filepath": "a.txt"}))
    script: list[ScriptItem] = [write("a.txt", "1\n"), "one", read, write("a.txt", "mine, 2\n"), "two"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        after_one = checkpoint(service, 4)
        (project / "a.txt").write_text("mine\n")
        service.invoke("polish it", thread_id=THREAD)
        back = rewind(service, checkpoint(service, 1), files=True)
        reason = "changed by somebody else between two changes of this thread"
        assert (back["restored"], back["kept"]) == ([], [{"path": "a.txt", "reason": reason}])
        assert (project / "a.txt").read_text() == "mine, 2\n"
        assert rewind(service, after_one, files=True)["restored"] == ["a.txt"]
        assert (project / "a.txt").read_text() == "mine\n"


def test_the_files_of_a_moment_after_a_rewind_that_left_them(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [
        *(write("a.txt", "1\n", "w1"), "one"),
        *(write("a.txt", "2\n", "w2"), "two"),
        "only words",
        *(write("a.txt", "3\n", "w3"), write("b.txt", "3\n", "w4"), "three"),
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        start, after_one = checkpoint(service, 1), checkpoint(service, 4)
        service.invoke("more", thread_id=THREAD)
        after_two = history(service)[0]["checkpoint_id"]
        rewind(service, after_one)
        copy = history(service)[0]["checkpoint_id"]
        service.invoke("talk", thread_id=THREAD)
        after_words = history(service)[0]["checkpoint_id"]
        service.invoke("again", thread_id=THREAD)

        def files() -> dict[str, str]:
            return {file.name: file.read_text() for file in project.iterdir()}

        for place, expected in (
            (after_words, {"a.txt": "2\n"}),
            (copy, {"a.txt": "2\n"}),
            (after_one, {"a.txt": "1\n"}),
            (copy, {"a.txt": "2\n"}),
            (start, {}),
            (after_two, {"a.txt": "2\n"}),
        ):
            back = rewind(service, place, files=True)
            assert (files(), back["kept"]) == (expected, [])
            assert rewind(service, history(service)[0]["checkpoint_id"], files=True)["restored"] == []
            assert files() == expected


def test_a_moment_before_notes_were_taken_is_that_of_its_last_outcome(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [write("a.txt", "1\n"), "one", write("a.txt", "2\n", "w2"), "two"]
    with ScriptedUpstream(script) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke(project_directory=str(project), thread_id=THREAD)
            service.invoke("more", thread_id=THREAD)
        with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database, database:
            database.execute("UPDATE checkpoints SET metadata = json_remove(metadata, '$.effects')")
        with RunningService(tmp_path, upstream) as service:
            assert rewind(service, checkpoint(service, 4), files=True)["restored"] == ["a.txt"]
            assert (project / "a.txt").read_text() == "1\n"
            rewind(service, checkpoint(service, 8), files=True)
            assert (project / "a.txt").read_text() == "2\n"


def test_going_back_is_a_way_out_of_damage(tmp_path: Path, project: Path) -> None:
    with ScriptedUpstream([write("a.txt", "1\n"), "done"], otherwise="hello") as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke(project_directory=str(project), thread_id=THREAD)
            first = checkpoint(service, 1)
        with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database, database:
            newest = "SELECT max(version) FROM channel_values WHERE channel = 'messages'"
            database.execute(
                f"DELETE FROM channel_values WHERE channel = 'messages' AND version = ({newest})"
            )
        with RunningService(tmp_path, upstream) as service:
            broken = service.invoke("hello", thread_id=THREAD).json()
            assert "cannot be used" in broken["error_details"]
            assert rewind(service, first, files=True)["restored"] == ["a.txt"]
            assert service.invoke("hello", thread_id=THREAD).json()["agent_status"] == "completed"


def test_a_fork_has_effects_of_its_own(tmp_path: Path, project: Path) -> None:
    """SQLite gives the numbers of a deleted thread's effects again."""
    script: list[ScriptItem] = [
        *(write("a.txt", "1\n"), "one"),
        *(calls(("read_file", {"filepath": "a.txt"})), write("a.txt", "2\n", "w2"), "two"),
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        fork_id = fork(service)["thread_id"]
        at_its_beginning = history(service, fork_id)[0]["checkpoint_id"]
        assert service.client.delete(f"/v1/agents/threads/{THREAD}").status_code == 204
        service.invoke("go on", thread_id=fork_id)
        assert (project / "a.txt").read_text() == "2\n"
        back = rewind(service, at_its_beginning, fork_id, files=True)
        assert (back["restored"], (project / "a.txt").read_text()) == (["a.txt"], "1\n")


def test_branches_with_files_and_with_call_ids_that_come_again(tmp_path: Path, project: Path) -> None:
    """A model that numbers its calls gives the same ids on each branch; each is carried out all the same."""
    script: list[ScriptItem] = [
        *(write("a.txt", "base\n", "call_1"), "one"),
        *(
            write("a.txt", "left\n", "call_2"),
            calls(("ask_human_for_input", {"question": "?"}, "call_3")),
            "l",
        ),
        *(
            write("a.txt", "right\n", "call_2"),
            calls(("ask_human_for_input", {"question": "?"}, "call_3")),
            "r",
        ),
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:

        def say(instruction: str) -> None:
            asked = service.invoke(instruction, thread_id=THREAD).json()["human_input_request"]
            service.resume(THREAD, asked["tool_call_id"], "yes")

        def content() -> str:
            return (project / "a.txt").read_text()

        service.invoke("base", project_directory=str(project), thread_id=THREAD)
        fork_point = checkpoint(service, 4)
        say("left")
        left = history(service)[0]["checkpoint_id"]
        assert content() == "left\n"
        rewind(service, fork_point, files=True)
        assert content() == "base\n"
        say("right")
        right = history(service)[0]["checkpoint_id"]
        assert content() == "right\n"
        for place, expected in (
            (left, "left\n"),
            (right, "right\n"),
            (fork_point, "base\n"),
            (left, "left\n"),
        ):
            back = rewind(service, place, files=True)
            assert (content(), back["kept"]) == (expected, [])
        assert diff(service).endswith("+left\n")
        assert upstream.refusals == []


def test_a_call_that_was_taken_back_does_not_come_again(tmp_path: Path, project: Path) -> None:
    """On the new branch the call is answered as not carried out, which is no effect to go back to."""
    script: list[ScriptItem] = [write("a.txt", "1\n"), "one", "two", "three"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        rewind(service, checkpoint(service, 2), files=True)
        service.invoke("another way", thread_id=THREAD)
        assert not (project / "a.txt").exists()
        place = history(service)[0]["checkpoint_id"]
        service.invoke("and on", thread_id=THREAD)
        assert rewind(service, place, files=True)["restored"] == []
        assert not (project / "a.txt").exists()
        assert upstream.refusals == []


def test_a_rewind_of_a_waiting_thread_cancels_its_question(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id=THREAD)
        moment = checkpoint(service, 2)
        back = rewind(service, moment)
        assert (back["status"], back["pending_requests"]) == ("idle", [])
        assert back["notes"] == ["The question that was open is withdrawn.", NOT_ASKED_AGAIN]
        assert all(note in back["last_response"]["explanation"] for note in back["notes"])
        late = service.resume(THREAD, "ask_1", "Orion")
        assert (late.status_code, late.json()["error"]["code"]) == (409, "not_waiting")
        assert service.invoke("go on", thread_id=THREAD).json()["agent_status"] == "completed"
        told = [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]
        assert told == ["Error: the question was cancelled by the user."]
        assert rewind(service, moment)["notes"] == [NOT_ASKED_AGAIN]
        assert rewind(service, checkpoint(service, 1))["notes"] == []
        assert upstream.refusals == []


def test_a_rewind_is_told_and_can_be_repeated_safely(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [write("a.txt", "1\n"), "one", "two"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        name = checkpoint(service, 1)
        first = rewind(service, name, files=True, headers={"Idempotency-Key": "k1"})
        service.invoke("go on", thread_id=THREAD)
        again = rewind(service, name, files=True, headers={"Idempotency-Key": "k1"})
        assert (again["restored"], again["kept"]) == (first["restored"], first["kept"])
        assert again["run_id"] != first["run_id"], "the thread is shown as it is now"
        assert messages(service)[-1] == "two"
        with service.client.stream(
            "GET", f"/v1/agents/threads/{THREAD}/events", params={"after": 0}
        ) as response:
            events = (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))
            told = next(event for event in events if event["kind"] == "thread.rewound")
        assert told["checkpoint_id"] == name
        assert (told["restored"], told["kept"]) == (["a.txt"], [])


def test_a_rewind_whose_project_is_gone_says_so_and_does_nothing(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [write("a.txt", "1\n"), "one"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id=THREAD)
        project.rename(tmp_path / "elsewhere")
        refused = rewind(service, checkpoint(service, 1), files=True)
        assert (refused["status"], refused["agent_status"]) == ("error", "error")
        assert "gone" in refused["error_details"]
        assert messages(service)[-1] == "one"


def test_a_fork_goes_its_own_way(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [write("a.txt", "1\n"), "one", "two", write("a.txt", "2\n", "w1"), "three"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke("first", project_directory=str(project), thread_id=THREAD)
        made = fork(service)
        assert made["thread_id"] != THREAD
        assert made["title"] == "first (fork)"
        assert (made["status"], made["project_directory"]) == ("idle", str(project))
        assert made["last_response"]["explanation"] == "one"
        assert made["last_response"]["thread_id"] == made["thread_id"]
        assert messages(service, made["thread_id"]) == messages(service)
        service.invoke("on", thread_id=THREAD)
        assert service.client.delete(f"/v1/agents/threads/{THREAD}").status_code == 204
        response = service.invoke("on in the fork", thread_id=made["thread_id"]).json()
        assert response["agent_status"] == "completed"
        assert response["files_changed"][0]["action"] == "modified"
        assert (project / "a.txt").read_text() == "2\n"
        assert upstream.refusals == []


def test_a_fork_wants_no_body_and_a_repeat_with_a_key_makes_no_second_one(tmp_path: Path) -> None:
    with ScriptedUpstream(["one"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id=THREAD)
        path, headers = f"/v1/agents/threads/{THREAD}/fork", {"Idempotency-Key": "k1"}
        first = service.client.post(path, headers=headers)
        assert (first.status_code, first.json()["status"]) == (201, "idle")
        again = service.client.post(path, headers=headers)
        assert again.json()["thread_id"] == first.json()["thread_id"]
        assert len(service.client.get("/v1/agents/threads").json()["threads"]) == 2


def test_a_fork_from_an_earlier_checkpoint(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [write("a.txt", "1\n"), "one", "two"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke("first", project_directory=str(project), thread_id=THREAD)
        (project / "a.txt").write_text("mine\n")
        made = fork(service, checkpoint_id=checkpoint(service, 2))
        assert (made["status"], made["agent_status"]) == ("idle", "completed")
        assert len(history(service, made["thread_id"])) == 4
        assert service.invoke("on", thread_id=made["thread_id"]).json()["agent_status"] == "completed"
        told = [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]
        assert told == ["Error: not executed: the run was stopped before this call was carried out."]
        assert (project / "a.txt").read_text() == "mine\n"
        assert upstream.refusals == []


def test_a_fork_of_a_waiting_thread_waits_for_itself(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [calls(ASK), "thanks", write("a.txt", "1\n"), "thanks in the fork"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke("ask", project_directory=str(project), thread_id=THREAD, language="py")
        made = fork(service)
        fork_id = made["thread_id"]
        assert made["status"] == "requires_human_input"
        assert [q["tool_call_id"] for q in made["pending_requests"]] == ["ask_1"]
        events = f"/v1/agents/threads/{fork_id}/events"
        with service.client.stream("GET", events, params={"after": 0}) as told:
            kinds = [event.kind for event in itertools.islice(sse(told), 3)]
        assert kinds == ["run.started", "question.opened", "run.finished"]
        assert service.resume(THREAD, "ask_1", "Orion").json()["explanation"] == "thanks"
        assert service.thread(fork_id)["status"] == "requires_human_input"
        assert service.client.delete(f"/v1/agents/threads/{THREAD}").status_code == 204
        done = service.resume(fork_id, "ask_1", "Vega").json()
        assert (done["agent_status"], done["explanation"]) == ("completed", "thanks in the fork")
        answers = [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]
        assert answers[0] == "Vega"
        assert (project / "a.txt").read_text() == "1\n"
        assert upstream.refusals == []


def test_what_was_done_beside_an_open_question_is_not_done_again_in_the_fork(
    tmp_path: Path, project: Path
) -> None:
    turn = calls(
        ("write_file", {"filepath": "free.txt", "content": "1\n"}, "w1"),
        ("write_file", {"filepath": "asked.txt", "content": "2\n"}, "w2"),
    )
    rules = {"write_file": {"**": "auto", "asked.txt": "ask"}}
    with (
        ScriptedUpstream([turn, "ok", "ok too"]) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": rules}) as service,
    ):
        service.invoke(project_directory=str(project), thread_id=THREAD)
        (project / "free.txt").write_text("mine\n")
        fork_id = fork(service)["thread_id"]
        assert service.resume(fork_id, "w2", "yes").json()["agent_status"] == "completed"
        assert (project / "asked.txt").read_text() == "2\n"
        assert (project / "free.txt").read_text() == "mine\n"
        again = service.resume(THREAD, "w2", "yes").json()
        assert again["agent_status"] == "completed"
        assert upstream.refusals == []


def test_the_last_checkpoints_are_kept_when_a_run_ends(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(["one", calls(ASK), "two"]) as upstream,
        RunningService(tmp_path, upstream, state={"keep_checkpoints": 2}) as service,
    ):
        service.invoke(thread_id=THREAD)
        wait_until(lambda: len(history(service)) == 2)
        service.invoke(thread_id=THREAD)
        assert len(history(service)) > 2, "nothing goes while it waits"
        assert service.resume(THREAD, "ask_1", "Orion").json()["agent_status"] == "completed"
        wait_until(lambda: len(history(service)) == 2)
        assert len(messages(service)) == 6


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_they_are_when_a_question_is_withdrawn_too(tmp_path: Path, status: str) -> None:
    with ScriptedUpstream(["one", calls(ASK)]) as upstream:
        with RunningService(tmp_path, upstream, state={"keep_checkpoints": 2}) as service:
            service.invoke(thread_id=THREAD)
            service.invoke(thread_id=THREAD)
            assert len(history(service)) > 2
            if status == "cancelled":
                service.client.post(f"/v1/agents/threads/{THREAD}/cancel").raise_for_status()
                assert len(history(service)) == 2
        with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database, database:
            database.execute("UPDATE questions SET expires_at = 1.0")
        with RunningService(tmp_path, upstream, state={"keep_checkpoints": 2}) as service:
            wait_until(lambda: service.thread(THREAD)["status"] == "idle")
            wait_until(lambda: len(history(service)) == 2)


def test_old_events_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_FORGET_SECONDS", (0.0, 0.1))
    with ScriptedUpstream(["one", "two"]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke(thread_id=THREAD)
        with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database, database:
            database.execute("UPDATE events SET created_at = created_at - 31 * 86400")
        with RunningService(tmp_path, upstream) as service:
            service.invoke(thread_id=THREAD)

            def first_kept() -> SseEvent:
                path = f"/v1/agents/threads/{THREAD}/events"
                with service.client.stream("GET", path, params={"after": 0}) as response:
                    return next(sse(response))

            wait_until(lambda: first_kept().data.get("code") == "events_expired")
            assert messages(service) == ["do it", "one", "do it", "two"]


def test_pruning_leaves_what_runs_or_waits(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(["one", "two", calls(ASK)]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        for thread_id in ("thread-01", "thread-02", "thread-03"):
            service.invoke(thread_id=thread_id)

        def prune(**fields: Any) -> dict[str, Any]:
            response = service.client.post("/v1/agents/threads/prune", json=fields)
            done: dict[str, Any] = response.raise_for_status().json()
            return done

        nothing: dict[str, Any] = {"threads_pruned": 0, "checkpoints_deleted": 0, "threads_deleted": 0}
        nothing |= {"threads": [], "skipped": []}
        assert prune(keep_checkpoints=1, older_than_days=1) == nothing
        three_each = [
            {"thread_id": name, "title": "do it", "checkpoints_deleted": 3}
            for name in ("thread-01", "thread-02")
        ]
        would = prune(keep_checkpoints=1, dry_run=True)
        assert would == {**nothing, "threads_pruned": 2, "checkpoints_deleted": 6, "threads": three_each}
        assert prune(delete=True, older_than_days=0, dry_run=True)["threads_deleted"] == 2
        assert prune(keep_checkpoints=1) == would, "looking deleted nothing"
        assert prune(keep_checkpoints=1) == nothing
        assert messages(service) == ["do it", "one"]
        assert prune(delete=True, older_than_days=0)["threads_deleted"] == 2
        [left] = service.client.get("/v1/agents/threads").json()["threads"]
        assert (left["thread_id"], left["status"]) == ("thread-03", "requires_human_input")
        for refused in (
            {},
            {"delete": True},
            {"older_than_days": 3},
            {"delete": True, "keep_checkpoints": 1},
        ):
            response = service.client.post("/v1/agents/threads/prune", json=refused)
            assert response.status_code == 422, refused
