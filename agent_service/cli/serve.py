"""`agent-service serve`: the HTTP service, until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from agent_service import __version__
from agent_service.app import Service
from agent_service.cli.connection import allowed_roots, answers_as_agent_service, default_url, url_of
from agent_service.cli.fault import Fault
from agent_service.cli.http_server import HttpServer, bind
from agent_service.cli.logs import configure_logging
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal
from agent_service.cli.wording import laid_out
from routing.errors import NoProviderConfigured

logger = logging.getLogger(__name__)

PROVIDERS_SHOWN = 6
SLOW_SECONDS = 3.0
"""After so long a start that is not over is explained."""


def serve(start: Start, further_roots: Sequence[Path], log_level: str) -> None:
    """Serve until SIGTERM or Ctrl-C, projects in `further_roots` too.

    Raises Fault and ConfigError when it cannot start.
    """
    configure_logging(log_level, start.secrets())
    listener = _listener(start)
    with listener:
        roots = {"agent.allowed_roots": allowed_roots(start, further_roots)} if further_roots else {}
        service = Service(start.launch(roots))
        welcome = _Welcome(service, url_of(*listener.getsockname()[:2]))
        slow = threading.Timer(SLOW_SECONDS, _tell_slow, [start])
        slow.daemon = True
        slow.start()

        def ready() -> None:
            slow.cancel()
            welcome.show()

        try:
            HttpServer(service, ready).run([listener])
        finally:
            slow.cancel()


def _tell_slow(start: Start) -> None:
    where = start.settings.database
    place = where if isinstance(where, Path) else "PostgreSQL"
    logger.warning("still starting: the database (%s) is opened; another service may be preparing it", place)


def _listener(start: Start) -> socket.socket:
    server = start.settings.server
    try:
        return bind(server.host, server.port)
    except Fault:
        if server.port and answers_as_agent_service(default_url(start)):
            raise Fault(
                f"A service runs already at {default_url(start)}; use it, or choose another --port."
            ) from None
        raise


class _Welcome:
    """What is said once the service answers: where it is, and a moment later which models it has."""

    def __init__(self, service: Service, url: str) -> None:
        self._service, self._url = service, url
        self._terminal = Terminal()
        self._looking: asyncio.Task[None] | None = None

    def show(self) -> None:
        """Say it; the models are looked for in the background."""
        out = self._terminal
        if out.live:
            out.gap()
            out.line(
                ("  agent-service ", "bold"), (__version__, "dim"), "  ready at ", (self._url, "bold cyan")
            )
            out.gap()
            out.line(("  docs    ", "dim"), f"{self._url}/docs")
        else:
            out.line(f"agent-service {__version__} is ready at {self._url}")
        self._looking = asyncio.get_running_loop().create_task(self._show_models())

    async def _show_models(self) -> None:
        out = self._terminal
        try:
            counts: dict[str, int] = {}
            named = {each.name: each.spec.name for each in await self._service.candidates()}
            for provider in named.values():
                counts[provider] = counts.get(provider, 0) + 1
            shown = [f"{name} ({count})" for name, count in counts.items()][:PROVIDERS_SHOWN]
            shown += ["…"] if len(counts) > PROVIDERS_SHOWN else []
            if out.live:
                out.line(("  models  ", "dim"), ", ".join(shown) or "none: no provider lists any")
        except NoProviderConfigured as none:
            first, *ways = laid_out(str(none))
            out.line(("  models  " if out.live else "", "yellow"), first)
            for way in ways:
                out.line(" " * 8 * out.live, way)
        if out.live:
            out.line(("  stop    ", "dim"), "Ctrl-C")
            out.gap()
