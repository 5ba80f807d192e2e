"""A change of the configuration file is seen, however little the system helps with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from agent_service import watch
from agent_service.watch import watch_file


def seen(path: Path, change: Callable[[Path], object]) -> None:
    """The change is told of within some seconds."""

    async def scenario() -> None:
        told = asyncio.Event()

        async def changed() -> None:
            told.set()

        async with asyncio.timeout(20):
            watching = asyncio.create_task(watch_file(path, changed))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(change, path)
            await told.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(scenario())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "config.yaml"
    path.parent.mkdir()
    path.write_text("first")
    return path


def replace(path: Path) -> None:
    path.with_suffix(".new").write_text("first")
    path.with_suffix(".new").replace(path)


CHANGES: list[Callable[[Path], object]] = [
    lambda path: path.write_text("second"),
    lambda path: path.write_text("first and more"),
    replace,
    Path.unlink,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told_of(config: Path, change: Callable[[Path], object]) -> None:
    seen(config, change)


@pytest.mark.parametrize("change", CHANGES)
def test_also_where_the_system_has_no_watch_left(
    config: Path, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_watch_left(*_: Any, **__: Any) -> AsyncIterator[None]:
        raise OSError("OS file watch limit reached")
        yield

    monkeypatch.setattr(watchfiles, "awatch", no_watch_left)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)
    seen(config, change)


def test_a_file_may_come_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)

    def appear(config: Path) -> None:
        config.parent.mkdir()
        config.write_text("first")

    seen(tmp_path / "folder" / "config.yaml", appear)


def test_a_fault_of_what_is_told_is_not_taken_for_one_of_the_watch(config: Path) -> None:
    async def scenario(changed: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(watch_file(config, changed))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(config.write_text, "second")

    async def fails() -> None:
        raise OSError("told, and failed")

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(scenario(fails))
    assert raised.group_contains(OSError, match="told, and failed")
