"""Tells followers of a thread, while they look on, that somebody else changed its project.

A convenience only: what the agent may do, and what the model is told, rests on hashes (`agent.drift`). So a
watch that cannot be had is not missed, and the system, which allows few watches, is not pressed for more.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from agent_service.agent.seen import UNREADABLE, fingerprint
from agent_service.events import MAX_PATHS
from tools.errors import FileTooLarge, ToolError
from tools.listing import Kind
from tools.swap import is_temporary
from tools.workspace import Workspace

logger = logging.getLogger(__name__)

MAX_WATCHED = 16
"""Projects watched at a time; Linux allows a user 128 watchers by default, editors want some of them too."""
QUIET_MS = 100
GATHERED_MS = 1_000
"""Changes are told after so long without a further one, or after so long in all."""
STOP_MS = 500
"""How soon a watch that is needed no more ends, and one whose folder was replaced begins anew."""
MOST_LOOKED_AT = 2_000
"""Files of one batch that are looked at; a branch that is switched may touch more."""
_OWN_KEPT = 8
"""Latest writes of the agent to one file that are known to be its own."""
_STOP_SECONDS = 2.0

Tell = Callable[[list[str]], Awaitable[None]]
Batch = dict[str, str]
"""Path -> the fingerprint of what is there now."""


@dataclass(slots=True)
class _Follower:
    """A thread whose events somebody follows."""

    tell: Tell
    count: int = 0
    own: dict[str, deque[str]] = field(default_factory=dict)
    """What its agent wrote lately."""

    def foreign(self, batch: Batch) -> list[str]:
        return sorted(path for path, found in batch.items() if found not in self.own.get(path, ()))


@dataclass(slots=True)
class _Project:
    followers: dict[str, _Follower] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class WorkspaceWatch:
    """One watch for each project that is followed, at most MAX_WATCHED. Use it with `async with`."""

    def __init__(self) -> None:
        self._projects: dict[Path, _Project] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def follow(self, thread_id: str, root: Path, tell: Tell) -> Iterator[None]:
        """Have `tell` called with the paths that somebody else changed, for as long as the context lasts.

        A thread is told once however often it is followed. Beyond MAX_WATCHED projects nothing is told.
        """
        project = self._projects.get(root)
        if project is None and len(self._projects) >= MAX_WATCHED:
            yield
            return
        if project is None:
            project = self._projects[root] = _Project()
            project.task = self._start(root, project)
        follower = project.followers.setdefault(thread_id, _Follower(tell))
        follower.count += 1
        try:
            yield
        finally:
            follower.count -= 1
            if not follower.count:
                del project.followers[thread_id]
            if not project.followers and self._projects.get(root) is project:
                del self._projects[root]
                if project.task is not None:
                    project.task.cancel()

    def wrote(self, thread_id: str, path: str, found: str) -> None:
        """Know that the thread's agent is about to write this; before, so that no batch comes first."""
        for project in self._projects.values():
            if follower := project.followers.get(thread_id):
                follower.own.setdefault(path, deque(maxlen=_OWN_KEPT)).append(found)

    def _start(self, root: Path, project: _Project) -> asyncio.Task[None]:
        async def watched() -> None:
            await _watch(root, project)
            if self._projects.get(root) is project:  # it could not be had: whoever comes next may try again
                del self._projects[root]

        task = asyncio.create_task(watched())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _watch(root: Path, project: _Project) -> None:
    loop, stop = asyncio.get_running_loop(), threading.Event()
    batches: asyncio.Queue[Batch | None] = asyncio.Queue()

    def deliver(batch: Batch | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
            loop.call_soon_threadsafe(batches.put_nowait, batch)

    # A thread of its own: to set up a watch walks through the whole project.
    thread = threading.Thread(target=_look, args=(root, stop, deliver), name=f"watch {root}", daemon=True)
    thread.start()
    try:
        while (batch := await batches.get()) is not None:
            for follower in list(project.followers.values()):
                await _tell(follower, batch)
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, _STOP_SECONDS)


async def _tell(follower: _Follower, batch: Batch) -> None:
    foreign = follower.foreign(batch)
    for path in foreign:
        follower.own.pop(path, None)  # should the agent's content come back, somebody else brought it
    if foreign:
        try:
            await follower.tell(foreign[:MAX_PATHS])
        except Exception:  # one who cannot be told does not keep the others from hearing
            logger.exception("could not tell of changed files")


def _look(root: Path, stop: threading.Event, deliver: Callable[[Batch | None], None]) -> None:
    """Deliver batches of changed files until told to stop; None at the end, also when watching fails."""
    workspace = Workspace(root)
    try:
        while not stop.is_set():
            _look_at(workspace, workspace.identity, stop, deliver)
            while not root.is_dir() and not stop.wait(STOP_MS / 1000):
                pass  # it was moved away, and another one may come in its place
    except (OSError, RuntimeError, ToolError) as error:  # no such folder, too many watches
        logger.info("%s is not watched for changes, the hashes do without: %s", root, error)
    finally:
        deliver(None)


def _look_at(
    workspace: Workspace, identity: str, stop: threading.Event, deliver: Callable[[Batch | None], None]
) -> None:
    """The same for as long as the folder is that one: a watch stays with what it was set up on."""
    from watchfiles import Change, DefaultFilter, watch  # most services are never followed

    root, usual = workspace.root, DefaultFilter()

    def is_wanted(change: Change, path: str) -> bool:
        relative = path.removeprefix(f"{root}/")
        return usual(change, relative) and not is_temporary(Path(relative).name)

    for changes in watch(
        root,
        watch_filter=is_wanted,
        debounce=GATHERED_MS,
        step=QUIET_MS,
        stop_event=stop,
        rust_timeout=STOP_MS,
        yield_on_timeout=True,
    ):
        paths = {path.removeprefix(f"{root}/"): change for change, path in changes}
        added = [path for path, change in paths.items() if change is Change.added]
        within = {each for path in added for each in _within(path, workspace)}
        wanted = {*paths, *(each for each in within if is_wanted(Change.added, each))}
        if batch := _present(sorted(wanted)[:MOST_LOOKED_AT], workspace):
            deliver(batch)
        if not _is_still(workspace, identity):
            return


def _is_still(workspace: Workspace, identity: str) -> bool:
    try:
        return workspace.identity == identity
    except ToolError:
        return False


def _within(path: str, workspace: Workspace) -> list[str]:
    """The files below a new folder: what is put into it at once comes before it is watched."""
    if not (workspace.root / path).is_dir():
        return []
    try:
        entries = workspace.list(path).entries
    except ToolError:
        return []
    return ["/".join(entry.parts) for entry in entries if entry.kind is Kind.FILE]


def _present(paths: Iterable[str], workspace: Workspace) -> Batch:
    """What the files are now; folders, links and protected files are left out."""
    batch: Batch = {}
    for path in paths:
        try:
            batch[path] = fingerprint(workspace.current(path))
        except FileTooLarge:
            batch[path] = UNREADABLE
        except ToolError:
            continue
    return batch
