"""The command and a service: one that runs, dies, comes back, or is not there."""

from __future__ import annotations

import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.e2e.desk import DIFF, PATIENCE, TASK, Desk, Screen
from tests.service import wait_until
from tests.upstream import ScriptedUpstream, calls, hang, wait


def test_a_question_outlives_kill_9_and_is_answered_at_the_next_service(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    upstream.then(*TASK)
    first = desk.serve()
    thread = desk.waiting_thread()
    first.send_signal(signal.SIGKILL)
    first.wait()
    desk.serve()
    done = desk.call("threads", "answer", thread["thread_id"], "Orion")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(DIFF)


def test_a_folder_named_at_the_start_is_allowed_beside_the_configured_ones(
    desk: Desk, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("configured", "named", "other")]
    for each in folders:
        each.mkdir()
    desk.configure(upstream, agent=f"agent: {{allowed_roots: ['{folders[0]}']}}")
    upstream.then("ok", "ok")
    desk.serve("--allow-root", str(folders[1]))
    url = f"http://127.0.0.1:{desk.port}/v1/agents/code/invoke"
    bodies = [{"instruction": "go", "project_directory": str(each)} for each in folders]
    answers = [httpx.post(url, json=body, timeout=PATIENCE, trust_env=False) for body in bodies]
    assert [each.status_code for each in answers] == [200, 200, 422]


def test_who_left_comes_back_to_the_run_from_its_beginning(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(*TASK)
    desk.serve()
    thread = desk.waiting_thread()
    seen = desk.call("threads", "follow", thread["thread_id"])
    assert seen.returncode == 3, seen.stderr
    assert "Hm." in seen.stdout
    assert "Which name?" in seen.stdout
    done = desk.call("threads", "follow", thread["thread_id"], stdin="Orion\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(DIFF)
    again = desk.call("threads", "follow", thread["thread_id"])
    assert again.returncode == 0
    assert "It greets Orion now." in again.stdout


def test_each_step_is_shown_once_although_the_service_was_killed_in_between(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    held = threading.Event()
    upstream.then(
        calls(("list_files", {}), text="First I look around."),
        wait(held, "never heard"),
        calls(("read_file", {"filepath": "greet.py"})),
        "Seen.",
    )
    service = desk.serve()
    client = desk.start("run", "Look around")
    wait_until(lambda: len(upstream.requests) == 2, PATIENCE)
    service.send_signal(signal.SIGKILL)
    service.wait()
    desk.serve()
    output, errors = client.communicate(timeout=PATIENCE)
    held.set()
    assert client.returncode == 0, output + errors
    for shown in ("First I look around.", "list_files", "greet.py", "Seen.", "The connection broke off"):
        assert output.count(shown) == 1, output


def test_sigterm_ends_the_service_in_good_order_and_the_run_goes_on_later(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    held = threading.Event()
    upstream.then(wait(held, calls(("list_files", {}))), "Finished after the restart.")
    service = desk.serve()
    client = desk.start("run", "Look around")
    wait_until(lambda: upstream.requests, PATIENCE)
    service.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    held.set()
    assert service.wait(20) == 0
    desk.serve()
    output, errors = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, output + errors
    assert "The connection broke off" in output
    assert "✓ Done" in output


def test_a_second_signal_ends_the_service_at_once(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(hang())
    service = desk.serve()
    body = {"instruction": "Wait", "background": True}
    httpx.post(f"http://127.0.0.1:{desk.port}/v1/agents/code/invoke", json=body).raise_for_status()
    wait_until(lambda: upstream.requests, PATIENCE)
    service.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert service.poll() is None
    service.send_signal(signal.SIGTERM)
    assert service.wait(2) == 128 + signal.SIGTERM


def test_who_listens_everywhere_is_shown_an_address_that_answers(desk: Desk) -> None:
    server = "server: {host: 0.0.0.0, api_keys: [{name: ops, key: ops-key-0123456789}], "
    desk.config.write_text(desk.config.read_text().replace("server: {", server))
    service = desk.serve()  # it says `ready at http://127.0.0.1:...`
    shown = f"http://127.0.0.1:{desk.port}"
    assert httpx.get(shown, timeout=PATIENCE, trust_env=False).json()["name"] == "agent-service"
    service.terminate()
    _, log = service.communicate(timeout=PATIENCE)
    assert log.count("server.allowed_hosts") == 1


def test_a_taken_port_is_told_plainly(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", desk.port)):
        other = desk.call("serve")
    assert other.returncode == 1
    assert other.stderr.startswith(
        f"agent-service: Cannot listen on 127.0.0.1 port {desk.port}: Address already"
    )
    desk.serve()
    ours = desk.call("serve")
    assert ours.returncode == 1
    assert "runs already at" in ours.stderr


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        ("serve", "server: {host: 0.0.0.0}", "keys are needed"),
        (
            "run x",
            "server: {prot: 1}",
            "config.yaml, line 1: server.prot: there is no such key; did you mean",
        ),
        ("models", "providers: {groq: {api_key: '${NO_SUCH_NAME}'}}", "NO_SUCH_NAME is not set"),
    ],
)
def test_a_bad_configuration_is_a_sentence_and_exit_code_2(
    desk: Desk, command: str, text: str, told: str
) -> None:
    desk.config.write_text(text)
    refused = desk.call(*command.split())
    assert refused.returncode == 2
    assert refused.stderr.startswith("agent-service: ")
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_database_from_the_future_stops_every_start(desk: Desk, tmp_path: Path) -> None:
    data = tmp_path / "data" / "agent-service"
    data.mkdir(parents=True, mode=0o700)
    with sqlite3.connect(data / "state.db") as database:
        database.execute("PRAGMA user_version = 9999")
    database.close()
    for words in (("serve",), ("threads", "list"), ("doctor",)):
        refused = desk.call(*words)
        assert refused.returncode == 1
        assert "newer version" in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_damaged_database_stops_the_start_with_one_line(desk: Desk, tmp_path: Path) -> None:
    desk.serve().terminate()
    path = tmp_path / "data" / "agent-service" / "state.db"
    wait_until(lambda: not path.with_name("state.db-wal").exists(), PATIENCE)
    with closing(sqlite3.connect(path)) as database:
        [size] = database.execute("PRAGMA page_size").fetchone()
        [page] = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'provider_accounts'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    refused = desk.call("serve")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"agent-service: {path} cannot be used as the database: database disk image is malformed\n"
    )


def test_a_named_service_that_is_not_there_is_not_replaced(desk: Desk) -> None:
    environ = {"AGENT_SERVICE_URL": f"http://127.0.0.1:{desk.port}"}
    refused = desk.call("run", "Anything", environ=environ)
    assert refused.returncode == 1
    assert "unset AGENT_SERVICE_URL" in refused.stderr


def test_a_service_with_keys_is_used_with_a_key(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then("Done.")
    desk.config.write_text(
        desk.config.read_text().replace(
            "server: {", 'server: {api_keys: [{name: alice, key: "a-key-of-alice"}], '
        )
    )
    desk.serve()
    refused = desk.call("run", "Anything")
    assert refused.returncode == 1
    assert "AGENT_SERVICE_API_KEY" in refused.stderr
    taken = desk.call("run", "Anything", environ={"AGENT_SERVICE_API_KEY": "a-key-of-alice"})
    assert taken.returncode == 0, taken.stderr


def test_a_named_data_folder_is_not_that_of_a_running_service(
    desk: Desk, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.then("Done.")
    desk.serve()
    done = desk.call("run", "Anything", "--data-dir", str(tmp_path / "other"))
    assert done.returncode == 0, done.stderr
    assert "is not used" in done.stderr
    assert len(desk.call("threads", "list").stdout.splitlines()) == 1


def test_a_list_of_threads_starts_no_service(desk: Desk, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    assert desk.call("threads", "list").stdout == "thread\tstatus\tchanged\tinstruction\n"
    assert not (tmp_path / "data").exists()
    upstream.then(wait(threading.Event()))
    service = desk.serve()
    httpx.post(
        f"http://127.0.0.1:{desk.port}/v1/agents/code/invoke", json={"instruction": "x", "background": True}
    ).raise_for_status()
    service.kill()
    service.wait()
    screen = Screen(desk.command("threads", "list"), desk.project, desk.environ)
    assert screen.end() == 0
    assert "left off" in screen.text
    assert len(upstream.requests) <= 1, "nobody goes on with it"
