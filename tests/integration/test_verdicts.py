"""What the router learns of the agent's changes when the user comes back: kept, discarded, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_service.data_dir import STATE_FILE
from agent_service.ledger.lessons import LessonShelf
from checkpoints.opening import open_database
from checkpoints.router_memory import RouterMemory
from tests.service import RunningService
from tests.upstream import ScriptedUpstream, ScriptItem, calls

THREAD = "thread-01"
VALID, KEPT, DISCARDED = 0.15, 0.5, 0.5
"""What a valid call and a change that was kept or discarded weigh."""


def write(content: str, call_id: str = "w1") -> ScriptItem:
    return calls(("write_file", {"filepath": "a.py", "content": content}, call_id))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def learned(home: Path, provider: str = "up1") -> tuple[float, float]:
    """The good and bad evidence that is stored about a model, once the service is closed."""

    async def load() -> tuple[float, float]:
        async with open_database(home / "data/agent-service" / STATE_FILE) as database:
            lessons = await LessonShelf(RouterMemory(database)).load()
            [found] = [each.evidence["tools"] for each in lessons if each.provider == provider]
            return found.good, found.bad

    return asyncio.run(load())


def approximately(good: float = 0.0, bad: float = 0.0) -> Any:
    """That evidence, a little faded."""
    return pytest.approx((good, bad), abs=0.01)


def judged(
    tmp_path: Path, project: Path, meanwhile: Callable[[Path], object], before: str | None
) -> tuple[float, float]:
    """A turn that writes a file, what somebody does to it meanwhile, and two turns more."""
    file = project / "a.py"
    if before is not None:
        file.write_text(before)
    with (
        ScriptedUpstream([write("one\ntwo\n"), "done", "hello", "again"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke(project_directory=str(project), thread_id=THREAD)
        meanwhile(file)
        for _ in range(2):  # it counts once
            assert service.invoke("hello", thread_id=THREAD).json()["agent_status"] == "completed"
        assert upstream.refusals == []
    return learned(tmp_path)


@pytest.mark.parametrize("before", [None, "old\n"])
def test_a_change_that_still_stands_was_kept(tmp_path: Path, project: Path, before: str | None) -> None:
    found = judged(tmp_path, project, lambda file: None, before)
    assert found == approximately(good=VALID + KEPT)


@pytest.mark.parametrize("before", [None, "old\n"])
def test_a_change_that_was_taken_back_was_discarded(
    tmp_path: Path, project: Path, before: str | None
) -> None:
    def take_back(file: Path) -> None:
        file.unlink() if before is None else file.write_text(before)

    found = judged(tmp_path, project, take_back, before)
    assert found == approximately(good=VALID, bad=DISCARDED)


def test_a_change_that_somebody_built_upon_was_kept(tmp_path: Path, project: Path) -> None:
    found = judged(tmp_path, project, lambda file: file.write_text("zero\none\ntwo\nthree\n"), "old\n")
    assert found == approximately(good=VALID + KEPT)


@pytest.mark.parametrize("content", ["one\n", "quite another\n"])
def test_what_was_made_into_something_else_tells_nothing(tmp_path: Path, project: Path, content: str) -> None:
    found = judged(tmp_path, project, lambda file: file.write_text(content), "old\n")
    assert found == approximately(good=VALID)


def test_it_counts_once_over_a_restart_and_a_rewind_of_the_conversation(
    tmp_path: Path, project: Path
) -> None:
    with ScriptedUpstream([write("one\n"), "done"], otherwise="hello") as upstream:
        for _ in range(3):
            with RunningService(tmp_path, upstream) as service:
                service.invoke(project_directory=str(project), thread_id=THREAD)
                service.invoke("hello", thread_id=THREAD)
                page = service.client.get(f"/v1/agents/threads/{THREAD}/history").json()
                name = page["checkpoints"][0]["checkpoint_id"]
                service.client.post(f"/v1/agents/threads/{THREAD}/rewind", json={"checkpoint_id": name})
    found = learned(tmp_path)
    assert found == approximately(good=VALID + KEPT)


def test_a_rewind_of_files_discards(tmp_path: Path, project: Path) -> None:
    (project / "a.py").write_text("old\n")
    with (
        ScriptedUpstream([write("one\n"), "done", "hello"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke(project_directory=str(project), thread_id=THREAD)
        page = service.client.get(f"/v1/agents/threads/{THREAD}/history").json()
        first = page["checkpoints"][-1]["checkpoint_id"]
        body = {"checkpoint_id": first, "files": True}
        response = service.client.post(f"/v1/agents/threads/{THREAD}/rewind", json=body)
        assert response.json()["restored"] == ["a.py"], response.text
        service.invoke("hello", thread_id=THREAD)
    found = learned(tmp_path)
    assert found == approximately(good=VALID, bad=DISCARDED)


def test_each_model_is_judged_by_its_own_changes(tmp_path: Path, project: Path) -> None:
    with (
        ScriptedUpstream([write("one\n"), "done"]) as first,
        ScriptedUpstream([write("two\n", "w2"), "done", "hello"]) as second,
        RunningService(tmp_path, first, second) as service,
    ):
        service.invoke(project_directory=str(project), thread_id=THREAD, provider="up1")
        service.invoke("again", thread_id=THREAD, provider="up2")
        (project / "a.py").write_text("one\n")
        service.invoke("hello", thread_id=THREAD, provider="up2")
        assert first.refusals == second.refusals == []
    assert learned(tmp_path, "up1") == approximately(good=VALID + KEPT)
    assert learned(tmp_path, "up2") == approximately(good=VALID, bad=DISCARDED)


def test_a_refused_proposal_was_discarded_once(tmp_path: Path, project: Path) -> None:
    with (
        ScriptedUpstream([write("one\n"), write("one\n", "w2"), "well", "hello"]) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {"write_file": "ask"}}) as service,
    ):
        asked = service.invoke(project_directory=str(project), thread_id=THREAD).json()
        service.resume(THREAD, asked["human_input_request"]["tool_call_id"], "no")
        service.invoke("hello", thread_id=THREAD)
        assert "refused this very thing before" in str(upstream.bodies[-1])
    assert learned(tmp_path) == approximately(bad=DISCARDED)
