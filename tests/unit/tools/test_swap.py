from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.tools.conftest import names
from tools import renames, swap
from tools.descriptors import FOLDER


@pytest.fixture(params=["exchange", "rename"])
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An open folder, with and without the system's exchanging renames."""
    if request.param == "rename":
        monkeypatch.setattr(renames, "_function", lambda: None)
    descriptor = os.open(tmp_path, FOLDER)
    yield descriptor
    os.close(descriptor)


def test_create(folder: int, tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        assert swap.create(folder, "f", b"new")
    finally:
        os.umask(umask)
    assert (tmp_path / "f").read_bytes() == b"new"
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o640
    assert not swap.create(folder, "f", b"newer")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert names(tmp_path) == ["f"]


class Stopped(Exception):
    """What the last look says."""


def stop() -> None:
    raise Stopped


def test_the_last_look_stops_every_change(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    changes: list[Callable[[], bool]] = [
        lambda: swap.create(folder, "new", b"new", stop),
        lambda: swap.replace(folder, "f", b"old", b"new", stop),
        lambda: swap.delete(folder, "f", b"old", stop),
    ]
    for change in changes:
        with pytest.raises(Stopped):
            change()
        assert names(tmp_path) == ["f"] and (tmp_path / "f").read_bytes() == b"old"


def test_what_changed_during_the_last_look_is_seen(folder: int, tmp_path: Path) -> None:
    def edit() -> None:
        (tmp_path / "f").write_bytes(b"edited")

    changes: list[Callable[[], bool]] = [
        lambda: swap.replace(folder, "f", b"old", b"new", edit),
        lambda: swap.delete(folder, "f", b"old", edit),
    ]
    for change in changes:
        (tmp_path / "f").write_bytes(b"old")
        assert not change()
        assert names(tmp_path) == ["f"] and (tmp_path / "f").read_bytes() == b"edited"


def test_create_does_not_replace_a_dangling_link(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").symlink_to(tmp_path / "nowhere")
    assert not swap.create(folder, "f", b"new")
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("mode", [0o755, 0o600, 0o4755])
def test_replace_keeps_the_mode_but_for_set_user_id(folder: int, tmp_path: Path, mode: int) -> None:
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "f").chmod(mode)
    assert swap.replace(folder, "f", b"old", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert (tmp_path / "f").stat().st_mode & 0o7777 == mode & 0o777
    assert names(tmp_path) == ["f"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_replace_keeps_the_owner(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    os.chown(tmp_path / "f", 1234, 2345)
    assert swap.replace(folder, "f", b"old", b"new")
    assert ((tmp_path / "f").stat().st_uid, (tmp_path / "f").stat().st_gid) == (1234, 2345)


def test_a_changed_file_is_neither_replaced_nor_deleted(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"edited")
    assert not swap.replace(folder, "f", b"old", b"new")
    assert not swap.delete(folder, "f", b"old")
    assert not swap.replace(folder, "absent", b"old", b"new")
    assert not swap.delete(folder, "absent", b"old")
    assert (tmp_path / "f").read_bytes() == b"edited"
    assert names(tmp_path) == ["f"]


def test_delete(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    assert swap.delete(folder, "f", b"old")
    assert names(tmp_path) == []


def _edit(path: Path) -> None:
    path.write_bytes(b"edited")


def _save_by_rename(path: Path) -> None:
    (path.parent / "save").write_bytes(b"edited")
    (path.parent / "save").replace(path)


def _put_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def _put_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [_edit, _save_by_rename, _put_a_link, _put_a_folder, Path.unlink])
def test_a_change_in_the_last_moment_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """The change comes after the last comparison and just before the names are exchanged."""
    path = tmp_path / "f"
    path.write_bytes(b"old")
    folder = os.open(tmp_path, FOLDER)
    pending = [change]

    def late(folder: int, one: str, other: str) -> bool:
        if pending:
            pending.pop()(path)
        return renames.exchange(folder, one, other)

    monkeypatch.setattr(swap, "exchange", late)
    try:
        assert not swap.replace(folder, "f", b"old", b"new")
    finally:
        os.close(folder)
    assert names(tmp_path) == ([] if change is Path.unlink else ["f"])
    if change in (_edit, _save_by_rename):
        assert path.read_bytes() == b"edited"
    assert path.is_symlink() == (change is _put_a_link)
    assert path.is_dir() == (change is _put_a_folder)


def test_an_edit_just_before_deletion_stands(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    look = swap.holds

    def late(folder: int, name: str, content: bytes) -> bool:
        held = look(folder, name, content)
        if name == "f":
            path.write_bytes(b"edited")
        return held

    monkeypatch.setattr(swap, "holds", late)
    assert not swap.delete(folder, "f", b"old")
    assert path.read_bytes() == b"edited"
    assert names(tmp_path) == ["f"]


def test_sweep_removes_what_is_ours_and_keeps_an_edit(folder: int, tmp_path: Path) -> None:
    unfinished = swap._new_name()
    whole = swap._new_name(b"old", b"new")
    swapped = swap._new_name(b"old", b"new")
    edited = swap._new_name(b"old", b"new")
    for name, content in ((unfinished, b"ne"), (whole, b"new"), (swapped, b"old"), (edited, b"edited")):
        assert swap.is_temporary(name)
        (tmp_path / name).write_bytes(content)
    results = [swap.sweep(folder, name, limit=100) for name in (unfinished, whole, swapped, edited)]
    assert results == [True, True, True, False]
    assert names(tmp_path) == [edited]


def test_sweep_leaves_a_file_being_written(folder: int, tmp_path: Path) -> None:
    name = swap._new_name()
    with (tmp_path / name).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not swap.sweep(folder, name, limit=100)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["f.tmp", ".agent-service-1.tmp", ".agent-service-0123456789abcdef.tmp.txt"])
def test_other_names_are_not_ours(folder: int, name: str) -> None:
    assert not swap.is_temporary(name)
    with pytest.raises(ValueError, match="temporary"):
        swap.sweep(folder, name, limit=100)
