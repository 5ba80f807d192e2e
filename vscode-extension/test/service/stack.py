"""The real service and a scripted model behind it, told what to do by lines of JSON on standard input.

    {"do": "script", "steps": ["Done.", {"calls": [["read_file", {"filepath": "a.py"}]]}]}

Each line is answered by one line. The service is a process of its own, so that it can be killed and come
back on the same port and data. Its upstream answers what the script says, in order.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import TypeAdapter

from agent_service.events import AgentEvent
from tests.service import provider_row
from tests.upstream import ScriptedUpstream, ScriptItem, Step, calls, says, status, wait

START_SECONDS = 60


class Stack:
    """One service with one upstream; its files are below `home`, apart from the project that it works in."""

    def __init__(self, home: Path, sections: dict[str, Any]) -> None:
        self._home = home
        self._upstream = ScriptedUpstream().__enter__()
        self._held: dict[str, threading.Event] = {}
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        home.mkdir(parents=True, exist_ok=True)
        config = {
            "server": {"port": self._port},
            "router": {"detect_local": False, "num_retries": 0},
            "providers": {"scripted": provider_row(self._upstream)},
        }
        for name, section in sections.items():
            config[name] = {**config.get(name, {}), **section}
        (home / "config.yaml").write_text(yaml.safe_dump(config))
        self._process: subprocess.Popen[bytes] | None = None

    def address(self) -> str:
        """Where the service is, or will be."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the service and wait until it answers."""
        environ = {**os.environ, "HOME": str(self._home), "XDG_DATA_HOME": str(self._home / "data")}
        config = str(self._home / "config.yaml")
        command = [sys.executable, "-m", "agent_service", "serve", "--config", config]
        with (self._home / "service.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                httpx.get(self.address(), trust_env=False)
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError((self._home / "service.log").read_text())

    def kill(self) -> None:
        """End the service as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def script(self, steps: list[Any]) -> None:
        """What the model says next; steps that were left over are dropped."""
        for event in self._held.values():
            event.set()
        self._held.clear()
        self._upstream._steps.clear()  # a test that failed may have left some
        self._upstream.then(*(self._step(step) for step in steps))

    def release(self, name: str) -> None:
        """Let the step with that `hold` go on."""
        self._held[name].set()

    def requests(self) -> list[dict[str, Any]]:
        """What the model was sent, in order."""
        return self._upstream.bodies

    def event_schema(self) -> dict[str, Any]:
        """The events of a run, as JSON Schema."""
        return TypeAdapter(AgentEvent).json_schema(mode="serialization")

    def close(self) -> None:
        self.kill()
        self._upstream.__exit__(None, None, None)

    def _step(self, step: Any) -> ScriptItem:
        if isinstance(step, str):
            return says(step)
        made = self._made(step)
        if name := step.get("hold"):
            return wait(self._held.setdefault(name, threading.Event()), made)
        return made

    @staticmethod
    def _made(step: dict[str, Any]) -> Step:
        if "status" in step:
            return status(step["status"], step.get("message", ""))
        if "calls" in step:
            return calls(*((name, arguments) for name, arguments in step["calls"]), text=step.get("text"))
        return says(step["text"])


def main() -> None:
    """Serve commands until standard input ends."""
    home, sections = Path(sys.argv[1]), json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    stack = Stack(home, sections)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            try:
                answer = {"ok": getattr(stack, order.pop("do"))(**order)}
            except Exception as error:  # noqa: BLE001 - told to the test
                answer = {"error": repr(error)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        stack.close()


if __name__ == "__main__":
    main()
