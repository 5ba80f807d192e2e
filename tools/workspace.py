"""A project folder as tools see it: every path below it by descriptor, no links, bounded sizes.

Nothing here keeps a file open between calls, and all of it blocks: call it from worker threads.
"""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools import swap
from tools.descriptors import FolderOpener, birth_time, make_folders, open_folder, open_regular
from tools.errors import FileTooLarge, StaleFile, ToolError
from tools.listing import Listing, scan
from tools.paths import normalise, split
from tools.protected import refuse_reading, refuse_writing
from tools.tool import Effect

MIB = 1024 * 1024
_SNIFFED = 8192
_SWEPT_ENTRIES = 50_000

Observer = Callable[[str, bytes | None], None]
"""Told a path and the content that was read there or written to it; None = the file was deleted."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How much of a project one call may touch. Sizes in bytes."""

    read: int = MIB
    """The largest file that is read whole."""
    write: int = 5 * MIB
    """The largest content that is written, edited, or read in parts."""
    entries: int = 2_000
    """The most names in one listing."""
    depth: int = 32
    """How many folders deep a listing goes."""


class Workspace:
    """The files of one project. `root` must have been approved before (`tools.project`)."""

    def __init__(
        self, root: Path, *, limits: FileLimits = FileLimits(), opener: FolderOpener = open_folder
    ) -> None:
        self.root = root
        self.limits = limits
        self._open_folder = opener
        self._observer: Observer | None = None

    def observed(self, observer: Observer) -> Workspace:
        """The same project, seen through: `observer` is told of each `read` and `commit` that succeeds.

        It is called in the thread that reads or writes.
        """
        view = copy.copy(self)
        view._observer = observer
        return view

    @property
    def identity(self) -> str:
        """Tells this folder from another that came to stand in its place; the same after a restart.

        Inode and birth time, since inodes are used again. Raises ToolError when the folder is gone.
        """
        with self._root() as root:
            born = birth_time(root)
            return f"{os.fstat(root).st_ino}:{'' if born is None else born}"

    def read(self, filepath: str, *, limit: int | None = None) -> bytes:
        """The content of a text file of at most `limit` bytes (default `limits.read`).

        Raises ToolError: no such file, not a regular file, protected, too large, or binary.
        """
        content = self._content(filepath, self.limits.read if limit is None else limit)
        if content is None:
            raise ToolError(f"there is no file {normalise(filepath)}; list_files shows what there is")
        if is_binary(content):
            raise ToolError(f"{normalise(filepath)} is a binary file; only text files can be read")
        self._tell(normalise(filepath), content)
        return content

    def current(self, filepath: str) -> bytes | None:
        """What the file holds now, binary or not; None if it does not exist.

        Raises ToolError: not a regular file, behind a link, protected from reading, or over `limits.write`.
        """
        return self._content(filepath, self.limits.write)

    def list(self, directory: str = "") -> Listing:
        """What is in the folder and below it. Raises ToolError when it is no folder of the project."""
        parts = split(directory)
        refuse_reading(parts)
        name = "/".join(parts) or "the project folder"
        with self._root() as root, _plainly(name):
            return scan(self._open_folder, root, parts, entries=self.limits.entries, depth=self.limits.depth)

    def commit(self, effect: Effect, last_look: swap.LastLook = lambda: None) -> None:
        """Make the planned change, in one step and durably; missing folders are made.

        `last_look` is called right before the file changes, in this thread; what it raises stops the change.
        Raises StaleFile when the file is not `effect.before` any more, up to the last moment, and
        ToolError when it cannot be written. In both cases the file is as it was.
        """
        path = normalise(effect.path)
        parts = tuple(path.split("/"))
        refuse_writing(parts)
        self.check_size(effect.after)
        if effect.before == effect.after:
            done = self.current(path) == effect.before
        else:
            with self._root() as root, _plainly(path):
                done = self._change(root, parts, effect, last_look)
        if not done:
            raise StaleFile(
                f"{path} was changed by somebody else since it was read; nothing was written. "
                "Read it again and decide anew."
            )
        self._tell(path, effect.after)

    def check_writable(self, filepath: str) -> str:
        """The path's one spelling (`normalise`). Raises ToolError if only the human may change it."""
        path = normalise(filepath)
        refuse_writing(path.split("/"))
        return path

    def check_size(self, content: bytes | None) -> None:
        """Raises ToolError, naming the cap, when the content is too large to be written."""
        if content is not None and len(content) > self.limits.write:
            raise ToolError(
                f"the content is {len(content):,} bytes; at most {_size(self.limits.write)} can be written. "
                "Split it over several files."
            )

    def sweep(self, paths: Iterable[str]) -> Sequence[str]:
        """Remove the temporary files that writes of these files left behind when a process died.

        Only names that this package makes up are touched. Gives those that stay, relative to the project:
        still being written, or an edit of the user's that a crash left aside, for a person to look at.
        """
        with self._root() as root:
            return [
                "/".join(parts)
                for parts in self._leftovers(root, {split(path)[:-1] for path in paths})
                if not self._sweep_one(root, parts)
            ]

    def _tell(self, path: str, content: bytes | None) -> None:
        if self._observer is not None:
            self._observer(path, content)

    def _content(self, filepath: str, limit: int) -> bytes | None:
        path = normalise(filepath)
        *folders, name = path.split("/")
        refuse_reading((*folders, name))
        with self._root() as root, _plainly(path):
            try:
                with self._folder(root, folders) as folder:
                    return _read(folder, name, path, limit)
            except FileNotFoundError:
                return None

    def _change(self, root: int, parts: Sequence[str], effect: Effect, last_look: swap.LastLook) -> bool:
        *folders, name = parts
        try:
            if effect.before is None:
                with _closing(make_folders(root, folders)) as folder:
                    return swap.create(folder, name, effect.after or b"", last_look)
            with self._folder(root, folders) as folder:
                if effect.after is None:
                    return swap.delete(folder, name, effect.before, last_look)
                return swap.replace(folder, name, effect.before, effect.after, last_look)
        except FileNotFoundError:
            return False

    def _leftovers(self, root: int, folders: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
        for folder in sorted(folders):
            try:
                listing = scan(self._open_folder, root, folder, entries=_SWEPT_ENTRIES, depth=0)
            except OSError:
                continue
            yield from (entry.parts for entry in listing.entries if swap.is_temporary(entry.parts[-1]))

    def _sweep_one(self, root: int, parts: Sequence[str]) -> bool:
        try:
            with self._folder(root, parts[:-1]) as folder:
                return swap.sweep(folder, parts[-1], limit=self.limits.write + 1)
        except OSError:
            return False

    @contextmanager
    def _root(self) -> Iterator[int]:
        try:
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise ToolError("the project folder cannot be opened; ask the human where it went") from None
        with _closing(root):
            yield root

    @contextmanager
    def _folder(self, root: int, names: Sequence[str]) -> Iterator[int]:
        with _closing(self._open_folder(root, names)) as folder:
            yield folder


def is_binary(content: bytes) -> bool:
    """Whether the content is no text: a NUL within its first 8 KiB."""
    return b"\0" in content[:_SNIFFED]


def _read(folder: int, name: str, path: str, limit: int) -> bytes:
    with os.fdopen(open_regular(folder, name), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise FileTooLarge(f"{path} is too large ({size:,} bytes): the limit is {_size(limit)}")
    return content


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _plainly(path: str) -> Iterator[None]:
    """Tells what the system refused in words for the model."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or f"cannot be used ({os.strerror(error.errno or 0).lower()})"
        raise ToolError(f"{path} {reason}") from None


_REASONS = {
    errno.ENOENT: "does not exist; list_files shows what there is",
    errno.ELOOP: "is a link, or behind one; links are not followed. Use the path it stands for",
    errno.ENOTDIR: "is not a folder, or goes through something that is none (links are not followed)",
    errno.EISDIR: "is a folder, not a file; list_files shows what is in it",
    errno.EINVAL: "is not a regular file (a pipe, socket or device), so tools leave it alone",
    errno.EACCES: "may not be touched: the system denies permission. Ask the human",
    errno.EPERM: "may not be touched: the system denies permission. Ask the human",
    errno.EROFS: "cannot be written: the file system is read-only. Ask the human",
    errno.ENOSPC: "cannot be written: the disk is full. Ask the human to make room",
    errno.EDQUOT: "cannot be written: the disk quota is used up. Ask the human to make room",
    errno.EFBIG: "cannot be written: the system allows no file of that size",
    errno.ENAMETOOLONG: "is too long a path for this file system; use a shorter one",
}


def _size(limit: int) -> str:
    return f"{limit:,} bytes" + (f" ({limit / MIB:g} MiB)" if limit >= MIB else "")
