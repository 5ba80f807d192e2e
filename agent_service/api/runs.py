"""What the routes that begin runs share: the Idempotency-Key, and waiting for the stored response."""

from __future__ import annotations

import asyncio
import hashlib

from fastapi.responses import JSONResponse

from agent_service.agent.supervisor import ActiveRun
from agent_service.api.error_codes import ErrorCode
from agent_service.api.errors import error_answer
from agent_service.errors import InvalidRequest
from checkpoints.idempotency import IdempotencyKey

MAX_KEY_LENGTH = 255


def idempotency_key(key: str | None, route: str, raw: bytes) -> IdempotencyKey | None:
    """The request's key if it has one; `raw` is what a repeat must have in common with it.

    Raises InvalidRequest.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest("Idempotency-Key", f"It must have 1 to {MAX_KEY_LENGTH} characters.")
    return IdempotencyKey(route, key, hashlib.sha256(raw).hexdigest())


async def stored_response(begun: ActiveRun) -> bytes | JSONResponse:
    """The run's response once it is stored; an answer for the client when a shutdown comes first."""
    try:
        return await asyncio.shield(begun.response)
    except asyncio.CancelledError:
        if not begun.response.cancelled():
            raise
        return error_answer(
            ErrorCode.SHUTTING_DOWN,
            "The service is shutting down; the run goes on when it is back.",
            headers={"Retry-After": "5"},
        )
