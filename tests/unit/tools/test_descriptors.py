from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.tools.conftest import names
from tools.descriptors import FOLDER, FolderOpener, birth_time, make_folders, open_regular


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "file").write_text("x")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "a" / "near").symlink_to("b")
    descriptor = os.open(tmp_path / "root", FOLDER)
    yield descriptor
    os.close(descriptor)


def test_opens_what_is_there(root: int, opener: FolderOpener, tmp_path: Path) -> None:
    for parts in ([], ["a"], ["a", "b"]):
        descriptor = opener(root, parts)
        assert os.path.samestat(os.fstat(descriptor), tmp_path.joinpath("root", *parts).stat())
        os.scandir(descriptor).close()
        os.fsync(descriptor)
        os.close(descriptor)


@pytest.mark.parametrize("parts", [["link"], ["link", "x"], ["a", "near"], ["file"], ["file", "x"], ["no"]])
def test_refuses_links_and_files(root: int, opener: FolderOpener, parts: list[str]) -> None:
    with pytest.raises(OSError):
        opener(root, parts)


def test_leaves_no_descriptor_open(root: int, opener: FolderOpener) -> None:
    before = _lowest_free()
    for parts in (["a", "b"], ["a", "near", "x"], ["no", "x"], ["file", "x"]):
        try:
            os.close(opener(root, parts))
        except OSError:
            continue
    os.close(make_folders(root, ["a", "new", "newer"]))
    for name in ("link", "a"):
        with pytest.raises(OSError):
            make_folders(root, [name, "x", "x"] if name == "link" else [name, "near", "x"])
    assert _lowest_free() == before


def test_make_folders_stops_at_a_link(root: int, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        make_folders(root, ["link", "new"])
    assert names(tmp_path / "outside") == []


def test_only_regular_files_are_opened(root: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "root" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path / "root")  # the name of a socket may have 108 bytes only
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        for name in ("pipe", "socket", "link", "a"):
            with pytest.raises(OSError):
                open_regular(root, name)
    os.close(open_regular(root, "file"))


def test_birth_time_tells_a_new_folder_from_the_old(tmp_path: Path) -> None:
    def born() -> int | None:
        (tmp_path / "x").mkdir()
        descriptor = os.open(tmp_path / "x", FOLDER)
        try:
            return birth_time(descriptor)
        finally:
            os.close(descriptor)
            (tmp_path / "x").rmdir()

    first = born()
    if first is None:
        pytest.skip("this file system keeps no birth times")
    assert abs(first / 1e9 - tmp_path.stat().st_mtime) < 60


def _lowest_free() -> int:
    descriptor = os.open("/", FOLDER)
    os.close(descriptor)
    return descriptor
