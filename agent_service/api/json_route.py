"""Routes whose bodies are parsed strictly."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from agent_service.api.json_body import InvalidJson, parse_json


class BadJson(HTTPException):
    """The body is not JSON that we take."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class StrictJsonRequest(Request):
    """A request whose `json()` refuses what `json_body.parse_json` refuses, with BadJson."""

    async def json(self) -> Any:
        try:
            return parse_json(await self.body())
        except InvalidJson as error:
            raise BadJson(str(error)) from None


class StrictJsonRoute(APIRoute):
    """Hands a StrictJsonRequest to its endpoint."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictJsonRequest(request.scope, request.receive))

        return strictly
