"""Whatever a model names, in whatever order: the outside is neither shown nor changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tools.conftest import SECRET, Ground, make_ground, names
from tools.descriptors import FolderOpener, has_openat2, open_by_openat2, open_by_walk
from tools.errors import ToolError
from tools.filesystem import edit_file, list_files, read_file, write_file
from tools.tool import Effect, ToolResult

OPENERS = [open_by_walk, *([open_by_openat2] if has_openat2() else [])]
PARTS = [
    "", ".", "..", "...", "~", "a", "b.txt", "d", "out", "file-out", "near", "up", "self",
    "pipe", ".git", ".GIT",
    "s.txt", "outside", "project", "\0", "\n", "%2e%2e", "..\\..", "x" * 300, "\ud800", "ü",
]  # fmt: skip
paths = st.builds(
    lambda start, parts: start + "/".join(parts),
    st.sampled_from(["", "", "", "/", "./", "../"]),
    st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=4)), max_size=5),
)
calls = st.tuples(
    st.sampled_from(["read", "list", "write", "edit", "delete", "sweep"]), paths, st.text(max_size=5)
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(OPENERS), st.lists(calls, min_size=1, max_size=8))
def test_confinement(opener: FolderOpener, sequence: list[tuple[str, str, str]]) -> None:
    with _hostile_ground(opener) as ground:
        for kind, path, text in sequence:
            try:
                told = _call(ground, kind, path, text)
            except ToolError as error:
                told = str(error)
                assert told.strip()
                assert "Traceback" not in told
            assert SECRET.decode().strip() not in told
            assert str(ground.project.parent) not in told
        ground.assert_untouched()
        assert (ground.project / ".git" / "config").read_bytes() == b"[core]\n"
        assert names(ground.project / ".git") == ["config"]
        assert ground.temporaries() == []


def _call(ground: Ground, kind: str, path: str, text: str) -> str:
    if kind == "sweep":
        return str(ground.workspace.sweep([path]))
    if kind == "delete":
        before = ground.workspace.current(path)
        ground.workspace.commit(Effect(path, before, None, ToolResult(""), ""))
        return ""
    if kind in ("read", "list"):
        result: ToolResult = (read_file if kind == "read" else list_files).function(ground.ctx, path)
        return result.content
    texts = (text,) if kind == "write" else (text[:1], text)
    effect: Effect = (write_file if kind == "write" else edit_file).function(ground.ctx, path, *texts)
    ground.workspace.commit(effect)
    return effect.result.content + effect.preview


@contextmanager
def _hostile_ground(opener: FolderOpener) -> Iterator[Ground]:
    with tempfile.TemporaryDirectory() as parent:
        ground = make_ground(Path(parent), opener)
        project = ground.project
        (project / "d" / "d").mkdir(parents=True)
        (project / "a").write_text("a")
        (project / ".git").mkdir()
        (project / ".git" / "config").write_bytes(b"[core]\n")
        (project / "out").symlink_to(ground.outside)
        (project / "d" / "out").symlink_to("../../outside")
        (project / "file-out").symlink_to(ground.outside / "s.txt")
        (project / "near").symlink_to(".git")
        (project / "up").symlink_to("..")
        (project / "self").symlink_to("self")
        os.mkfifo(project / "pipe")
        yield ground
