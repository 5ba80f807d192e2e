from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.tools.conftest import SECRET, Ground, names
from tools.errors import FileTooLarge, ProtectedPath, StaleFile, ToolError
from tools.tool import Effect, ToolResult
from tools.workspace import MIB, FileLimits, Workspace


def effect(path: str, before: bytes | None, after: bytes | None) -> Effect:
    return Effect(path=path, before=before, after=after, result=ToolResult("done"), preview="")


def test_write_and_read_back(ground: Ground) -> None:
    ground.workspace.commit(effect("a/b/c.txt", None, b"one\n"))
    assert ground.workspace.read("a//b/./c.txt") == b"one\n"
    ground.workspace.commit(effect("a/b/c.txt", b"one\n", b"two\r\n"))
    assert (ground.project / "a/b/c.txt").read_bytes() == b"two\r\n"
    ground.workspace.commit(effect("a/b/c.txt", b"two\r\n", None))
    assert ground.workspace.current("a/b/c.txt") is None
    assert ground.temporaries() == []


def test_absent_files(ground: Ground) -> None:
    assert ground.workspace.current("a") is None
    assert ground.workspace.current("no/such/folder/a") is None
    with pytest.raises(ToolError, match="no file a"):
        ground.workspace.read("a")


@pytest.mark.parametrize(
    ("on_disk", "before"), [(b"edited", b"old"), (b"edited", None), (None, b"old"), (b"new", b"old")]
)
def test_a_stale_plan_changes_nothing(ground: Ground, on_disk: bytes | None, before: bytes | None) -> None:
    path = ground.project / "f"
    if on_disk is not None:
        path.write_bytes(on_disk)
    for after in (b"new", None):
        if before != after:
            with pytest.raises(StaleFile, match="changed by somebody else"):
                ground.workspace.commit(effect("f", before, after))
    assert ground.workspace.current("f") == on_disk
    assert ground.temporaries() == []


def test_an_unchanged_file_is_not_written(ground: Ground) -> None:
    (ground.project / "f").write_bytes(b"x")
    inode = (ground.project / "f").stat().st_ino
    ground.workspace.commit(effect("f", b"x", b"x"))
    assert (ground.project / "f").stat().st_ino == inode
    with pytest.raises(StaleFile):
        ground.workspace.commit(effect("f", b"y", b"y"))


def test_links_are_not_followed(ground: Ground) -> None:
    (ground.project / "l").symlink_to(ground.outside)
    (ground.project / "s").symlink_to(ground.outside / "s.txt")
    (ground.project / "new").symlink_to(ground.outside / "new.txt")
    (ground.project / "here").symlink_to("f")
    (ground.project / "f").write_bytes(b"f")
    for path in ("l/s.txt", "s", "new", "l/folder/x", "here"):
        with pytest.raises(ToolError) as caught:
            ground.workspace.current(path)
        assert str(ground.outside) not in str(caught.value)
        with pytest.raises(ToolError):
            ground.workspace.commit(effect(path, None, b"x"))
        with pytest.raises(ToolError):
            ground.workspace.commit(effect(path, SECRET, b"x"))
        with pytest.raises(ToolError):
            ground.workspace.commit(effect(path, SECRET, None))
    with pytest.raises(ToolError):
        ground.workspace.list("l")
    ground.assert_untouched()


def test_a_link_in_place_of_the_temporary_name(ground: Ground) -> None:
    (ground.project / "t.txt.tmp").symlink_to(ground.outside / "v")
    ground.workspace.commit(effect("t.txt", None, b"x"))
    assert (ground.project / "t.txt").read_bytes() == b"x"
    ground.assert_untouched()


def test_a_hard_link_is_replaced(ground: Ground) -> None:
    os.link(ground.outside / "s.txt", ground.project / "h")
    ground.workspace.commit(effect("h", SECRET, b"mine"))
    assert (ground.project / "h").read_bytes() == b"mine"
    ground.assert_untouched()


def test_special_files_do_not_hang(ground: Ground) -> None:
    os.mkfifo(ground.project / "pipe")
    (ground.project / "folder").mkdir()
    started = time.monotonic()
    for path in ("pipe", "folder"):
        for before in (None, b"", b"x"):
            with pytest.raises(ToolError):
                ground.workspace.commit(effect(path, before, b"y"))
        with pytest.raises(ToolError, match="not a"):
            ground.workspace.read(path)
        with pytest.raises(ToolError):
            ground.workspace.read(f"{path}/x") if path == "pipe" else ground.workspace.current(path)
    assert time.monotonic() - started < 5
    assert ground.temporaries() == []


def test_sizes(ground: Ground) -> None:
    (ground.project / "sparse").touch()
    os.truncate(ground.project / "sparse", 8 * 1024 * MIB)
    for look in (ground.workspace.read, ground.workspace.current):
        with pytest.raises(FileTooLarge, match=r"8,589,934,592 bytes.*MiB"):
            look("sparse")
    (ground.project / "two").write_bytes(b"x" * (2 * MIB))
    with pytest.raises(FileTooLarge, match="1 MiB"):
        ground.workspace.read("two")
    assert len(ground.workspace.read("two", limit=2 * MIB)) == 2 * MIB
    with pytest.raises(ToolError, match="5 MiB"):
        ground.workspace.commit(effect("big", None, b"x" * (24 * MIB)))
    assert names(ground.project) == ["sparse", "two"]


def test_binary(ground: Ground) -> None:
    (ground.project / "b").write_bytes(b"a\0b")
    with pytest.raises(ToolError, match="binary"):
        ground.workspace.read("b")
    assert ground.workspace.current("b") == b"a\0b"


@pytest.mark.parametrize("path", [".git/config", "sub/../.git/config", ".GIT/config", "docs/.git", ".env"])
def test_sealed_paths(ground: Ground, path: str) -> None:
    (ground.project / "docs").mkdir()
    (ground.project / ".git").mkdir()
    (ground.project / ".git" / "config").write_text("x")
    for call in (ground.workspace.read, ground.workspace.current, ground.workspace.list):
        with pytest.raises(ProtectedPath):
            call(path)
    for before in (None, b"x"):
        with pytest.raises(ProtectedPath):
            ground.workspace.commit(effect(path, before, b"y"))
    assert (ground.project / ".git" / "config").read_text() == "x"


def test_settings_are_read_but_not_written(ground: Ground) -> None:
    with pytest.raises(ProtectedPath, match="human"):
        ground.workspace.commit(effect(".vscode/tasks.json", None, b"{}"))
    assert names(ground.project) == []
    (ground.project / ".vscode").mkdir()
    (ground.project / ".vscode" / "settings.json").write_bytes(b"{}")
    assert ground.workspace.read(".vscode/settings.json") == b"{}"
    assert ground.workspace.current(".vscode/settings.json") == b"{}"


def test_a_link_to_git_is_a_link(ground: Ground) -> None:
    (ground.project / ".git").mkdir()
    (ground.project / "docs").symlink_to(".git")
    with pytest.raises(ToolError):
        ground.workspace.commit(effect("docs/config", None, b"x"))
    assert names(ground.project / ".git") == []


def test_a_folder_that_flips_to_a_link(ground: Ground) -> None:
    """Forty writes below `d` while it is a folder, then a link to the outside, then a folder again."""
    kept, flipped = ground.project / "kept", ground.project / "d"
    flipped.mkdir()
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            try:
                flipped.rename(kept)
                flipped.symlink_to(ground.outside)
                flipped.unlink()
                kept.rename(flipped)
            except OSError:  # a write made `d` anew in between
                shutil.rmtree(kept, ignore_errors=True)

    def write(number: int) -> None:
        for _ in range(3):
            try:
                ground.workspace.commit(effect(f"d/f{number}", None, b"x"))
            except ToolError:
                continue

    flipper = threading.Thread(target=flip)
    writers = [threading.Thread(target=write, args=(n,)) for n in range(40)]
    flipper.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    flipper.join()
    ground.assert_untouched()


def test_one_of_many_writers_of_the_same_plan_wins(ground: Ground) -> None:
    (ground.project / "f").write_bytes(b"0")
    won: list[int] = []

    def write(number: int) -> None:
        try:
            ground.workspace.commit(effect("f", b"0", b"%d" % number))
        except StaleFile:
            return
        won.append(number)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(1, 21)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert [b"%d" % number for number in won] == [(ground.project / "f").read_bytes()]
    assert ground.temporaries() == []


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_fails_half_way_leaves_nothing(ground: Ground) -> None:
    (ground.project / "f").write_bytes(b"old")
    with _file_size_limit(100_000):
        for path, before in (("f", b"old"), ("new", None)):
            with pytest.raises(ToolError, match="cannot be written"):
                ground.workspace.commit(effect(path, before, b"x" * 300_000))
    assert names(ground.project) == ["f"]
    assert (ground.project / "f").read_bytes() == b"old"


def test_a_file_in_place_of_a_folder(ground: Ground) -> None:
    (ground.project / "f").write_bytes(b"x")
    for before in (None, b"x"):
        with pytest.raises(ToolError, match="f/g"):
            ground.workspace.commit(effect("f/g", before, b"y"))
    with pytest.raises(ToolError):
        ground.workspace.list("f")


_WRITER = """
import sys
from pathlib import Path
from tools.tool import Effect, ToolResult
from tools.workspace import Workspace

workspace, contents = Workspace(Path(sys.argv[1])), (b"a" * 3_500_000, b"b" * 3_500_000)
print("ready", flush=True)
while True:
    for before, after in (contents, contents[::-1]):
        workspace.commit(Effect("f", before, after, ToolResult(""), ""))
"""


@pytest.mark.parametrize("milliseconds", [7, 23, 41])
def test_killed_while_writing(tmp_path: Path, milliseconds: int) -> None:
    (tmp_path / "f").write_bytes(b"a" * 3_500_000)
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(milliseconds / 1000)
        writer.kill()
    content = (tmp_path / "f").read_bytes()
    assert content in (b"a" * 3_500_000, b"b" * 3_500_000)
    assert Workspace(tmp_path).sweep(["f"]) == []
    assert names(tmp_path) == ["f"]


_CRASHER = """
import itertools, os, sys
from pathlib import Path
from tools.tool import Effect, ToolResult
from tools.workspace import Workspace

root = Path(sys.argv[1])
old, new = b"old" * 1000, b"new" * 1000
for before, after in [(old, new), (None, new), (old, None)]:
    for steps in itertools.count(1):
        for path in root.iterdir():
            path.unlink()
        if before is not None:
            (root / "f").write_bytes(before)
        child = os.fork()
        if not child:
            count = itertools.count(1)
            sys.addaudithook(lambda event, _: next(count) == steps and os._exit(137))
            Workspace(root).commit(Effect("f", before, after, ToolResult(""), ""))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert Workspace(root).sweep(["f"]) == []
        content = (root / "f").read_bytes() if (root / "f").exists() else None
        assert content in (before, after), (before, after, steps)
        assert [path.name for path in root.iterdir()] in ([], ["f"]), steps
        if status == 0:
            break
    print(steps)
"""


def test_killed_before_each_step(tmp_path: Path) -> None:
    """The process dies at every point that Python's audit events mark: opens, renames, removals."""
    done = subprocess.run(
        [sys.executable, "-c", _CRASHER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(int(steps) > 5 for steps in done.stdout.split())


def test_sweep_touches_only_our_leftovers(ground: Ground) -> None:
    ours = ".agent-service-0123456789abcdef.tmp"
    places = ["", "a/b/", "node_modules/x/"]
    for place in places:
        (ground.project / place).mkdir(parents=True, exist_ok=True)
        (ground.project / place / ours).write_bytes(b"half")
    (ground.project / ".agent-service-notes.tmp").write_bytes(b"a person's")
    (ground.outside / "folder" / ours).write_bytes(b"half")
    (ground.project / "l").symlink_to(ground.outside / "folder")
    (ground.project / ".agent-service-aaaaaaaaaaaaaaaa.tmp").symlink_to(ground.outside / "s.txt")

    assert ground.workspace.sweep(["a/b/file", "no/such", "l/x"]) == []
    left = [(ground.project / place / ours).exists() for place in places]
    assert left == [True, False, True]
    assert ground.workspace.sweep(["f", "node_modules/x/f"]) == [".agent-service-aaaaaaaaaaaaaaaa.tmp"]
    assert not any((ground.project / place / ours).exists() for place in places)
    assert (ground.project / ".agent-service-notes.tmp").exists()
    (ground.outside / "folder" / ours).unlink()
    ground.assert_untouched()


def test_identity(ground: Ground) -> None:
    first = ground.workspace.identity
    ground.workspace.commit(effect("f", None, b"x"))
    assert ground.workspace.identity == first
    ground.project.rename(ground.outside.parent / "moved")
    with pytest.raises(ToolError, match="project folder") as caught:
        _ = ground.workspace.identity
    assert str(ground.project) not in str(caught.value)
    ground.project.mkdir()
    assert ground.workspace.identity != first


def test_a_link_in_place_of_the_root(ground: Ground) -> None:
    ground.project.rmdir()
    ground.project.symlink_to(ground.outside)
    with pytest.raises(ToolError, match="project folder"):
        ground.workspace.read("s.txt")


def test_limits_are_the_callers(ground: Ground) -> None:
    small = Workspace(ground.project, limits=FileLimits(read=4, write=8))
    small.commit(effect("f", None, b"12345678"))
    with pytest.raises(FileTooLarge):
        small.read("f")
    with pytest.raises(ToolError, match="at most 8 bytes"):
        small.commit(effect("g", None, b"123456789"))
