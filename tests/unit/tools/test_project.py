from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.project import ProjectRefused, is_system_folder, resolve_project


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("home/code/app", "home/.ssh", "home/.config/nvim", "data", "elsewhere", "home-evil/app"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "home"


def _resolve(home: Path, path: str | Path, *roots: Path) -> Path:
    return resolve_project(str(path), roots or (home, home.parent), home=home, data_dir=home.parent / "data")


def test_a_folder_in_a_root(home: Path) -> None:
    assert _resolve(home, home / "code" / "app") == (home / "code" / "app").resolve()
    assert _resolve(home, f"{home}/code/./x/../app/") == (home / "code" / "app").resolve()
    assert _resolve(home, home.parent / "elsewhere", home.parent / "elsewhere").name == "elsewhere"


def test_links_are_resolved_before_the_check(home: Path) -> None:
    (home / "way-out").symlink_to(home.parent / "elsewhere")
    (home / "way-in").symlink_to(home / "code")
    with pytest.raises(ProjectRefused, match="outside the allowed"):
        _resolve(home, home / "way-out", home)
    assert _resolve(home, home / "way-in" / "app", home) == (home / "code" / "app").resolve()


@pytest.mark.parametrize("path", ["../elsewhere", "../home-evil/app", "../nowhere"])
def test_outside_tells_what_is_allowed_and_not_what_exists(home: Path, path: str) -> None:
    with pytest.raises(ProjectRefused) as caught:
        _resolve(home, f"{home}/{path}", home)
    assert str(home.resolve()) in str(caught.value)
    assert "exist" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "relative", "~/code", "\0", "/a\0b", "/a\ud800", "/" + "x" * 5000])
def test_malformed(home: Path, path: str) -> None:
    with pytest.raises(ProjectRefused, match="project_directory"):
        _resolve(home, path)


@pytest.mark.parametrize("path", ["/", "/etc", "/usr/lib", "/proc/self", "/dev/shm", "/bin"])
def test_system_folders_even_when_everything_is_allowed(home: Path, path: str) -> None:
    with pytest.raises(ProjectRefused):
        resolve_project(path, [Path("/")], home=home, data_dir=home.parent / "data")


def test_a_folder_within_the_systems_is_allowed_by_name_only(home: Path) -> None:
    inner = Path("/usr/share")
    assert resolve_project(str(inner), [inner], home=home, data_dir=home.parent / "data") == inner
    with pytest.raises(ProjectRefused, match="system"):
        resolve_project(str(inner), [Path("/usr")], home=home, data_dir=home.parent / "data")


def test_home_itself_and_above(home: Path) -> None:
    for path in (home, home.parent):
        with pytest.raises(ProjectRefused, match="home folder"):
            _resolve(home, path)


def test_hidden_folders_of_home(home: Path) -> None:
    with pytest.raises(ProjectRefused, match=r"\.ssh"):
        _resolve(home, home / ".ssh")
    with pytest.raises(ProjectRefused, match=r"\.config"):
        _resolve(home, home / ".config" / "nvim")
    listed = home / ".config" / "nvim"
    assert _resolve(home, listed, home, listed) == listed.resolve()


def test_the_data_folder_below_and_above(home: Path) -> None:
    data = home / "code" / "app" / "data"
    (data / "deep").mkdir(parents=True)
    for path in (data, data / "deep", home / "code" / "app", home / "code"):
        with pytest.raises(ProjectRefused, match="service's own data"):
            resolve_project(str(path), [home], home=home, data_dir=data)


def test_files_and_missing_folders(home: Path) -> None:
    (home / "code" / "file").touch()
    with pytest.raises(ProjectRefused, match="is a file"):
        _resolve(home, home / "code" / "file")
    with pytest.raises(ProjectRefused, match="does not exist"):
        _resolve(home, home / "code" / "nowhere")
    os.mkfifo(home / "code" / "pipe")
    with pytest.raises(ProjectRefused):
        _resolve(home, home / "code" / "pipe")


def test_is_system_folder(tmp_path: Path) -> None:
    assert is_system_folder(Path("/"))
    assert is_system_folder(Path("/etc/x"))
    assert not is_system_folder(Path("/etcetera"))
    assert not is_system_folder(Path("/home/me"))
