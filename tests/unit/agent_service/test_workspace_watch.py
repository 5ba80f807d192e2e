"""Watching projects for followers, on real folders."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_service.agent.seen import fingerprint
from agent_service.agent.workspace_watch import MAX_WATCHED, WorkspaceWatch

SECONDS = 20.0


class Heard:
    """What one follower is told."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, paths: list[str]) -> None:
        self.paths += paths

    async def until(self, path: str, act: Callable[[int], object]) -> None:
        """Act again and again until the path is told: a watch takes its time to be set up."""
        async with asyncio.timeout(SECONDS):
            attempt = 0
            while path not in self.paths:
                act(attempt)
                attempt += 1
                await asyncio.sleep(0.02)


def run(scenario: Callable[[WorkspaceWatch], Awaitable[None]]) -> None:
    async def watched() -> None:
        async with WorkspaceWatch() as watch:
            await scenario(watch)

    asyncio.run(watched())


def test_each_thread_is_told_of_what_its_own_agent_did_not_write(project: Path) -> None:
    async def scenario(watch: WorkspaceWatch) -> None:
        ours, theirs = Heard(), Heard()
        with watch.follow("ours", project, ours), watch.follow("theirs", project, theirs):
            await ours.until("first", lambda n: (project / "first").write_text(f"{n}"))
            watch.wrote("ours", "sub/a.py", fingerprint(b"agent"))
            (project / "sub").mkdir()
            (project / "sub" / "a.py").write_bytes(b"agent")  # before the new folder can be watched
            await theirs.until("sub/a.py", lambda _: None)
            await ours.until("second", lambda n: (project / "second").write_text(f"{n}"))
            assert set(ours.paths) == {"first", "second"}
            (project / "sub" / "a.py").write_bytes(b"user")
            await ours.until("sub/a.py", lambda _: None)

    run(scenario)


def test_a_thread_is_told_once_however_often_it_is_followed(project: Path) -> None:
    async def scenario(watch: WorkspaceWatch) -> None:
        first, second, other = Heard(), Heard(), Heard()
        with watch.follow("t", project, first):
            with watch.follow("t", project, second), watch.follow("other", project, other):
                await other.until("a", lambda n: (project / "a").write_text(f"{n}"))
            await first.until("b", lambda n: (project / "b").write_text(f"{n}"))
        assert second.paths == []

    run(scenario)


def test_a_place_is_free_again_when_the_last_follower_has_left(tmp_path: Path) -> None:
    async def scenario(watch: WorkspaceWatch) -> None:
        projects = [tmp_path / f"p{number}" for number in range(MAX_WATCHED + 1)]
        for each in projects:
            each.mkdir()
        late, first, heard = projects[-1], Heard(), Heard()
        with ExitStack() as others:
            others.enter_context(watch.follow("t", projects[0], first))
            for each in projects[1:-1]:
                others.enter_context(watch.follow("t", each, Heard()))
            with watch.follow("late", late, heard):
                (late / "a").write_text("a")
                await first.until("a", lambda n: (projects[0] / "a").write_text(f"{n}"))
        assert heard.paths == []
        with watch.follow("late", late, heard):
            await heard.until("b", lambda n: (late / "b").write_text(f"{n}"))

    run(scenario)


def make_anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def test_a_folder_that_was_replaced_is_watched_again(project: Path) -> None:
    async def scenario(watch: WorkspaceWatch) -> None:
        heard = Heard()
        with watch.follow("t", project, heard):
            await heard.until("a", lambda n: (project / "a").write_text(f"{n}"))
            make_anew(project)
            await heard.until("b", lambda n: (project / "b").write_text(f"{n}"))
            move_away(project)
            make_anew(project)
            await heard.until("c", lambda n: (project / "c").write_text(f"{n}"))

    run(scenario)


def test_a_watch_that_cannot_be_had_is_given_up_quietly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent_service")

    async def scenario(watch: WorkspaceWatch) -> None:
        with watch.follow("t", tmp_path / "nowhere", Heard()):
            async with asyncio.timeout(SECONDS):
                while "is not watched for changes" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
                    await asyncio.sleep(0.01)
            watch.wrote("t", "a", fingerprint(b"a"))
            now_there, heard = tmp_path / "nowhere", Heard()
            make_anew(now_there)
            async with asyncio.timeout(SECONDS):
                while now_there in watch._projects:  # noqa: ASYNC110 - nor does a watch that ends
                    await asyncio.sleep(0.01)
            with watch.follow("u", now_there, heard):
                await heard.until("a", lambda n: (now_there / "a").write_text(f"{n}"))

    run(scenario)
    assert all(record.levelno == logging.INFO for record in caplog.records)
