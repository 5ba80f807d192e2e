"""Renames that do not overwrite unseen: exchange two names, or refuse an existing one.

`renameat2` (Linux 3.15, glibc 2.28) and `renameatx_np` (macOS 10.12) do both atomically. Where the
system or the file system cannot, the caller is told, or the check comes just before the rename.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import cache

# linux/fs.h and sys/stdio.h of macOS.
_EXCHANGE = 2
_NO_REPLACE = 4 if sys.platform == "darwin" else 1
_SYMBOL = "renameatx_np" if sys.platform == "darwin" else "renameat2"
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def exchange(folder: int, one: str, other: str) -> bool:
    """Swap two names of a folder in one step; False, with nothing done, where that cannot be had.

    Raises OSError otherwise, FileNotFoundError when one of them is missing.
    """
    return _rename(folder, one, other, _EXCHANGE)


def rename_new(folder: int, name: str, new: str) -> None:
    """Rename within a folder. Raises FileExistsError when `new` is taken, by whatever it is."""
    if _rename(folder, name, new, _NO_REPLACE):
        return
    try:
        os.stat(new, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _rename(folder: int, source: str, target: str, flags: int) -> bool:
    function = _function()
    if function is None:
        return False
    if function(folder, os.fsencode(source), folder, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number))


@cache
def _function() -> ctypes._NamedFuncPointer | None:
    function: ctypes._NamedFuncPointer | None = getattr(ctypes.CDLL(None, use_errno=True), _SYMBOL, None)
    if function is not None:
        function.argtypes = [
            ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
        ]  # fmt: skip
        function.restype = ctypes.c_int
    return function
