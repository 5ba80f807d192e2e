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
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.upstream import ScriptedUpstream, ScriptItem, calls

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds; only what fails takes so long, however busy the machine is."""
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
        self._serving: list[subprocess.Popen[str]] = []

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

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command under way."""
        return subprocess.Popen(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.project,
            env=self.environ,
        )

    def serve(self, *words: str) -> subprocess.Popen[str]:
        """A service that has said that it is ready."""
        process = self.start("serve", *words)
        self._serving.append(process)
        assert process.stdout is not None
        assert "is ready at http://127.0.0.1:" in process.stdout.readline()
        return process

    def waiting_thread(self) -> dict[str, str]:
        """A thread left with its question open, as JSON."""
        left = self.call("run", "Greet someone", "--json")
        assert left.returncode == 3, left.stderr
        response: dict[str, str] = json.loads(left.stdout)
        return response

    def leave(self) -> None:
        """End what still serves."""
        for process in self._serving:
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

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Read until that is true: a command whose terminal nobody reads stops when it is full."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.text
            if select.select([self._terminal], [], [], 0.05)[0]:
                self._read()

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
