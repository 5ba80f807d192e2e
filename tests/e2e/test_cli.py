"""The command as people and scripts use it: a process of its own, a scripted model, a private home."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.local_model.engine import engine_available
from tests.service import wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls, hang, status, wait

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
QUESTION = calls(
    ("ask_human_for_input", {"question": "Which name?", "options": ["Orion", "Vega"]}), text="Hm."
)
EDIT = calls(("edit_file", {"filepath": "greet.py", "old_text": "World", "new_text": "Orion"}))
DIFF = '--- a/greet.py\n+++ b/greet.py\n@@ -1 +1 @@\n-print("Hello, World!")\n+print("Hello, Orion!")\n'
TASK: list[ScriptItem] = [QUESTION, EDIT, "It greets Orion now."]


class Desk:
    """A home folder with a project, and the command started in it."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream) -> None:
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "greet.py").write_text('print("Hello, World!")\n')
        self.port = free_port()
        self.config = folder / "config.yaml"
        self.configure(upstream, agent="")
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environ = {
            **inherited,
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm-256color",
        }
        self.serving: list[subprocess.Popen[str]] = []

    def configure(self, upstream: ScriptedUpstream, *, agent: str) -> None:
        self.config.write_text(
            f"server: {{port: {self.port}}}\n{agent}\n"
            f"providers:\n  team:\n    base_url: {upstream.base_url}\n    api_key: sk-secret-of-the-team\n"
            "    models: [{id: coder, quality: 0.8, context_window: 131072, tools: true}]\n"
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "agent_service", *words, "--config", str(self.config)]

    def call(
        self, *words: str, stdin: str | None = None, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The finished command; `stdin` None = there is nobody to ask."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            cwd=self.project,
            env={**self.environ, **(environ or {})},
            timeout=PATIENCE,
            check=False,
            **given,
        )

    def serve(self, *words: str) -> subprocess.Popen[str]:
        """A service that has said that it is ready."""
        process = subprocess.Popen(
            self.command("serve", *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.project,
            env=self.environ,
        )
        self.serving.append(process)
        assert process.stdout is not None
        assert "is ready at http://127.0.0.1:" in process.stdout.readline()
        return process

    def waiting_thread(self) -> dict[str, str]:
        """A thread left with its question open, as JSON."""
        left = self.call("run", "Greet someone", "--json")
        assert left.returncode == 3, left.stderr
        response: dict[str, str] = json.loads(left.stdout)
        return response


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Desk]:
    desk = Desk(tmp_path, upstream)
    yield desk
    for process in desk.serving:
        process.kill()
        process.communicate()


class Screen:
    """A command on a terminal of its own."""

    def __init__(self, command: list[str], cwd: Path, environ: Mapping[str, str]) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests may ignore it
            os.chdir(cwd)
            os.execve(command[0], command, dict(environ))
        self.raw = ""

    @property
    def text(self) -> str:
        """What was written, without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw).replace("\r\n", "\n")

    def until(self, words: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            self._read()
        return self.text

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def press_until(self, key: str, words: str) -> None:
        """Press, and once more if nothing happens, as a person would: a signal that comes between the
        prompt and readline's wait for input is only noticed with the next one."""
        for _ in range(int(PATIENCE)):
            self.type(key)
            if select.select([self._terminal], [], [], 1)[0]:
                self.until(words)
                return
        raise AssertionError(f"pressing did nothing: {self.text}")

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], PATIENCE)[0]:
            raise AssertionError(f"nothing more came after: {self.text}")
        try:
            chunk = os.read(self._terminal, 65536)
        except OSError:  # EIO: the other side has closed it
            return False
        self.raw += chunk.decode("utf-8", "replace")
        return bool(chunk)


def test_a_piped_answer_leads_to_the_changed_file_in_plain_text(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    upstream.then(*TASK)
    done = desk.call("run", "Greet someone", stdin="1\n")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "Question: Which name?\n  1) Orion\n  2) Vega\nAnswer: Orion\n" in done.stdout
    assert "edit_file(greet.py)  +1 -1\n" in done.stdout
    assert done.stdout.endswith("\n" + DIFF)
    assert (desk.project / "greet.py").read_text() == 'print("Hello, Orion!")\n'
    assert upstream.refusals == []


def test_json_goes_to_standard_output_alone(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(*TASK)
    done = desk.call("run", "Greet someone", "--json", stdin="Orion\n")
    response = json.loads(done.stdout)
    assert response["agent_status"] == "completed"
    assert response["files_changed"][0]["path"] == "greet.py"
    assert "edit_file(greet.py)" in done.stderr


def test_without_anybody_to_ask_the_thread_waits_and_is_answered_by_the_command_shown(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    upstream.then(*TASK)
    left = desk.call("run", "Greet someone")
    assert left.returncode == 3
    shown = re.search(r'with: .+ threads answer (\S+) (\S+) "ANSWER" --config (\S+)', left.stdout)
    assert shown is not None, left.stdout
    thread_id, call_id, config = shown.groups()
    assert config == str(desk.config)
    assert "waits for an answer" in desk.call("threads", "list").stdout
    assert "Which name?" in desk.call("threads", "show", thread_id).stdout
    done = desk.call("threads", "answer", thread_id, call_id, "Orion")
    assert done.returncode == 0, done.stderr
    assert desk.call("threads", "diff", thread_id).stdout == DIFF
    again = desk.call("threads", "answer", thread_id, "Orion")
    assert (again.returncode, again.stderr) == (1, "agent-service: the thread does not wait for an answer\n")


def test_yes_answers_approvals_and_leaves_questions_open(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.configure(upstream, agent="agent: {approvals: {edit_file: ask}}")
    upstream.then(EDIT, *TASK[:1])
    done = desk.call("run", "Greet someone", "--yes", "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["human_input_request"]["kind"] == "question"
    assert "Orion" in (desk.project / "greet.py").read_text()


def test_a_thread_is_continued_in_its_own_project(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then("First.", "Second.")
    first = json.loads(desk.call("run", "One", "--json").stdout)
    second = desk.call("run", "Two", "--json", "--thread", first["thread_id"])
    assert json.loads(second.stdout)["thread_id"] == first["thread_id"]
    assert len(upstream.bodies[1]["messages"]) > len(upstream.bodies[0]["messages"])


def test_a_person_is_shown_the_question_and_picks_an_option(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(*TASK)
    screen = Screen(desk.command("run", "Greet someone"), desk.project, desk.environ)
    screen.until("your own words")
    assert "╭─ Question" in screen.text
    screen.type("1\n")
    assert screen.end() == 0
    assert "✓ Done" in screen.text
    assert "\x1b[32m+print" in screen.raw
    assert (desk.project / "greet.py").read_text() == 'print("Hello, Orion!")\n'


def test_no_color_is_respected(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(EDIT, "Done.")
    screen = Screen(desk.command("run", "Greet Orion"), desk.project, {**desk.environ, "NO_COLOR": "1"})
    assert screen.end() == 0
    assert not re.search(r"\x1b\[(\d+;)*3\d", screen.raw)


def test_what_a_model_writes_cannot_command_the_terminal(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then("safe \x1b]0;owned\x07\x1b[2J text")
    screen = Screen(desk.command("run", "Say something"), desk.project, desk.environ)
    assert screen.end() == 0
    assert "owned" in screen.raw
    assert "\x1b]0;" not in screen.raw
    assert "\x1b[2J" not in screen.raw


def test_ctrl_c_at_the_prompt_leaves_the_question_open(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(*TASK)
    screen = Screen(desk.command("run", "Greet someone"), desk.project, desk.environ)
    screen.until("your own words")
    screen.press_until("\x03", "threads answer")
    assert screen.end() == 3


def test_ctrl_c_during_a_run_cancels_it(desk: Desk, upstream: ScriptedUpstream) -> None:
    held = threading.Event()
    upstream.then(wait(held))
    screen = Screen(desk.command("run", "Take long"), desk.project, desk.environ)
    screen.until("working")
    wait_until(lambda: upstream.requests, PATIENCE)
    screen.type("\x03")
    screen.until("■ Cancelled")
    held.set()
    assert screen.end() == 130
    assert "Failed" not in screen.text
    assert "connection" not in screen.text


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
    client = subprocess.Popen(
        desk.command("run", "Look around"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=desk.project,
        env=desk.environ,
    )
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
    client = subprocess.Popen(
        desk.command("run", "Look around"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=desk.project,
        env=desk.environ,
    )
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


def test_a_taken_port_is_told_plainly(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", desk.port)):
        other = desk.call("serve")
    assert other.returncode == 1
    assert other.stderr.startswith(
        f"agent-service: cannot listen on 127.0.0.1 port {desk.port}: Address already"
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
    import sqlite3

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


def test_the_demo_answers_for_those_who_cannot(
    desk: Desk, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.then(
        QUESTION,
        calls(("write_file", {"filepath": "greet.py", "content": 'print("Hello, Orion!")\n'})),
        "Done.",
    )
    done = desk.call("demo", environ={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "answering 'Hello, Orion!' for you" in done.stdout
    assert DIFF in done.stdout
    assert "What to do next" in done.stdout
    assert "The model    team/coder" in done.stdout


def test_a_demo_that_fails_says_what_to_try(desk: Desk, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.then(QUESTION, status(400))
    failed = desk.call("demo", environ={"TMPDIR": str(tmp_path)})
    assert failed.returncode == 1, failed.stdout
    assert "What to do next" not in failed.stdout
    assert "doctor --config" in failed.stdout


def test_doctor_says_what_works_and_never_a_key(desk: Desk, upstream: ScriptedUpstream) -> None:
    healthy = desk.call("doctor")
    assert healthy.returncode == 0, healthy.stdout
    assert "✓ team           key set, 1 models" in healthy.stdout
    assert "sk-secret" not in healthy.stdout + healthy.stderr
    report = json.loads(desk.call("doctor", "--json").stdout)
    assert report["healthy"] is True


def test_doctor_fails_without_any_model(desk: Desk) -> None:
    desk.config.write_text("router: {detect_local: false}")
    broken = desk.call("doctor", "--json")
    assert broken.returncode == 1
    found = {check["name"]: check["state"] for check in json.loads(broken.stdout)["checks"]}
    assert found["models"] == "broken"


def test_models_are_ranked_with_reasons(desk: Desk) -> None:
    shown = desk.call("models", "--why", "fix a bug")
    assert "team/coder" in shown.stdout
    assert "the only one" in shown.stdout
    assert "price: US dollars" in desk.call("models").stdout
    rows = json.loads(desk.call("models", "--json").stdout)
    assert [row["model"] for row in rows] == ["coder"]


def test_the_demo_without_a_model_names_the_other_ways_and_downloads_nothing(
    desk: Desk, tmp_path: Path
) -> None:
    desk.config.write_text("router: {detect_local: false}")
    declined = desk.call("demo")
    assert "GROQ_API_KEY" in declined.stdout
    assert not (tmp_path / "data" / "agent-service" / "models").exists()
    assert declined.returncode == (0 if engine_available() else 1)


def test_no_model_at_all_is_told_with_the_ways_out(desk: Desk) -> None:
    desk.config.write_text("router: {detect_local: false}")
    for words in (("models",), ("run", "Anything")):
        refused = desk.call(*words)
        assert refused.returncode == 1
        assert "local install" in refused.stderr
        assert "\n  (2) start a model server" in refused.stderr


def test_threads_are_named_by_the_beginning_of_their_id(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(QUESTION)
    thread_id = desk.waiting_thread()["thread_id"]
    assert thread_id in desk.call("threads", "list").stdout
    narrow = {**desk.environ, "COLUMNS": "60"}
    screen = Screen(desk.command("threads", "list"), desk.project, narrow)
    assert screen.end() == 0
    assert thread_id[:8] in screen.text
    assert thread_id not in screen.text
    assert "waits for an answer" in screen.text
    assert "Which name?" in desk.call("threads", "show", thread_id[:4]).stdout
    assert desk.call("threads", "cancel", thread_id[:8]).stdout == "The question was withdrawn.\n"
    assert desk.call("threads", "cancel", thread_id[:8]).stdout == "There was nothing to cancel.\n"
    assert desk.call("threads", "delete", thread_id[:8]).returncode == 1
    assert desk.call("threads", "delete", thread_id[:8], "--yes").returncode == 0
    assert desk.call("threads", "show", thread_id).returncode == 2


def test_a_thread_is_taken_back_and_forked(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(EDIT, "Done.", QUESTION)
    thread_id = json.loads(desk.call("run", "Greet Orion", "--json").stdout)["thread_id"]
    shown = desk.call("threads", "history", thread_id)
    assert "edit_file(greet.py)" in shown.stdout
    found = json.loads(desk.call("threads", "history", thread_id, "--json").stdout)["checkpoints"]
    first = next(each["checkpoint_id"] for each in found if each["messages"] == 1)
    assert first in shown.stdout
    assert desk.call("threads", "rewind", thread_id, "no-such").returncode == 2
    refused = desk.call("threads", "rewind", thread_id, first, "--files")
    assert (refused.returncode, "Nothing was changed" in refused.stdout) == (1, True)
    forked = desk.call("threads", "fork", thread_id, "--at", first)
    fork_id = forked.stdout.splitlines()[0].split()[-1]
    assert f"--thread {fork_id}" in forked.stdout
    assert desk.call("run", "Ask now", "--thread", fork_id).returncode == 3
    again = desk.call("threads", "fork", fork_id)
    assert "Which name?" in again.stdout
    waits = json.loads(desk.call("threads", "history", fork_id, "--json").stdout)["checkpoints"][0]
    asked = desk.call("threads", "rewind", fork_id, waits["checkpoint_id"])
    assert "The question that was open is withdrawn." in asked.stdout
    assert "not asked again by itself" in asked.stdout
    back = desk.call("threads", "rewind", thread_id, first, "--files", "--yes")
    assert back.returncode == 0, back.stderr
    assert "restored  greet.py" in back.stdout
    assert (desk.project / "greet.py").read_text() == 'print("Hello, World!")\n'


def test_a_rewind_names_what_it_left_alone(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then(EDIT, "Done.")
    thread_id = json.loads(desk.call("run", "Greet Orion", "--json").stdout)["thread_id"]
    found = json.loads(desk.call("threads", "history", thread_id, "--json").stdout)["checkpoints"]
    (desk.project / "greet.py").write_text("mine\n")
    back = desk.call("threads", "rewind", thread_id, found[-1]["checkpoint_id"], "--files", "--yes")
    assert "kept      greet.py  changed since by somebody else" in back.stdout
    assert (desk.project / "greet.py").read_text() == "mine\n"


def test_finished_threads_are_cleared_away(desk: Desk, upstream: ScriptedUpstream) -> None:
    upstream.then("Done.", "Done.", QUESTION)
    desk.call("run", "One")
    desk.call("run", "Two")
    desk.waiting_thread()
    assert desk.call("threads", "prune").returncode == 2
    assert desk.call("threads", "prune", "--delete").returncode == 2
    assert desk.call("threads", "prune", "--keep", "2").stdout == "4 checkpoints of 2 threads deleted.\n"
    old = ("threads", "prune", "--delete", "--older-than", "0")
    assert desk.call(*old).returncode == 1
    assert desk.call(*old, "--yes").stdout == "2 threads deleted.\n"
    assert "waits for an answer" in desk.call("threads", "list").stdout


def test_what_cannot_be_is_wrong_usage_and_told_to_programs_too(desk: Desk) -> None:
    for words in (("run", " "), ("run", "x", "--thread", "a b"), ("run", "x", "--project", "/")):
        refused = desk.call(*words, "--json")
        assert refused.returncode == 2, refused.stderr
        error = json.loads(refused.stdout)["error"]
        assert error["message"].splitlines()[0] in refused.stderr
        assert error["code"]


def test_a_named_data_folder_is_not_that_of_a_running_service(
    desk: Desk, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.then("Done.")
    desk.serve()
    done = desk.call("run", "Anything", "--data-dir", str(tmp_path / "other"))
    assert done.returncode == 0, done.stderr
    assert "is not used" in done.stderr
    assert "no threads" in desk.call("threads", "list").stdout


def test_an_approval_is_answered_later_with_yes(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.configure(upstream, agent="agent: {approvals: {edit_file: ask}}")
    upstream.then(EDIT)
    left = desk.call("run", "Greet someone")
    assert left.returncode == 3
    assert re.search(r"threads answer \S+ \S+ YES_OR_NO --config \S+", left.stdout)


def test_doctor_names_what_is_in_the_way(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.configure(upstream, agent="agent: {tools: ['no_such_module:tool']}")
    with socket.create_server(("127.0.0.1", desk.port)):
        broken = desk.call("doctor", "--data-dir", "/proc/agent")
    assert broken.returncode == 1
    marks = {line.split("  ")[0] for line in broken.stdout.splitlines() if line.startswith("✗")}
    assert marks == {"✗ data folder", "✗ tools", "✗ address"}
    assert f"--port {desk.port + 1}" in broken.stdout
