"""A routed stream on its way to the client: OpenAI's Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import orjson
from fastapi.responses import Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from agent_service.api.errors import error_object
from agent_service.api.presence import while_present
from checkpoints.errors import DatabaseUnusable
from routing.errors import RoutingError, StreamCut
from routing.stream import RoutedStream
from routing.usage import BudgetExceeded


class ChatStream(Response):
    """The stream as a response. It is closed however that ends, also when not a byte of it can be sent."""

    media_type = "text/event-stream"

    def __init__(self, routed: RoutedStream, headers: Mapping[str, str], *, wants_usage: bool) -> None:
        """Without `wants_usage` no chunk is passed on that holds nothing but usage, with it only the last."""
        # As StreamingResponse does; Response would say that the body has no bytes.
        self.status_code, self.background = 200, None
        self.init_headers({"Cache-Control": "no-cache", **headers})
        self._routed, self._wants_usage = routed, wants_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(ClientDisconnect):
                # A task of its own: each piece wakes it, and would wake all that called us, one by one.
                await while_present(receive, asyncio.create_task(self._pass_on(send)))
        finally:
            await self._routed.aclose()

    async def _pass_on(self, send: Send) -> None:
        """The provider's chunks as they came; an error event instead of `[DONE]` when they break off."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        ready = b""  # what came together is passed on together: to write is what costs most
        usage_told = b""  # asked for upstream in any case; some tell it early, too: the last is what counts
        try:
            async for chunk in self._routed:
                if chunk.data.get("choices"):
                    ready += b"data: " + chunk.raw + b"\n\n"
                elif self._wants_usage and chunk.data.get("usage"):
                    usage_told = b"data: " + chunk.raw + b"\n\n"
                if ready and not chunk.more:
                    await send({"type": "http.response.body", "body": ready, "more_body": True})
                    ready = b""
            ready += usage_told + b"data: [DONE]\n\n"
        except (RoutingError, SQLAlchemyError, DatabaseUnusable) as error:  # the latter from the budgets
            usage = error.usage if isinstance(error, StreamCut | BudgetExceeded) else None
            told = {"error": error_object(error), "usage": usage}
            ready += b"data: " + orjson.dumps(told) + b"\n\n"
        await send({"type": "http.response.body", "body": ready, "more_body": False})
