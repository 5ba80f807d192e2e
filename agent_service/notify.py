"""Telling somebody outside that a question waits: a web hook, a command, or both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx

from agent_service.sections import NotifySettings
from checkpoints.events import StoredEvent

logger = logging.getLogger(__name__)

NOTIFY_SECONDS = 10.0
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS")
"""What the command sees of our environment; providers' keys are not its business."""


class Notifier:
    """Passes `question.opened` events on; a failure is logged and never touches the run."""

    def __init__(self, settings: NotifySettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = {name: environ[name] for name in _KEPT_VARIABLES if name in environ}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=NOTIFY_SECONDS)

    def notify(self, event: StoredEvent) -> None:
        """Tell of the event if it is a question; returns at once."""
        if event.kind != "question.opened" or not (self._settings.url or self._settings.command):
            return
        for told in (self._post, self._run):
            task = asyncio.create_task(told(event.data))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _post(self, body: bytes) -> None:
        if self._settings.url is None:
            return
        headers = {"Content-Type": "application/json"}
        try:
            async with httpx.AsyncClient(timeout=NOTIFY_SECONDS, trust_env=False) as client:
                (await client.post(self._settings.url, content=body, headers=headers)).raise_for_status()
        except httpx.HTTPError as error:
            logger.warning("notify.url could not be told of a question: %s", type(error).__name__)

    async def _run(self, body: bytes) -> None:
        """The command gets the event as JSON on its standard input."""
        if not self._settings.command:
            return
        try:
            process = await asyncio.create_subprocess_exec(
                *self._settings.command,
                env=self._environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            async with asyncio.timeout(NOTIFY_SECONDS):
                await process.communicate(body)
            if process.returncode:
                logger.warning("notify.command ended with %s", process.returncode)
        except TimeoutError:
            process.kill()
            logger.warning("notify.command did not end within %s seconds", NOTIFY_SECONDS)
        except OSError as error:
            logger.warning("notify.command could not be started: %s", error.strerror)
