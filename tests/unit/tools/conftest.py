"""A project with an outside that must never be seen, reached by each way the system offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.descriptors import FolderOpener, has_openat2, open_by_openat2, open_by_walk
from tools.human import HumanReply, HumanRequest
from tools.tool import ToolContext
from tools.workspace import Workspace

SECRET = b"the secret outside\n"


@dataclass(frozen=True)
class Ground:
    """A project folder and, beside it, a folder that nothing may touch."""

    project: Path
    outside: Path
    workspace: Workspace
    ctx: ToolContext

    def assert_untouched(self) -> None:
        """The outside holds what it held at first, and nothing more."""
        assert names(self.outside) == ["folder", "s.txt"]
        assert (self.outside / "s.txt").read_bytes() == SECRET
        assert names(self.outside / "folder") == []

    def temporaries(self) -> list[str]:
        """Left-over temporary files anywhere in the project."""
        return [str(path) for path in self.project.rglob(".agent-service-*")]


@pytest.fixture(params=[open_by_walk, open_by_openat2], ids=["walk", "openat2"])
def opener(request: pytest.FixtureRequest) -> FolderOpener:
    if request.param is open_by_openat2 and not has_openat2():
        pytest.skip("the kernel has no openat2")
    found: FolderOpener = request.param
    return found


@pytest.fixture
def ground(tmp_path: Path, opener: FolderOpener) -> Ground:
    return make_ground(tmp_path, opener)


def names(folder: Path) -> list[str]:
    """What is in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def make_ground(parent: Path, opener: FolderOpener) -> Ground:
    project, outside = parent / "project", parent / "outside"
    project.mkdir()
    (outside / "folder").mkdir(parents=True)
    (outside / "s.txt").write_bytes(SECRET)
    workspace = Workspace(project, opener=opener)
    return Ground(project, outside, workspace, ToolContext(workspace, ask=_never))


def _never(request: HumanRequest) -> HumanReply:
    raise AssertionError("file tools ask nothing")
