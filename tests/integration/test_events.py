"""The event streams over HTTP: ids, replay after `Last-Event-ID`, and following."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.service import RunningService, SseEvent, sse
from tests.upstream import ScriptedUpstream, ScriptItem, calls, wait

READ = calls(("read_file", {"filepath": "a.txt"}, "read_1"), text="Let me look.")
WRITE = calls(("write_file", {"filepath": "b.txt", "content": "new\n"}, "write_1"))
EVENTS = "/v1/agents/threads/thread-01/events"


def run(service: RunningService, project: Path, instruction: str = "go") -> list[SseEvent]:
    body = {
        "instruction": instruction,
        "thread_id": "thread-01",
        "project_directory": str(project),
        "stream": True,
    }
    with service.client.stream("POST", "/v1/agents/code/invoke", json=body) as response:
        return list(sse(response))


def follow(
    service: RunningService, until: int, begun: Callable[[], object] = lambda: None, **options: Any
) -> list[SseEvent]:
    """The events up to that number; `begun` is called as soon as none can be missed."""
    taken: list[SseEvent] = []
    with service.client.stream("GET", EVENTS, **options) as response:
        for event in sse(response, begun):
            taken.append(event)
            if event.id == str(until):
                break
    return taken


def stored(events: list[SseEvent]) -> list[SseEvent]:
    return [event for event in events if event.id is not None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.txt").write_text("old\n")
    return folder


def test_all_that_is_stored_has_a_number_and_can_be_replayed(tmp_path: Path, project: Path) -> None:
    with (
        ScriptedUpstream([READ, WRITE, "Done."]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        live = stored(run(service, project))
        assert [event.kind for event in live] == [
            "run.started",
            "message",
            "tool.started",
            "tool.finished",
            "tool.started",
            "tool.finished",
            "message",
            "run.finished",
        ]
        assert [event.id for event in live] == [str(n) for n in range(1, 9)]
        assert follow(service, 8, params={"after": 0}) == live
        assert follow(service, 8, headers={"Last-Event-ID": "5"}) == live[5:]
        # the header, which a browser sends by itself when it connects again, counts more than the URL
        assert follow(service, 8, params={"after": 0}, headers={"Last-Event-ID": "7"}) == live[7:]


def test_without_a_number_the_future_is_followed(tmp_path: Path, project: Path) -> None:
    begun = threading.Event()
    with (
        ScriptedUpstream(["One.", "Two."]) as upstream,
        RunningService(tmp_path, upstream) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        first = stored(run(service, project))
        following = pool.submit(follow, service, 6, begun.set)
        assert begun.wait(10)
        second = run(service, project, "again")
        assert [e.data["seq"] for e in first] == [1, 2, 3]
        told = following.result()
        assert stored(told) == stored(second)
        assert "".join(e.data["text"] for e in told if e.kind == "token") == "Two."


def test_a_number_from_the_future_is_taken_for_now(tmp_path: Path, project: Path) -> None:
    begun = threading.Event()
    with (
        ScriptedUpstream(["One.", "Two."]) as upstream,
        RunningService(tmp_path, upstream) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        run(service, project)
        following = pool.submit(follow, service, 6, begun.set, headers={"Last-Event-ID": "999"})
        assert begun.wait(10)
        run(service, project, "again")
        assert [e.id for e in stored(following.result())] == ["4", "5", "6"]


@pytest.mark.parametrize("number", ["-1", "x", "1" * 40, "1.5"])
def test_a_number_that_is_none_does_no_harm(tmp_path: Path, project: Path, number: str) -> None:
    with ScriptedUpstream(["One."]) as upstream, RunningService(tmp_path, upstream) as service:
        run(service, project)
        with service.client.stream("GET", EVENTS, headers={"Last-Event-ID": number}) as response:
            assert response.status_code == 200
        refused = service.client.get(EVENTS, params={"after": "x"})
        assert refused.status_code == 422
        assert refused.json()["error"]["param"] == "after"


def test_who_leaves_and_comes_back_misses_nothing(tmp_path: Path, project: Path) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [READ, wait(release, WRITE), "Done."]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        body = {
            "instruction": "go",
            "thread_id": "thread-01",
            "project_directory": str(project),
            "stream": True,
        }
        seen: list[SseEvent] = []
        with service.client.stream("POST", "/v1/agents/code/invoke", json=body) as response:
            for event in sse(response):
                seen.append(event)
                if event.kind == "tool.finished":
                    break
        release.set()
        last = stored(seen)[-1].id or ""
        rest = follow(service, 8, headers={"Last-Event-ID": last})
        assert [e.id for e in stored(seen + rest)] == [str(n) for n in range(1, 9)]
        assert rest[-1].kind == "run.finished"


def test_the_events_go_with_the_thread_and_outlive_a_restart(tmp_path: Path, project: Path) -> None:
    with ScriptedUpstream(["One."]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            live = stored(run(service, project))
        with RunningService(tmp_path, upstream) as service:
            assert follow(service, 3, params={"after": 0}) == live
            service.client.delete("/v1/agents/threads/thread-01").raise_for_status()
            assert service.client.get(EVENTS).status_code == 404
