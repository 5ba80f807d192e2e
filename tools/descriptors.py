"""Folders below a root, reached by descriptor: never by a link, never above the root.

A checked path that is opened by name afterwards is a race. Here the check *is* the opening: by
`openat2` where the kernel has it (Linux 5.6), else component by component with `O_NOFOLLOW`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from functools import cache

FolderOpener = Callable[[int, Sequence[str]], int]
"""`(root descriptor, names) -> descriptor` of the folder below the root; the caller closes it.

Raises OSError: ELOOP or ENOTDIR when a link or a file is in the way.
"""

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASSING = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# linux/openat2.h; the number is the same on every architecture of the generic table.
_SYS_OPENAT2 = 437
_RESOLVE = 0x08 | 0x04 | 0x02  # BENEATH, NO_SYMLINKS, NO_MAGICLINKS
_TRIES = 16

# linux/stat.h and statx(2).
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BTIME_OFFSET = 80


def open_folder(root: int, names: Sequence[str]) -> int:
    """A descriptor of the folder `names` below `root`, by the best means this system has."""
    return open_by_openat2(root, names) if has_openat2() else open_by_walk(root, names)


def open_by_walk(root: int, names: Sequence[str]) -> int:
    """One `O_NOFOLLOW` open for each name. Works on every POSIX system."""
    folder = root
    try:
        for name in names[:-1]:
            inner = os.open(name, _PASSING, dir_fd=folder)
            _close_unless(root, folder)
            folder = inner
        return os.open(names[-1] if names else ".", FOLDER, dir_fd=folder)
    finally:
        _close_unless(root, folder)


def open_by_openat2(root: int, names: Sequence[str]) -> int:
    """One system call that refuses links and everything above the root."""
    path = os.fsencode("/".join(names) or ".")
    for _ in range(_TRIES):
        try:
            return _openat2(root, path)
        except BlockingIOError:  # EAGAIN: a rename elsewhere crossed the look-up
            continue
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


@cache
def has_openat2() -> bool:
    """Whether the kernel (and the sandbox around us) lets us call `openat2`. Asked once."""
    if not sys.platform.startswith("linux"):
        return False
    here = os.open("/", FOLDER)
    try:
        os.close(_openat2(here, b"."))
    except OSError:
        return False
    finally:
        os.close(here)
    return True


def make_folders(root: int, names: Sequence[str]) -> int:
    """Like `open_folder`, but makes the folders that are missing, durably."""
    folder = os.open(".", FOLDER, dir_fd=root)
    try:
        for name in names:
            inner = _make_folder(folder, name)
            os.close(folder)
            folder = inner
    except BaseException:
        os.close(folder)
        raise
    return folder


def open_regular(folder: int, name: str) -> int:
    """A descriptor of the regular file `name`, for reading. Never waits, not even on a FIFO.

    Raises OSError: ELOOP for a link, EISDIR for a folder, EINVAL for anything else that is no file.
    """
    # Looked at first, because opening alone already has effects on FIFOs and devices.
    _require_regular(os.stat(name, dir_fd=folder, follow_symlinks=False))
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        _require_regular(os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def birth_time(descriptor: int) -> int | None:
    """When the file was made, in nanoseconds since 1970; None where the file system does not tell."""
    if sys.platform == "darwin":
        return int(os.fstat(descriptor).st_birthtime * 1e9)
    statx = getattr(_libc(), "statx", None)
    if statx is None:
        return None
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, answer) != 0:
        return None
    mask = ctypes.c_uint32.from_buffer(answer).value
    seconds = ctypes.c_int64.from_buffer(answer, _BTIME_OFFSET).value
    nanoseconds = ctypes.c_uint32.from_buffer(answer, _BTIME_OFFSET + 8).value
    return seconds * 10**9 + nanoseconds if mask & _STATX_BTIME else None


class _OpenHow(ctypes.Structure):
    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


def _openat2(root: int, path: bytes) -> int:
    how = _OpenHow(flags=FOLDER, mode=0, resolve=_RESOLVE)
    descriptor = _libc().syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(root),
        ctypes.c_char_p(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(descriptor)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _make_folder(parent: int, name: str) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=parent)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(name, dir_fd=parent)
        os.fsync(parent)
    except FileExistsError:
        pass  # somebody else made it just now
    return os.open(name, FOLDER, dir_fd=parent)


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    number = errno.EINVAL
    if stat.S_ISLNK(status.st_mode):
        number = errno.ELOOP
    elif stat.S_ISDIR(status.st_mode):
        number = errno.EISDIR
    raise OSError(number, os.strerror(number))


def _close_unless(kept: int, descriptor: int) -> None:
    if descriptor != kept:
        os.close(descriptor)
