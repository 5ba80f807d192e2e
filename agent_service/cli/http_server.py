"""The service behind uvicorn: slow clients are let go, and a signal lets runs leave off before it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import orjson
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agent_service.api.error_codes import ErrorCode
from agent_service.app import Service
from agent_service.cli.fault import Fault, fault_of
from agent_service.cli.garbage import SETTLED_SECONDS, settle

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 << 10
"""The longest head of a request that is read, rounded up to what one read from the socket brings."""
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\nconnection: close\r\n\r\n"
    + orjson.dumps(ErrorCode.HEAD_TOO_LARGE.body("The head of the request is too large."))
)
HEAD_SECONDS = 20.0
"""How long a connection may take to send a request's head."""
IDLE_SECONDS = 30
"""How long a connection is kept for a further request."""
GRACEFUL_SECONDS = 16
"""How long a shutdown waits for answers under way: a little longer than the steps in flight may take."""
LAST_SECONDS = 19.0
"""After this long a shutdown ends at once. Nothing is lost: runs go on from their last checkpoint."""


class HttpServer(uvicorn.Server):
    """Serves until a signal comes; the second signal ends the process at once."""

    def __init__(self, service: Service, ready: Callable[[], None], **options: Any) -> None:
        """`ready` is called once, when requests are answered; `options` are uvicorn's, such as `uds`."""
        self._service, self._ready = service, ready
        self._lifespan = _WatchedLifespan(service.asgi)
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(
            uvicorn.Config(
                self._lifespan,
                http=PatientProtocol,
                ws="none",
                loop="uvloop",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=GRACEFUL_SECONDS,
                **options,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end. Raises Fault when the service cannot start."""
        try:
            super().run(sockets)
        except SystemExit:
            raise self._start_fault() from None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        log = logging.getLogger("uvicorn.error")
        level = log.level
        log.setLevel(logging.CRITICAL)  # why a start fails is told by us, once
        try:
            await super().startup(sockets)
        finally:
            log.setLevel(level)
        if not self.should_exit:
            self._ready()
            self._loop.call_later(SETTLED_SECONDS, settle)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.tasks:
            logger.info("stopping; steps under way may end first (a second signal stops at once)")
        await super().shutdown(sockets)

    def stop(self) -> None:
        """Begin to shut down, from any thread."""
        self.should_exit = True
        if self._loop is not None and self.started:
            self._loop.call_soon_threadsafe(self._service.drain)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            sys.stderr.write("agent-service: stopped at once; runs go on at the next start\n")
            sys.stderr.flush()
            os._exit(128 + sig)
        self.stop()
        limit = threading.Timer(LAST_SECONDS, os._exit, (0,))
        limit.daemon = True
        limit.start()

    def _start_fault(self) -> Fault:
        error = self._lifespan.error
        if isinstance(error, Exception) and (fault := fault_of(error)):
            return fault
        logger.error("the service could not start", exc_info=error)
        return Fault("The service could not start; the log above says why.")


class PatientProtocol(HttpToolsProtocol):
    """Lets go of clients that do not get their request's head out in time."""

    _waiting: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waiting is None:
            return
        self._head_bytes += len(data)  # the head is not whole yet
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._forget()
        self._head_bytes = 0
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class _WatchedLifespan:
    """The application; remembers why its start failed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, _without_traceback(send))
        except BaseException as error:
            self.error = error
            raise


def _without_traceback(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        await send({**message, "message": ""} if message["type"] == "lifespan.startup.failed" else message)

    return wrapped


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Fault with what to do when there can be none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise Fault(
            f"{host} is no address of this machine ({error.strerror}); choose one with --host."
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise Fault(
            f"Cannot listen on {host} port {port}: {error.strerror}; choose others with --host and --port."
        ) from None
    return listener
