"""One piece of work for the service, done while the service is killed and started again.

A read, a question, an edit that wants approval, two effects side by side, a last word. The model decides
from the history alone, as a real one does, so a history that lost or doubled something leads it astray.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.deployment import Deployment, Down
from tests.e2e.mortal import Fault
from tests.upstream import ScriptedUpstream, Step, calls

SECTIONS: dict[str, Any] = {
    "agent": {
        "tools": ["tests.e2e.mortal:append_line"],
        "approvals": {"edit_file": "ask", "append_line": "auto"},
    }
}
"""What the work needs of the configuration."""
EDITED, MADE = "log.txt", "new/made.txt"
FILES = {EDITED: b"log\n- Orion\n", MADE: b"made\n"}
"""What the work makes of the project."""
ANSWERS = {"ask_1": "Orion", "edit_1": "yes"}
"""The human's, by question."""
HISTORY = (
    *("user", "assistant read_1", "tool read_1", "assistant ask_1", "tool ask_1", "assistant edit_1"),
    *("tool edit_1", "assistant write_1 append_1", "tool write_1", "tool append_1", "assistant"),
)
"""Who spoke, and about which calls."""
EVENTS = Counter(
    {
        **dict.fromkeys(("run.started", "run.finished"), 3),
        "message": 2,
        **{f"question.{what} {call}": 1 for what in ("opened", "answered") for call in ANSWERS},
        **{
            f"tool.{what} {call}": 1
            for what in ("started", "finished")
            for call in ("read_1", "ask_1", "edit_1", "write_1", "append_1")
        },
    }
)
"""What is told to whoever follows the thread, with the call it is about, and how often."""
_EDIT = {"filepath": EDITED, "old_text": "log\n", "new_text": "log\n- Orion\n"}  # done twice it shows twice
_TURNS: Mapping[int, Step | str] = {
    0: calls(("read_file", {"filepath": "notes.txt"}, "read_1")),
    1: calls(("ask_human_for_input", {"question": "Which name?"}, "ask_1")),
    2: calls(("edit_file", _EDIT, "edit_1"), text="I add the name."),
    3: calls(
        ("write_file", {"filepath": MADE, "content": "made\n"}, "write_1"),
        ("append_line", {"line": "Orion"}, "append_1"),
    ),
    5: "All done.",
}
"""What the model says next, by how many of its calls were answered."""
MODEL_CALLS = len(_TURNS)
_CASE_SECONDS = 30.0
_POLL_SECONDS = 0.01


def next_step(body: dict[str, Any]) -> Step | str:
    """The model, for `ScriptedUpstream(otherwise=...)`."""
    return _TURNS[sum(message["role"] == "tool" for message in body["messages"])]


@dataclass(frozen=True, slots=True)
class Intrusion:
    """Somebody else writes a file while the service is down."""

    path: str
    content: bytes
    refused: str
    """The call that must leave the file alone, and whose answer must say so."""


@dataclass(frozen=True, slots=True)
class Served:
    """A request and its response."""

    path: str
    body: dict[str, Any]
    key: str
    response: dict[str, Any]


class Case:
    """The work on a thread and in a folder of its own, by a client that repeats what was not answered."""

    def __init__(
        self,
        deployment: Deployment,
        upstream: ScriptedUpstream,
        project: Path,
        *,
        kills: Iterable[float] = (),
        intrusion: Intrusion | None = None,
    ) -> None:
        """`kills`: when to kill, in seconds from the beginning and then from each start after a death."""
        self.deployment, self.upstream, self.project = deployment, upstream, project
        self.intrusion = intrusion
        self.thread_id = project.name
        self.served: list[Served] = []
        self.deaths = 0
        self.seconds = 0.0
        """From the last death, or the beginning, to the end."""
        self.left: set[tuple[str, int, bytes]] = set()
        """Path, inode and content of the files that a death, or an intrusion after it, left."""
        self._kills = iter(kills)
        self._faults: Iterator[Fault] = iter(())
        self._timer: threading.Timer | None = None
        self._since = self._end = 0.0

    def run(self, *faults: Fault) -> None:
        """Do the work, dying at each fault in turn. Raises AssertionError when it comes to no end."""
        self.project.mkdir()
        (self.project / "notes.txt").write_text("No name is decided yet.\n")
        (self.project / EDITED).write_text("log\n")
        self._since = time.monotonic()
        self._end = self._since + _CASE_SECONDS
        self._faults = iter(faults)
        try:
            self._arm()
            self._converse()
        finally:
            self.deployment.moments.disarm()
            self._kills = iter(())
            if self._stop_timer():  # the work was done before its moment came
                self.deployment.kill()
        if self.deployment.has_died():
            self._start_again()

    def send(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        """The response to the request, which is repeated as it is until it is served."""
        while True:
            assert time.monotonic() < self._end, f"no response to {body} in {_CASE_SECONDS:g} s"
            if self.deployment.has_died():
                self._start_again()
            try:
                response = self.deployment.post(path, body, key)
            except Down:
                continue
            if response.status_code == 200:
                served: dict[str, Any] = response.json()
                return served
            assert response.status_code == 409, response.text
            assert response.json()["error"]["code"] == "thread_busy", response.text
            time.sleep(_POLL_SECONDS)

    def _converse(self) -> None:
        go = {"instruction": f"Go on with {self.thread_id}.", "project_directory": str(self.project)}
        response = self._ask("/v1/agents/code/invoke", go)
        while response["agent_status"] == "requires_human_input":
            asked = response["human_input_request"]["tool_call_id"]
            answer = {"tool_call_id": asked, "human_response": ANSWERS[asked]}
            response = self._ask("/v1/agents/resume", answer)
        self.seconds = time.monotonic() - self._since

    def _ask(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        body, key = {"thread_id": self.thread_id, **fields}, f"{self.thread_id}.{len(self.served)}"
        self.served.append(Served(path, body, key, self.send(path, body, key)))
        return self.served[-1].response

    def _start_again(self) -> None:
        self.deaths += 1
        self._since = time.monotonic()
        self._stop_timer()
        if self.intrusion is not None and self.deaths == 1:
            file = self.project / self.intrusion.path
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(self.intrusion.content)
        for path, inode, content in files_in(self.project):
            self.left.add((path, inode, content))
        self.deployment.moments.disarm()
        self._arm()
        self.deployment.start()

    def _arm(self) -> None:
        """See to the next death."""
        fault = next(self._faults, None)
        if fault is not None:
            self.deployment.moments.arm(fault)
        delay = next(self._kills, None)
        if delay is not None:
            self._timer = threading.Timer(delay, self.deployment.kill)
            self._timer.start()

    def _stop_timer(self) -> bool:
        """Whether it was still to go off."""
        timer, self._timer = self._timer, None
        if timer is None:
            return False
        pending = timer.is_alive()
        timer.cancel()
        timer.join()
        return pending


def files_in(project: Path) -> list[tuple[str, int, bytes]]:
    """Path, inode and content of each file below the folder."""
    files = sorted(path for path in project.rglob("*") if path.is_file())
    return [(str(file.relative_to(project)), file.stat().st_ino, file.read_bytes()) for file in files]
