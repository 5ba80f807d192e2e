"""The way past the framework: the same answers, and the same answers to errors."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from agent_service.api.shortcut import Shortcut


class Odd(ValueError):
    """An error whose class has a handler only through its parent."""


def _app() -> Shortcut:
    app = FastAPI()

    @app.exception_handler(ValueError)
    async def refuse(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "why": str(error)}, status_code=418)

    @app.post("/hot")
    async def by_the_framework() -> str:
        return "the long way"

    async def endpoint(request: Request) -> Response:
        assert request.app is app
        body = await request.json()
        if body["fails"]:
            raise {"odd": Odd("odd it is"), "unknown": LookupError("nobody knows")}[body["fails"]]
        return PlainTextResponse("the short way")

    return Shortcut(app, ["/hot"], endpoint)


def _ask(method: str, path: str, fails: str = "") -> httpx.Response:
    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, json={"fails": fails})

    return asyncio.run(scenario())


def test_post_takes_the_short_way() -> None:
    assert _ask("POST", "/hot").text == "the short way"


def test_everything_else_is_the_applications() -> None:
    assert _ask("GET", "/hot").status_code == 405
    assert _ask("POST", "/other").status_code == 404
    assert "/hot" in _ask("GET", "/openapi.json").json()["paths"]


def test_errors_are_answered_by_the_applications_handlers() -> None:
    answer = _ask("POST", "/hot", "odd")
    assert (answer.status_code, answer.json()) == (418, {"path": "/hot", "why": "odd it is"})


def test_an_error_without_handler_is_raised() -> None:
    with pytest.raises(LookupError, match="nobody knows"):
        _ask("POST", "/hot", "unknown")
