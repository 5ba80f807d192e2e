"""A hostile model and a hostile repository against the file tools, through the whole service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.service import RunningService
from tests.upstream import ScriptedUpstream, calls

SECRET = "the-secret-that-must-not-leave"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "s.txt").write_text(SECRET)
    return folder


def one_call(tmp_path: Path, project: Path, name: str, arguments: dict[str, Any]) -> str:
    """The answer to a single tool call; the run completes whatever it is."""
    with (
        ScriptedUpstream([calls((name, arguments)), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        response = service.invoke(project_directory=str(project))
        assert response.json()["agent_status"] == "completed"
        sent = str(upstream.bodies)
        assert SECRET not in sent
        assert SECRET not in response.text
        answer: str = upstream.bodies[-1]["messages"][-1]["content"]
        assert str(tmp_path) not in answer
        assert "Traceback" not in answer
        return answer


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


READS = ["../outside/s.txt", "/etc/passwd", "~/s.txt", "a\0b", "", ".", "x" * 300, "sub/../../outside/s.txt"]


@pytest.mark.parametrize("filepath", READS)
def test_reads_stay_inside(tmp_path: Path, project: Path, outside: Path, filepath: str) -> None:
    assert one_call(tmp_path, project, "read_file", {"filepath": filepath}).startswith("Error:")


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path: Path, project: Path) -> None:
    sibling = tmp_path / "project-evil"
    sibling.mkdir()
    (sibling / "s.txt").write_text(SECRET)
    for path in (str(sibling / "s.txt"), "../project-evil/s.txt"):
        answer = one_call(tmp_path, project, "read_file", {"filepath": path})
        assert answer.startswith("Error:")


@pytest.mark.parametrize("filepath", ["l/x", "l/s.txt", "dangling", "to-file"])
def test_links_are_not_written_through(tmp_path: Path, project: Path, outside: Path, filepath: str) -> None:
    (project / "l").symlink_to(outside)
    (project / "dangling").symlink_to(outside / "new.txt")
    (project / "to-file").symlink_to(outside / "s.txt")
    before = contents(outside)
    answer = one_call(tmp_path, project, "write_file", {"filepath": filepath, "content": "x"})
    assert answer.startswith("Error:")
    assert contents(outside) == before


def test_a_planted_temporary_link_and_a_hard_link_are_harmless(
    tmp_path: Path, project: Path, outside: Path
) -> None:
    (project / "t.txt.tmp").symlink_to(outside / "s.txt")
    os.link(outside / "s.txt", project / "hard.txt")
    for name in ("t.txt", "hard.txt"):
        one_call(tmp_path, project, "write_file", {"filepath": name, "content": "x"})
    assert contents(outside) == {"s.txt": SECRET.encode()}
    assert (project / "t.txt").read_text() == "x"


PROTECTED = [
    ".git/hooks/pre-commit",
    "sub/../.git/config",
    "docs/config",
    ".GIT/hooks/x",
    ".git./hooks/x",
    ".g\u200cit/hooks/x",
    "sub/.git/config",
    ".vscode/tasks.json",
    ".envrc",
    ".env",
    ".github/workflows/ci.yml",
]


@pytest.mark.parametrize("filepath", PROTECTED)
def test_protected_paths_are_not_written(tmp_path: Path, project: Path, filepath: str) -> None:
    (project / ".git").mkdir()
    (project / ".git" / "config").write_text("[core]\n")
    (project / "docs").symlink_to(project / ".git")
    (project / "sub").mkdir()
    before = contents(project)
    answer = one_call(tmp_path, project, "write_file", {"filepath": filepath, "content": "x"})
    assert answer.startswith("Error:")
    assert contents(project) == before


def test_special_and_large_files_are_refused_at_once(tmp_path: Path, project: Path) -> None:
    os.mkfifo(project / "pipe")
    with (project / "sparse").open("wb") as file:
        file.truncate(8 << 30)
    for name, arguments in [
        ("read_file", {"filepath": "pipe"}),
        ("write_file", {"filepath": "pipe", "content": "x"}),
        ("read_file", {"filepath": "sparse"}),
    ]:
        answer = one_call(tmp_path, project, name, arguments)
        assert answer.startswith("Error:")
    assert "MiB" in answer


def test_too_much_content_is_refused_and_leaves_nothing(tmp_path: Path, project: Path) -> None:
    answer = one_call(tmp_path, project, "write_file", {"filepath": "big", "content": "x" * 24_000_000})
    assert answer.startswith("Error:")
    assert "5 MiB" in answer or "5,242,880" in answer
    assert list(project.iterdir()) == []


def test_bytes_and_mode_are_kept(tmp_path: Path, project: Path) -> None:
    script = project / "run.sh"
    script.write_text("old")
    script.chmod(0o755)
    one_call(tmp_path, project, "write_file", {"filepath": "run.sh", "content": "a\r\nb\n"})
    assert script.read_bytes() == b"a\r\nb\n"
    assert script.stat().st_mode & 0o777 == 0o755


def test_without_a_project_there_are_no_files(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([calls(("read_file", {"filepath": "a.txt"})), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        assert service.invoke().json()["agent_status"] == "completed"
        assert "no project folder" in upstream.bodies[-1]["messages"][-1]["content"]


def test_unfit_project_folders_are_refused_by_name(tmp_path: Path, project: Path) -> None:
    (tmp_path / "file").write_text("x")
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        unfit = ["/", "/etc", str(service.data / "agent-service"), str(service.data), str(tmp_path / "file")]
        unfit += [str(tmp_path / "missing"), "relative", "/tmp/a\0b", str(tmp_path), ""]
        for folder in unfit:
            refused = service.invoke(project_directory=folder)
            assert refused.status_code == 422, folder
            assert refused.json()["error"]["param"] == "project_directory", folder
        assert upstream.requests == []


def test_a_thread_keeps_its_project(tmp_path: Path, project: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with ScriptedUpstream(["ok", "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id="thread-01")
        refused = service.invoke(project_directory=str(other), thread_id="thread-01")
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "project_directory")
        assert service.invoke(thread_id="thread-01").json()["agent_status"] == "completed"
        assert "read_file" in str(upstream.bodies[-1]["tools"])
