"""`kill -9` in the middle of a rewind: whoever comes next brings it to its end, and nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from checkpoints.graph_tables import checkpoints
from checkpoints.tables import effects
from tests.e2e.deployment import Deployment, Down
from tests.e2e.mortal import Fault
from tests.upstream import ScriptedUpstream, Step, calls

EDIT = {"filepath": "edited.txt", "old_text": "old", "new_text": "new"}
WRITE = {"filepath": "made.txt", "content": "made\n"}
POINTS = [
    *(Fault("run.claimed", 1), Fault("checkpoint.stored", 1)),
    *(Fault("effect.intended", number) for number in (1, 2)),
    *(Fault("file.prepared", 1), Fault("file.swapped", 1)),
    *(Fault("effect.done", number) for number in (1, 2)),
    Fault("run.settled", 1),
]
_SECONDS = 30.0


def model(body: dict[str, Any]) -> Step | str:
    """Changes two files at the first instruction."""
    if any(message["role"] == "assistant" for message in body["messages"]):
        return "ok"
    return calls(("edit_file", EDIT, "call_1"), ("write_file", WRITE, "call_2"))


class Case:
    """A thread that changed two files in a folder of its own."""

    def __init__(self, deployment: Deployment, project: Path) -> None:
        self.deployment, self.thread_id, self.project = deployment, project.name, project
        self.deaths = 0
        project.mkdir()
        (project / "edited.txt").write_text("old\n")
        body = {"instruction": "go", "project_directory": str(project), "thread_id": self.thread_id}
        assert self.send("/v1/agents/code/invoke", body)["agent_status"] == "completed"

    def send(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The response to the request, which is repeated as it is until it is served."""
        end = time.monotonic() + _SECONDS
        key = f"{self.thread_id} {path} {body}"
        while time.monotonic() < end:
            if self.deployment.has_died():
                self.deaths += 1
                self.deployment.moments.disarm()
                self.deployment.start()
            try:
                response = self.deployment.post(path, body, key)
            except Down:
                continue
            if response.status_code == 200:
                served: dict[str, Any] = response.json()
                return served
            assert response.json()["error"]["code"] == "thread_busy", response.text
            time.sleep(0.02)
        raise AssertionError(f"no response to {body} in {_SECONDS:g} s")

    def rewind(self, fault: Fault) -> dict[str, Any]:
        """Take the thread back to its beginning, dying at the fault."""
        path = f"/v1/agents/threads/{self.thread_id}"
        found = self.deployment.get(f"{path}/history")["checkpoints"]
        first = next(each["checkpoint_id"] for each in found if each["messages"] == 1)
        self.deployment.moments.arm(fault)
        try:
            return self.send(f"{path}/rewind", {"checkpoint_id": first, "files": True})
        finally:
            self.deployment.moments.disarm()


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(otherwise=model) as server:
        yield server


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("rewinds"), upstream) as service:
        yield service


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return count()


@pytest.mark.parametrize("fault", POINTS, ids=lambda fault: f"{fault.point}-{fault.occurrence}")
def test_killed_in_a_rewind(
    deployment: Deployment, upstream: ScriptedUpstream, tmp_path: Path, numbers: Iterator[int], fault: Fault
) -> None:
    case = Case(deployment, tmp_path / f"case-{next(numbers):04}")
    back = case.rewind(fault)
    assert case.deaths == 1
    assert (sorted(back["restored"]), back["kept"]) == (["edited.txt", "made.txt"], [])
    assert [(file.name, file.read_text()) for file in case.project.iterdir()] == [("edited.txt", "old\n")]
    of_thread = checkpoints.c.thread_id == case.thread_id
    made = deployment.rows(select(checkpoints).where(of_thread, checkpoints.c.run_id == back["run_id"]))
    assert len(made) == 1
    journaled = deployment.rows(
        select(effects).where(effects.c.thread_id == case.thread_id).order_by(effects.c.seq)
    )
    assert [each.state for each in journaled] == ["done"] * 4
    assert deployment.get(f"/v1/agents/threads/{case.thread_id}/diff")["diff"] == ""
    on = case.send("/v1/agents/code/invoke", {"instruction": "on", "thread_id": case.thread_id})
    assert on["agent_status"] == "completed"
    assert upstream.refusals == []
