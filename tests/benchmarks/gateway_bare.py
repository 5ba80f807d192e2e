"""The least that a gateway can be: FastAPI, one route, our transport, and another key put in.

Started as `python -P gateway_bare.py PORT BASE_URL`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import httpx
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from routing.transport import open_client

HEADERS = {"authorization": "Bearer sk-upstream", "content-type": "application/json"}


def bare_app(base_url: str) -> FastAPI:
    """Passes chat completions through."""
    app, client = FastAPI(), open_client()

    @app.post("/v1/chat/completions")
    async def pass_through(request: Request) -> Response:
        body = await request.body()
        streams = orjson.loads(body).get("stream")
        asked = client.build_request("POST", f"{base_url}/chat/completions", headers=HEADERS, content=body)
        answer = await client.send(asked, stream=True)
        kind = answer.headers.get("content-type", "")
        if streams:
            return StreamingResponse(_pieces(answer), answer.status_code, media_type=kind)
        content = b"".join([piece async for piece in answer.aiter_raw()])
        await answer.aclose()
        return Response(content, answer.status_code, media_type=kind)

    return app


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


if __name__ == "__main__":
    uvicorn.run(bare_app(sys.argv[2]), port=int(sys.argv[1]), log_level="error", access_log=False)
