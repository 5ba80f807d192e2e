"""The service as a process of its own, to be killed and started again over the same data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.service import provider_row
from tests.upstream import ScriptedUpstream

START_SECONDS = 30


class ServiceProcess:
    """`agent-service serve` below `home`, on a free port; `start` again after `kill`."""

    def __init__(self, home: Path, upstream: ScriptedUpstream, **sections: Any) -> None:
        self._config = home / "config.yaml"
        self._config.write_text(
            yaml.safe_dump(
                {
                    "router": {"detect_local": False, "num_retries": 0},
                    "agent": {"allowed_roots": [str(home)]},
                    "providers": {"up1": provider_row(upstream)},
                    **sections,
                }
            )
        )
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self._environ = {**kept, "HOME": str(home), "XDG_DATA_HOME": str(home / "data")}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, launcher: Sequence[str] = ("-m", "agent_service")) -> Self:
        """Start, and wait until it says where it listens. `launcher` is how Python is to run it."""
        words = ["serve", "--port", "0", "--config", str(self._config)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", *launcher, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environ,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.client = httpx.Client(base_url=found[0], timeout=START_SECONDS, trust_env=False)
                return self
        self.kill()
        raise AssertionError("the service did not start")

    def kill(self) -> None:
        """kill -9."""
        with suppress(AttributeError):
            self.client.close()
        self.process.kill()
        self.process.communicate()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        self.process.communicate(timeout=20)
        return self.process.returncode

    def thread(self, thread_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get(f"/v1/agents/threads/{thread_id}").raise_for_status().json()
        return shown
