"""Which folder a request may name as its project."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tools.paths import MAX_PATH_BYTES

_KERNEL_FOLDERS = ("/dev", "/proc", "/sys")
_SYSTEM_FOLDERS = (
    *_KERNEL_FOLDERS,
    "/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/run", "/sbin", "/usr", "/var",
    "/Applications", "/Library", "/System", "/cores", "/private/etc", "/private/var",
)  # fmt: skip


class ProjectRefused(Exception):
    """The folder may not be a project. The message is for the caller and names what is allowed."""


def resolve_project(path: str, allowed_roots: Sequence[Path], *, home: Path, data_dir: Path) -> Path:
    """The real path of a folder that may be worked in.

    It must be an existing folder within one of `allowed_roots`, links resolved. Never: `/`, a system
    folder, the home folder or one above it, a hidden folder of the home folder (`.ssh`) unless an
    allowed root lists it, the service's data folder, one inside it or one above it. Raises
    ProjectRefused; outside the allowed roots the message does not tell whether the folder exists.
    """
    roots = [Path(os.path.realpath(root)) for root in allowed_roots]
    folder = _real(path)
    within = [root for root in roots if folder.is_relative_to(root)]
    if not within:
        named = ", ".join(map(str, roots)) or "none is configured"
        raise ProjectRefused(
            f"project_directory is outside the allowed folders. Allowed are folders in: {named}. "
            "The operator can allow more with --allow-root or agent.allowed_roots."
        )
    _refuse_system(folder, within)
    _refuse_home(folder, within, Path(os.path.realpath(home)))
    data = Path(os.path.realpath(data_dir))
    if _contains(folder, data) or _contains(data, folder):
        raise ProjectRefused("project_directory holds this service's own data; name another folder.")
    try:
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "does not exist"
            raise ProjectRefused(f"project_directory {what}; name an existing folder.")
        os.scandir(folder).close()
    except OSError:
        raise ProjectRefused(
            "project_directory cannot be opened by the service; check that it may be read."
        ) from None
    return folder


def is_system_folder(folder: Path) -> bool:
    """Whether the folder is `/`, belongs to the system, or is inside such a folder."""
    return folder == Path("/") or any(folder.is_relative_to(system) for system in _SYSTEM_FOLDERS)


def _real(path: str) -> Path:
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise ProjectRefused("project_directory is not valid Unicode.") from None
    if "\0" in path or size > MAX_PATH_BYTES:
        raise ProjectRefused(f"project_directory has a NUL or is longer than {MAX_PATH_BYTES} bytes.")
    if not path.startswith("/"):
        raise ProjectRefused("project_directory must be an absolute path, starting with /.")
    return Path(os.path.realpath(path))


def _refuse_system(folder: Path, within: Sequence[Path]) -> None:
    if not is_system_folder(folder):
        return
    # An operator may allow a folder such as /var/www by name; allowing / or /var allows no system folder.
    in_kernel = any(folder.is_relative_to(system) for system in _KERNEL_FOLDERS)
    listed = any(is_system_folder(root) and str(root) not in ("/", *_SYSTEM_FOLDERS) for root in within)
    if in_kernel or not listed:
        raise ProjectRefused(
            "project_directory is a folder of the system; name a folder of yours, or have it allowed by name."
        )


def _refuse_home(folder: Path, within: Sequence[Path], home: Path) -> None:
    if _contains(folder, home):
        raise ProjectRefused("project_directory is the home folder or above it; name one project in it.")
    if not folder.is_relative_to(home):
        return
    hidden = home / folder.relative_to(home).parts[0]
    if hidden.name.startswith(".") and not any(root.is_relative_to(hidden) for root in within):
        raise ProjectRefused(
            f"project_directory is in {hidden.name}, a hidden folder of the home folder; such a folder is "
            "allowed only if the service's configuration lists it."
        )


def _contains(outer: Path, inner: Path) -> bool:
    """Whether `inner` is `outer` or below it, by name or (bind mounts, letter case) by identity."""
    return inner.is_relative_to(outer) or any(_is_same(outer, part) for part in (inner, *inner.parents))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
