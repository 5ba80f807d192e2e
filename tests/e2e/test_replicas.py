"""Two services on one PostgreSQL: either may answer, go on, and stop what the other began."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.databases import PostgresqlServer
from tests.e2e.deployment import Deployment
from tests.service import SseEvent, sse, wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, Step, calls, wait

ASK = calls(("ask_human_for_input", {"question": "Which name?"}, "ask_1"))
WRITE = calls(("write_file", {"filepath": "name.txt", "content": "Orion\n"}, "write_1"))
THREAD = "/v1/agents/threads/thread-01"
CLIENTS = 32


@contextmanager
def replicas(home: Path, url: str, script: list[ScriptItem]) -> Iterator[tuple[Deployment, ScriptedUpstream]]:
    with (
        ScriptedUpstream(script) as upstream,
        Deployment(home, upstream, replicas=2, database_url=url) as both,
    ):
        yield both, upstream


def invoke(client: httpx.Client, project: Path, **fields: Any) -> dict[str, Any]:
    body = {"instruction": "go", "thread_id": "thread-01", "project_directory": str(project), **fields}
    response = client.post("/v1/agents/code/invoke", json=body)
    told: dict[str, Any] = response.raise_for_status().json()
    return told


def resume(client: httpx.Client, answer: str) -> httpx.Response:
    body = {"thread_id": "thread-01", "tool_call_id": "ask_1", "human_response": answer}
    return client.post("/v1/agents/resume", json=body)


def thread(client: httpx.Client) -> dict[str, Any]:
    shown: dict[str, Any] = client.get(THREAD).raise_for_status().json()
    return shown


def follow(client: httpx.Client, begun: Callable[[], object]) -> list[SseEvent]:
    """All events of the thread until its work is done."""
    taken: list[SseEvent] = []
    with client.stream("GET", f"{THREAD}/events", params={"after": 0}) as response:
        for event in sse(response, begun):
            taken.append(event)
            if event.kind == "run.finished" and event.data["response"]["agent_status"] == "completed":
                break
    return taken


def test_one_asks_the_other_is_answered_and_both_tell_of_it(
    tmp_path: Path, project: Path, postgresql_url: str
) -> None:
    with (
        replicas(tmp_path, postgresql_url, [ASK, WRITE, "Done."]) as (both, upstream),
        ThreadPoolExecutor(1) as pool,
    ):
        assert invoke(both.client(0), project)["agent_status"] == "requires_human_input"
        begun = threading.Event()
        following = pool.submit(follow, both.client(0), begun.set)
        assert begun.wait(10)
        assert thread(both.client(1))["human_input_request"]["tool_call_id"] == "ask_1"
        done = resume(both.client(1), "Orion").json()
        assert done["agent_status"] == "completed"
        assert (project / "name.txt").read_text() == "Orion\n"
        events = [event for event in following.result(20) if event.id]
        assert [event.id for event in events] == [str(n) for n in range(1, len(events) + 1)]
        assert events[-1].data["response"] == done
        assert upstream.refusals == []


def test_of_many_answers_to_both_exactly_one_counts(
    tmp_path: Path, project: Path, postgresql_url: str
) -> None:
    with (
        replicas(tmp_path, postgresql_url, [ASK, WRITE, "Done."]) as (both, upstream),
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        invoke(both.client(0), project)
        start = threading.Barrier(CLIENTS)

        def answer(number: int) -> httpx.Response:
            start.wait()
            return resume(both.client(number % 2), f"name {number}")

        answers = list(pool.map(answer, range(CLIENTS)))
        assert sorted(each.status_code for each in answers) == [200] + [409] * (CLIENTS - 1)
        won = next(number for number, each in enumerate(answers) if each.status_code == 200)
        results = [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]
        assert results[0] == f"name {won}"
        assert len(upstream.requests) == 3


def test_what_one_began_the_other_finishes_when_it_dies(
    tmp_path: Path, project: Path, postgresql_url: str
) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [WRITE, wait(release, "never heard"), "Done."]
    with replicas(tmp_path, postgresql_url, script) as (both, upstream):
        invoke(both.client(0), project, background=True)
        wait_until(lambda: len(upstream.requests) == 2)
        both.kill_replica(0)
        wait_until(lambda: thread(both.client(1))["status"] == "idle", 20)
        shown = thread(both.client(1))
        assert shown["agent_status"] == "completed"
        assert shown["last_response"]["files_changed"][0]["path"] == "name.txt"
        assert len(upstream.requests) == 3
        assert upstream.refusals == []


def test_what_one_runs_the_other_cancels(tmp_path: Path, project: Path, postgresql_url: str) -> None:
    release = threading.Event()
    with replicas(tmp_path, postgresql_url, [WRITE, wait(release, "never heard")]) as (both, upstream):
        invoke(both.client(0), project, background=True)
        wait_until(lambda: len(upstream.requests) == 2)
        cancelled = both.client(1).post(f"{THREAD}/cancel", json={}).raise_for_status().json()
        assert cancelled["status"] == "idle"
        assert "cancelled" in cancelled["error_details"]
        assert thread(both.client(0))["status"] == "idle"


def test_a_database_that_is_gone_for_a_while(
    tmp_path: Path, project: Path, postgresql: PostgresqlServer, postgresql_url: str
) -> None:
    release = threading.Event()

    def next_step(body: dict[str, Any]) -> Step | str:
        """What a model would do next, seen from the history alone: its answer may be lost."""
        answered = sum(message["role"] == "tool" for message in body["messages"])
        return (ASK, wait(release, WRITE), "Done.")[answered]

    with (
        ScriptedUpstream(otherwise=next_step) as upstream,
        Deployment(tmp_path, upstream, replicas=2, database_url=postgresql_url) as both,
        ThreadPoolExecutor(1) as pool,
    ):
        invoke(both.client(0), project)
        answering = pool.submit(resume, both.client(0), "Orion")
        wait_until(lambda: len(upstream.requests) == 2)
        with postgresql.stopped():
            release.set()
            time.sleep(1)
            refused = resume(both.client(1), "Orion")
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "database_unavailable"
            assert "retry-after" in refused.headers
            told = answering.result(30)
            assert told.status_code == 503, "nothing is called done that is not stored"
        wait_until(lambda: _status(both.client(1)) == "idle", 40)
        assert thread(both.client(1))["agent_status"] == "completed"
        assert (project / "name.txt").read_text() == "Orion\n"
        assert upstream.refusals == []


def _status(client: httpx.Client) -> str | None:
    with suppress(httpx.HTTPError):
        status: str = thread(client)["status"]
        return status
    return None
