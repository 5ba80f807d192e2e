"""The service as one or several processes on one database, to be killed and started again in no time.

They are forked from a process that has everything imported already: a start costs a tenth of what the
command takes, and runs the command's own code from `main` on.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml
from sqlalchemy import Row, Select, create_engine
from sqlalchemy.pool import NullPool

from agent_service.data_dir import STATE_FILE
from tests.e2e.mortal import Moments, serve
from tests.service import provider_row, wait_until
from tests.upstream import ScriptedUpstream

START_SECONDS = 30
_PRELOADED = (
    "tests.e2e.mortal",
    "agent_service.agent.runner",
    "agent_service.cli.commands",
    "agent_service.cli.serve",
)

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["__main__", *_PRELOADED])


class Down(Exception):
    """The service died before it answered."""


@dataclass(slots=True)
class _Replica:
    process: ForkServerProcess
    log: Path
    client: httpx.Client = field(default_factory=httpx.Client)
    killed: bool = False

    @property
    def is_dead(self) -> bool:
        if self.killed:
            self.process.join()
        return self.process.exitcode is not None

    def kill(self) -> None:
        with suppress(ValueError):  # it died by itself and was put away just now
            self.process.kill()
            self.killed = True

    def close(self) -> None:
        self.client.close()
        self.process.join()
        self.process.close()


class Deployment:
    """So many services on one database. Use it with `with`; killed replicas come back with `start`."""

    def __init__(
        self,
        home: Path,
        upstream: ScriptedUpstream,
        *,
        replicas: int = 1,
        database_url: str | None = None,
        **sections: Any,
    ) -> None:
        """`database_url`: as in the configuration; None is the SQLite file of the data folder."""
        self._home, self._config = home, home / "config.yaml"
        data = home / "data"
        self._rows = create_engine(
            database_url or f"sqlite:///{data / 'agent-service' / STATE_FILE}", poolclass=NullPool
        )
        state = {"state": {"url": database_url}} if database_url else {}
        self._config.write_text(
            yaml.safe_dump(
                {
                    "router": {"detect_local": False, "num_retries": 0},
                    "providers": {"up1": provider_row(upstream)},
                    **state,
                    **sections,
                }
            )
        )
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self._environ = {**kept, "HOME": str(home), "XDG_DATA_HOME": str(data)}
        self._replicas: list[_Replica | None] = [None] * replicas
        self._asked = self._starts = 0
        self.moments = Moments(home)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for replica in self._running():
            replica.kill()
            replica.close()
        self._rows.dispose()

    def start(self) -> Self:
        """Start what is not running, and wait until it answers, or has died again."""
        for number, replica in enumerate(self._replicas):
            if replica is None or replica.is_dead:
                self._replicas[number] = self._spawn()
                if replica is not None:
                    replica.close()
        for replica in self._running():
            wait_until(partial(_is_ready, replica), START_SECONDS)
        return self

    def has_died(self) -> bool:
        """Whether one of the replicas is not there any more."""
        return any(replica.is_dead for replica in self._running())

    def kill(self) -> None:
        """kill -9 to the replica that was asked last; from any thread."""
        self._asked_last().kill()

    def post(self, path: str, body: Mapping[str, Any], key: str) -> httpx.Response:
        """Send a request to one of the replicas, each in turn. Raises Down when that one dies over it."""
        self._asked += 1
        replica = self._asked_last()
        try:
            return replica.client.post(path, json=dict(body), headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            replica.process.join(5)
            assert replica.process.exitcode is not None, f"it lives, but does not answer: {error!r}"
            raise Down from error

    def client(self, number: int) -> httpx.Client:
        """The client of one replica, counted from 0."""
        replica = self._replicas[number]
        assert replica is not None
        return replica.client

    def kill_replica(self, number: int) -> None:
        """kill -9 to that one."""
        replica = self._replicas[number]
        assert replica is not None
        replica.kill()

    def get(self, path: str) -> Any:
        """The JSON at this path."""
        return self._running()[0].client.get(path).raise_for_status().json()

    def rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """What stands in the database."""
        with self._rows.connect() as connection:
            return connection.execute(query).all()

    def logs(self) -> str:
        """What the present replicas said so far."""
        return "".join(each.log.read_text() for each in self._running())

    def _spawn(self) -> _Replica:
        self._starts += 1
        log = self._home / f"service-{self._starts}.log"
        log.touch()
        words = ["--port", "0", "--config", str(self._config)]
        process = _processes.Process(target=serve, args=(words, self._environ, log, self._home), daemon=True)
        process.start()
        return _Replica(process, log)

    def _asked_last(self) -> _Replica:
        running = self._running()
        return running[self._asked % len(running)]

    def _running(self) -> list[_Replica]:
        return [replica for replica in self._replicas if replica is not None]


def _is_ready(replica: _Replica) -> bool:
    if replica.is_dead:
        return True
    found = re.search(r"http://127\.0\.0\.1:\d+", replica.log.read_text())
    if found:
        replica.client.close()
        replica.client = httpx.Client(base_url=found[0], timeout=START_SECONDS, trust_env=False)
    return found is not None
