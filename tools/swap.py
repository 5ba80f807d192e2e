"""One file of a folder, made, replaced or deleted in one step, and only if it still is what it was.

Every step works inside a folder descriptor. Readers, and a process killed at any moment, see the old
file or the new one. Where the system can exchange two names, even a change in the very last moment is
noticed: the names are swapped first, what came out is compared, and swapped back if it is not
what was expected.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tools.descriptors import open_regular
from tools.renames import exchange, rename_new

# A temporary file holds new content that is not finished; with digests in its name it holds all of
# the new content, or what came out of the swap.
_TEMPORARY = re.compile(
    r"\.agent-service-[0-9a-f]{16}(?:-(?P<before>[0-9a-f]{16})-(?P<after>[0-9a-f]{16}))?\.tmp"
)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777  # set-user-id and the like do not pass on to content that a model wrote
_LOCK_SECONDS = 5.0

LastLook = Callable[[], object]
"""Called when all is prepared, right before the file is touched; what it raises stops the change."""


def create(folder: int, name: str, after: bytes, last_look: LastLook = lambda: None) -> bool:
    """Make a file, mode 0644 less the umask. False, with nothing done, when the name is taken."""
    with _written(folder, after) as temporary, _alone(folder):
        last_look()
        try:
            rename_new(folder, temporary, name)
        except FileExistsError:
            return False
        sys.audit("agent_service.file.swapped", name)
    os.fsync(folder)
    return True


def replace(folder: int, name: str, before: bytes, after: bytes, last_look: LastLook = lambda: None) -> bool:
    """Put `after` in place of `before`, keeping mode and owner. False when it was no longer `before`.

    A hard link is replaced: the other names keep the old content.
    """
    try:
        if not holds(folder, name, before):
            return False
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
        with _written(folder, after, like=old) as temporary, _alone(folder):
            last_look()
            replaced = holds(folder, name, before) and _swap(folder, temporary, name, before, after)
    except FileNotFoundError:
        return False
    os.fsync(folder)
    return replaced


def delete(folder: int, name: str, before: bytes, last_look: LastLook = lambda: None) -> bool:
    """Delete the file if it is still `before`; else leave it and return False."""
    aside = _new_name(before, before)
    with _alone(folder):
        last_look()
        try:
            if not holds(folder, name, before):
                return False
            os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            return False
        expected = _came_out(folder, aside, before)
        if expected:
            _remove(folder, aside)
        else:
            _put_back(folder, aside, name)
    os.fsync(folder)
    return expected


def holds(folder: int, name: str, content: bytes) -> bool:
    """Whether the name is a regular file with exactly this content. FileNotFoundError if absent."""
    try:
        descriptor = open_regular(folder, name)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.EINVAL):
            return False
        raise
    with os.fdopen(descriptor, "rb") as file:
        return os.fstat(descriptor).st_size == len(content) and file.read(len(content) + 1) == content


def is_temporary(name: str) -> bool:
    """Whether the name is one that only this module gives to its temporary files."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(folder: int, name: str, *, limit: int) -> bool:
    """Remove a temporary file that a crash left behind.

    False, and it stays, if another process is writing it just now, or if it holds something that is
    neither the old nor the new content: somebody's edit that was swapped out when the crash came.
    `limit` is the largest content in bytes that could be ours.
    """
    match = _TEMPORARY.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a temporary file")
    with os.fdopen(open_regular(folder, name), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        if match["before"] is not None and _digest(file.read(limit)) not in match.groups():
            return False
        _remove(folder, name)
    return True


@contextmanager
def _written(folder: int, content: bytes, like: os.stat_result | None = None) -> Iterator[str]:
    """A new temporary file with this content, safely on disk; removed at the end if still there."""
    name = _new_name()
    descriptor = os.open(name, _CREATE, 0o644 if like is None else 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Held until the file has its final name, so that no other process sweeps it away.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(content)
            file.flush()
            if like is not None:
                _take_after(descriptor, like)
            os.fsync(descriptor)
            sys.audit("agent_service.file.prepared", name)
            yield name
    finally:
        _remove(folder, name)


@contextmanager
def _alone(folder: int) -> Iterator[None]:
    """Keeps our own writers, in this process and others, from swapping in one folder at a time.

    Two that exchange the same name at once would give each other's content back. Editors do not know
    this lock, and need not: what they save is seen by the comparison. A file system without locks,
    or one that somebody else holds for seconds, does not stop the write.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while not _locked(folder) and time.monotonic() < deadline:
        time.sleep(0.005)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_UN)


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks here: go on without
    return True


def _take_after(descriptor: int, old: os.stat_result) -> None:
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & _PERMISSIONS)


def _swap(folder: int, temporary: str, name: str, before: bytes, after: bytes) -> bool:
    # The digests in the name let a later sweep tell our content from somebody's edit.
    aside = _new_name(before, after)
    os.rename(temporary, aside, src_dir_fd=folder, dst_dir_fd=folder)
    try:
        exchanged = exchange(folder, aside, name)
        if not exchanged:
            os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _remove(folder, aside)
        raise
    sys.audit("agent_service.file.swapped", name)
    if not exchanged:
        return True
    if not _came_out(folder, aside, before):
        _give_back(folder, aside, name, after)
        return False
    _remove(folder, aside)
    return True


def _came_out(folder: int, aside: str, before: bytes) -> bool:
    try:
        return holds(folder, aside, before)
    except FileNotFoundError:
        return True  # another process swept it, which it does only with content it knows


def _give_back(folder: int, aside: str, name: str, after: bytes) -> None:
    """Undo an exchange. What somebody saved in the blink between stays aside; it is never deleted."""
    try:
        exchange(folder, aside, name)
    except FileNotFoundError:
        _put_back(folder, aside, name)
        return
    if holds(folder, aside, after):
        _remove(folder, aside)


def _put_back(folder: int, aside: str, name: str) -> None:
    with suppress(FileExistsError):  # then the name has something newer; this one stays aside
        rename_new(folder, aside, name)


def _new_name(*contents: bytes) -> str:
    return "-".join([".agent-service", secrets.token_hex(8), *map(_digest, contents)]) + ".tmp"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _remove(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
