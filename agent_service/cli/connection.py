"""Finding the service to talk to: a running one, else one of our own for as long as the command lasts."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from agent_service.cli.client import ServiceClient
from agent_service.cli.fault import Fault
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal
from agent_service.sections import is_wildcard
from agent_service.settings import home_folder

if TYPE_CHECKING:
    from agent_service.app import Launch
    from agent_service.cli.http_server import HttpServer

URL_VARIABLE, KEY_VARIABLE = "AGENT_SERVICE_URL", "AGENT_SERVICE_API_KEY"
PROBE_SECONDS = 2.0
SHUTDOWN_SECONDS = 20.0
HURRIED_SECONDS = 1.0
"""For a person who pressed Ctrl-C twice; what the run did is on disk, and it goes on at the next start."""
MAX_SOCKET_PATH = 100
"""Bytes; systems allow 104 to 108."""


@contextmanager
def connect(start: Start, project: Path | None = None, *, needs_keys: bool = True) -> Iterator[ServiceClient]:
    """A client of the running service at AGENT_SERVICE_URL or at the configured address, else of our own one.

    Always of our own one when a data folder was named: a running service may have another. Ours may work in
    `project`, and without `needs_keys` it starts though providers lack their keys, as no model will be asked.
    Raises Fault: nothing answers at AGENT_SERVICE_URL; ours cannot start.
    """
    url = running_service(start)
    own = own_service(start, project, needs_keys=needs_keys)
    with own if url is None else open_service(start, url) as client:
        yield client


def running_service(start: Start) -> str | None:
    """The address of the service to be used; None = none runs, or its data folder may be another one.

    Raises Fault: nothing answers at AGENT_SERVICE_URL.
    """
    named = start.environ.get(URL_VARIABLE)
    url = (named or default_url(start)).rstrip("/")
    running = answers_as_agent_service(url)
    if start.names_data_dir:
        if running:
            note = f"--data-dir is given, so the service running at {url} is not used."
            Terminal(to_stderr=True).line(("  · ", "dim"), (note, "dim"))
        return None
    if named and not running:
        raise Fault(f"No agent-service answers at {url}; start it, or unset {URL_VARIABLE}.")
    return url if running else None


@contextmanager
def open_service(start: Start, url: str) -> Iterator[ServiceClient]:
    """A client of the service at that address, with the key of the environment."""
    key = start.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as http:
        yield ServiceClient(http)


def default_url(start: Start) -> str:
    """Where a service with this configuration listens."""
    server = start.settings.server
    return url_of(server.host, server.port)


def url_of(host: str, port: int) -> str:
    """How this machine reaches what listens there."""
    if is_wildcard(host):
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def answers_as_agent_service(url: str) -> bool:
    """Whether one of us listens there. The key is not sent: something else may."""
    try:
        answer = httpx.get(url, timeout=PROBE_SECONDS, trust_env=False).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
    return isinstance(answer, dict) and answer.get("name") == "agent-service"


@contextmanager
def own_service(
    start: Start, project: Path | None = None, *, needs_keys: bool = True
) -> Iterator[ServiceClient]:
    """A service in this process, on a socket that only this user can reach; gone afterwards."""
    from agent_service.app import Service
    from agent_service.cli.http_server import HttpServer

    launch = _private_launch(start, project, needs_keys=needs_keys)
    with tempfile.TemporaryDirectory(prefix="agent-", dir=_socket_folder()) as folder:  # mode 0700
        socket_path = str(Path(folder) / "socket")
        ready = threading.Event()
        with _running(HttpServer(Service(launch), ready.set, uds=socket_path), ready):
            transport = httpx.HTTPTransport(uds=socket_path)
            with httpx.Client(base_url="http://localhost", transport=transport) as http:
                yield ServiceClient(http)


def _private_launch(start: Start, project: Path | None, *, needs_keys: bool) -> Launch:
    """As configured, but for ourselves alone: no keys, no port, and the project among the allowed folders."""
    return start.launch(
        {
            "server.host": "127.0.0.1",
            "server.port": 0,
            "server.api_keys": [],
            "agent.allowed_roots": allowed_roots(start, [project.resolve()] if project else []),
        },
        needs_keys=needs_keys,
    )


def allowed_roots(start: Start, further: Sequence[Path]) -> list[str]:
    """The folders that projects may be in as configured, and these."""
    usual = start.settings.effective_roots(
        Path.cwd(), home_folder(start.environ), Path(tempfile.gettempdir())
    )
    return [str(root) for root in dict.fromkeys((*usual, *further))]


@contextmanager
def _running(server: HttpServer, ready: threading.Event) -> Iterator[None]:
    """The server in a thread of its own, so that a person may take their time at a prompt in this one."""
    faults: list[Exception] = []

    def serve() -> None:
        try:
            server.run()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            faults.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=serve, name="agent-service", daemon=True)
    thread.start()
    ready.wait()
    if faults:
        raise faults[0]
    patience = SHUTDOWN_SECONDS
    try:
        yield
    except KeyboardInterrupt:
        patience = HURRIED_SECONDS
        raise
    finally:
        server.stop()
        thread.join(patience)


def _socket_folder() -> str | None:
    """None = the usual temporary folder, unless its name is too long for a socket's address."""
    long = len(tempfile.gettempdir()) + len("/agent-12345678/socket") > MAX_SOCKET_PATH
    return "/tmp" if long else None
