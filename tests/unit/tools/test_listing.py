from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.tools.conftest import Ground
from tools.errors import ToolError
from tools.workspace import FileLimits, Workspace


def lines(workspace: Workspace, directory: str = "") -> list[str]:
    return [str(entry) for entry in workspace.list(directory).entries]


def test_each_folder_is_followed_by_its_content(ground: Ground) -> None:
    for path in ("src/b.py", "src/a/x.py", "src-old/y.py", "README.md"):
        (ground.project / path).parent.mkdir(parents=True, exist_ok=True)
        (ground.project / path).touch()
    assert lines(ground.workspace) == [
        "README.md", "src/", "src/a/", "src/a/x.py", "src/b.py", "src-old/", "src-old/y.py",
    ]  # fmt: skip
    assert lines(ground.workspace, "src") == lines(ground.workspace, "./src/") == [
        "src/a/", "src/a/x.py", "src/b.py",
    ]  # fmt: skip


def test_what_is_no_file_is_marked(ground: Ground) -> None:
    (ground.project / "l").symlink_to(ground.outside)
    os.mkfifo(ground.project / "pipe")
    for name in (".git", "node_modules", "sub/.git"):
        (ground.project / name).mkdir(parents=True)
        (ground.project / name / "inner").touch()
    (ground.project / "line\nbreak").touch()
    (ground.project / os.fsdecode(b"\xff")).touch()
    assert lines(ground.workspace) == [
        ".git/ (not listed)",
        "l (link, not followed)",
        "line\ufffdbreak",
        "node_modules/ (not listed)",
        "pipe (not a regular file)",
        "sub/",
        "sub/.git/ (not listed)",
        "\ufffd",
    ]
    assert lines(ground.workspace, "node_modules") == ["node_modules/inner"]


def test_the_cut_leaves_out_what_is_deepest(ground: Ground) -> None:
    for number in range(10):
        (ground.project / f"d{number}").mkdir()
        (ground.project / f"d{number}" / "f").touch()
    listing = Workspace(ground.project, limits=FileLimits(entries=12)).list()
    assert listing.truncated
    assert [str(entry) for entry in listing.entries][:3] == ["d0/", "d0/f", "d1/"]
    assert len(listing.entries) == 12
    assert not Workspace(ground.project, limits=FileLimits(entries=20)).list().truncated


def test_depth(ground: Ground) -> None:
    (ground.project / "/".join("d" * 60)).mkdir(parents=True)
    listing = ground.workspace.list()
    assert listing.truncated
    assert len(listing.entries) == 33
    deeper = ground.workspace.list("/".join("d" * 33))
    assert not deeper.truncated
    assert len(deeper.entries) == 27


def test_not_a_folder(ground: Ground) -> None:
    (ground.project / "f").touch()
    for directory in ("f", "no", "..", "/", ".git"):
        with pytest.raises(ToolError) as caught:
            ground.workspace.list(directory)
        assert str(ground.project) not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_closed_folder_does_not_end_the_listing(ground: Ground, tmp_path: Path) -> None:
    (ground.project / "closed").mkdir(mode=0)
    (ground.project / "open").touch()
    assert lines(ground.workspace) == ["closed/", "open"]
