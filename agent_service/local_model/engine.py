"""The engine as this service sees it: started when it is needed, stopped when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agent_service.local_model.weights import Weights

READY_SECONDS = 120.0
IDLE_SECONDS = 600.0
"""After so long without a request the process is stopped and its memory free again."""
STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05
_LOG_TAIL = 12
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


class EngineError(Exception):
    """The engine cannot be started, or stopped by itself. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a running engine listens, and the key it wants."""

    base_url: str
    """Ends in `/v1`."""
    api_key: str


def engine_available() -> bool:
    """Whether the engine's package is installed; does not import it."""
    return importlib.util.find_spec("xllamacpp") is not None


class LocalEngine:
    """One child process at most. `use()` starts it; it stops after a while of nobody using it."""

    def __init__(
        self,
        weights: Weights,
        file: Path,
        log: Path,
        *,
        environ: Mapping[str, str],
        port: int = 0,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._weights, self._file, self._log = weights, file, log
        self._environ = environ
        self._port = port
        self._idle_seconds = idle_seconds
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._endpoint: Endpoint | None = None
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[Endpoint]:
        """The running engine, kept running while the context is. Raises EngineError."""
        self._users += 1
        self._cancel_idle()
        try:
            yield await self._started()
        finally:
            self._users -= 1
            if not self._users:
                loop = asyncio.get_running_loop()
                self._idle = loop.call_later(self._idle_seconds, self._stop_if_idle)

    async def aclose(self) -> None:
        """Stop the child: politely, then at once."""
        self._cancel_idle()
        async with self._starting:
            await self._stop()
        await asyncio.gather(*self._stopping, return_exceptions=True)

    async def _started(self) -> Endpoint:
        async with self._starting:
            if self.pid is not None and self._endpoint is not None:
                return self._endpoint
            self._check()
            try:
                with TemporaryDirectory(prefix="agent-service-engine-") as folder:
                    return await self._start(Path(folder) / "address")
            except OSError as error:
                raise EngineError(f"the embedded engine cannot be started: {error}") from error

    def _check(self) -> None:
        if not engine_available():
            raise EngineError("the embedded engine is not installed: pip install 'agent-service[local]'")
        free = available_memory()
        if free is not None and free < self._weights.memory:
            raise EngineError(
                f"the embedded model needs {self._weights.memory / 1e9:.1f} GB of free memory and there are "
                f"{free / 1e9:.1f} GB; close something, or configure another provider"
            )

    async def _start(self, ready: Path) -> Endpoint:
        key = secrets.token_urlsafe(32)
        with contextlib.suppress(FileNotFoundError):
            self._log.replace(self._log.with_suffix(".previous.log"))
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "agent_service.local_model.child",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env=self._child_environment(key, ready),
                start_new_session=True,  # a Ctrl-C at the terminal is for the service
            )
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not (address := _read(ready)):
                    if self._process.returncode is not None:
                        raise EngineError(f"the embedded engine stopped while starting.{self._last_words()}")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            await self._stop()
            raise EngineError(f"the embedded engine was not ready in time.{self._last_words()}") from None
        except BaseException:
            await self._stop()
            raise
        self._endpoint = Endpoint(f"{address}/v1", key)
        return self._endpoint

    def _child_environment(self, key: str, ready: Path) -> dict[str, str]:
        return {
            **{name: self._environ[name] for name in _KEPT_VARIABLES if name in self._environ},
            "LOCAL_MODEL_FILE": str(self._file),
            "LOCAL_MODEL_NAME": self._weights.name,
            "LOCAL_MODEL_API_KEY": key,
            "LOCAL_MODEL_PORT": str(self._port),
            "LOCAL_MODEL_READY_FILE": str(ready),
            "LOCAL_MODEL_PARENT": str(os.getpid()),
            # Spinning threads made generation five times slower on busy cores (measured).
            "OMP_WAIT_POLICY": "passive",
            "GOMP_SPINCOUNT": "0",
        }

    async def _stop(self) -> None:
        process, self._process, self._endpoint = self._process, None, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _stop_if_idle(self) -> None:
        task = asyncio.ensure_future(self._stop_unless_used())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stop_unless_used(self) -> None:
        async with self._starting:
            if not self._users:
                await self._stop()

    def _cancel_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _last_words(self) -> str:
        lines = _read(self._log).strip().splitlines()[-_LOG_TAIL:]
        return f" Its log ({self._log}) ends: " + " | ".join(lines) if lines else f" See {self._log}."


def _read(path: Path) -> str:
    """The file's text; empty while there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say (proc(5), MemAvailable)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith("MemAvailable:")]
    return int(found[0].split()[1]) * 1024 if found else None
