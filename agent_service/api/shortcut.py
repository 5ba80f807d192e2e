"""A way past the framework for the hottest routes.

FastAPI matches routes, solves dependencies and keeps stacks of what to close, and each layer of middleware
handles every piece of a stream; together that costs more than to choose a model and ask it. The routes stay
in the application, for its documentation and for other methods. Requests for them are answered by the same
functions, and errors by the same handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from agent_service.api.json_route import StrictJsonRequest

Endpoint = Callable[[Request], Awaitable[Response]]


class Shortcut:
    """The application, with a shortcut for POST requests to some of its paths."""

    def __init__(self, app: FastAPI, paths: Iterable[str], endpoint: Endpoint) -> None:
        self._app, self._paths, self._endpoint = app, frozenset(paths), endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        request = StrictJsonRequest(scope, receive, send)
        try:
            response = await self._endpoint(request)
        except Exception as error:  # noqa: BLE001 - the application handles all of them, each in its way
            response = await self._told(request, error)
        await response(scope, receive, send)

    async def _told(self, request: Request, error: Exception) -> Response:
        """The answer of the application's handler for such errors."""
        for kind in type(error).__mro__:
            if handle := self._app.exception_handlers.get(kind):
                told = handle(request, error)
                return told if isinstance(told, Response) else await told
        raise error
