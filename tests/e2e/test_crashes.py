"""The command is killed or told to stop, and started again: work goes on by itself, and answers count once.

At which moments it is killed does not matter: see `test_crash_points`.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.process import ServiceProcess
from tests.service import wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls, wait

ASK = calls(("ask_human_for_input", {"question": "Which name?"}, "ask_1"))
WRITE = calls(("write_file", {"filepath": "name.txt", "content": "Orion\n"}, "write_1"))
ANSWER = {"thread_id": "thread-01", "tool_call_id": "ask_1", "human_response": "Orion"}


def invoke(service: ServiceProcess, project: Path, **fields: Any) -> httpx.Response:
    headers = fields.pop("headers", {})
    body = {"instruction": "go", "thread_id": "thread-01", "project_directory": str(project), **fields}
    return service.client.post("/v1/agents/code/invoke", json=body, headers=headers)


def unheard(request: Any) -> None:
    """Send a request whose answer never comes, because the service is killed meanwhile."""
    with suppress(httpx.HTTPError):
        request()


def test_killed_in_the_middle_of_a_run_it_is_taken_up_again(tmp_path: Path, project: Path) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [WRITE, wait(release, "never heard"), "ok"]
    headers = {"Idempotency-Key": "k-1"}
    with (
        ScriptedUpstream(script) as upstream,
        ServiceProcess(tmp_path, upstream) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(unheard, lambda: invoke(service, project, headers=headers))
        wait_until(lambda: len(upstream.requests) == 2)
        service.kill()
        (project / "name.txt").write_text("mine\n")
        service.start()
        wait_until(lambda: service.thread("thread-01")["status"] == "idle")
        again = invoke(service, project, headers=headers)
        assert again.status_code == 200
        assert again.json()["agent_status"] == "completed"
        assert len(upstream.requests) == 3
        assert (project / "name.txt").read_text() == "mine\n"
        roles = [m["role"] for m in upstream.bodies[-1]["messages"]]
        assert roles == ["system", "user", "assistant", "tool", "user"]
        assert "changed by somebody else" in upstream.bodies[-1]["messages"][-1]["content"]
        assert upstream.refusals == []


def test_killed_while_resuming_the_answer_counts_once(tmp_path: Path, project: Path) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [ASK, wait(release, "never heard"), WRITE, "ok"]
    with (
        ScriptedUpstream(script) as upstream,
        ServiceProcess(tmp_path, upstream) as service,
        ThreadPoolExecutor(6) as pool,
    ):
        invoke(service, project)
        pool.submit(unheard, lambda: service.client.post("/v1/agents/resume", json=ANSWER))
        wait_until(lambda: len(upstream.requests) == 2)
        service.kill()
        service.start()
        tries = [pool.submit(service.client.post, "/v1/agents/resume", json=ANSWER) for _ in range(6)]
        assert {each.result().status_code for each in tries} <= {200, 409}
        wait_until(lambda: service.thread("thread-01")["status"] == "idle")
        assert service.client.post("/v1/agents/resume", json=ANSWER).json()["agent_status"] == "completed"
        answers = [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]
        assert answers[0] == "Orion"
        assert len(answers) == 2
        assert len(upstream.requests) == 4


def test_sigterm_leaves_off_and_the_next_start_goes_on(tmp_path: Path, project: Path) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [WRITE, wait(release, calls(("list_files", {}))), "ok after the restart"]
    with (
        ScriptedUpstream(script) as upstream,
        ServiceProcess(tmp_path, upstream) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(invoke, service, project)
        wait_until(lambda: len(upstream.requests) == 2)
        threading.Timer(0.5, release.set).start()
        began = time.monotonic()
        assert service.terminate() == 0
        assert time.monotonic() - began < 20
        assert running.result().json()["error"]["code"] == "shutting_down"
        assert len(upstream.requests) == 2
        service.start()
        wait_until(lambda: service.thread("thread-01")["status"] == "idle")
        assert service.thread("thread-01")["agent_status"] == "completed"
        assert service.thread("thread-01")["last_response"]["explanation"] == "ok after the restart"
        assert len(upstream.requests) == 3
        assert upstream.refusals == []
        assert (project / "name.txt").read_text() == "Orion\n"


def test_an_endless_head_is_cut_off(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, ServiceProcess(tmp_path, upstream) as service:
        address = service.client.base_url
        with socket.create_connection((address.host, address.port or 0), timeout=10) as endless:
            endless.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
            with suppress(OSError):
                for _ in range(64):
                    endless.sendall(b"x" * (1 << 20))
                raise AssertionError("64 MiB of header were taken")
        assert service.client.get("/health").status_code == 200
