"""The routes about a thread's past: its history, forks and rewinds, and clearing away."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from agent_service.agent.contract import (
    CHECKPOINT_ID_PATTERN,
    ForkRequest,
    Pruned,
    PruneRequest,
    RewindRequest,
    RewindResponse,
)
from agent_service.api.documentation import BODY, RUN, STATE, errors
from agent_service.api.error_codes import ErrorCode
from agent_service.api.json_route import StrictJsonRoute
from agent_service.api.parameters import IdempotencyKeyHeader, ThreadId
from agent_service.api.runs import idempotency_key, stored_response
from agent_service.api.schemas import ThreadDetail, ThreadHistory, ThreadRewound
from agent_service.api.services import PrincipalOf, ServicesOf
from checkpoints.idempotency import Finished

router = APIRouter(route_class=StrictJsonRoute)


@router.get(
    "/agents/threads/{thread_id}/history",
    summary="Show a thread's checkpoints",
    responses=errors(*STATE, ErrorCode.CHECKPOINT_NOT_FOUND, ErrorCode.INVALID),
)
async def show_history(
    thread_id: ThreadId,
    services: ServicesOf,
    principal: PrincipalOf,
    limit: Annotated[int, Query(ge=1, le=200, description="At most so many.")] = 50,
    before: Annotated[
        str | None,
        Query(pattern=CHECKPOINT_ID_PATTERN, description="Only those older than this checkpoint."),
    ] = None,
) -> ThreadHistory:
    """The moments to which the thread can go back, the newest first."""
    page = await services.agent.timeline.history(principal.name, thread_id, limit=limit, before=before)
    return ThreadHistory.of_page(thread_id, page)


@router.post(
    "/agents/threads/{thread_id}/fork",
    status_code=201,
    summary="Fork a thread",
    responses=errors(
        *BODY, *STATE, ErrorCode.CHECKPOINT_NOT_FOUND, ErrorCode.THREAD_BUSY, ErrorCode.KEY_REUSED
    ),
)
async def fork_thread(
    thread_id: ThreadId,
    request: Request,
    services: ServicesOf,
    principal: PrincipalOf,
    body: ForkRequest | None = None,
    repeat: IdempotencyKeyHeader = None,
) -> ThreadDetail:
    """A new thread with the history up to a checkpoint; what happens on one does not touch the other.

    Forked where the thread waits, the questions are open in both, each to be answered for itself.
    """
    key = idempotency_key(repeat, "fork", _about(thread_id, await request.body()))
    fork_id = await asyncio.shield(
        services.agent.timeline.fork(principal.name, thread_id, body or ForkRequest(), key)
    )
    return ThreadDetail.of_view(await services.agent.thread(principal, fork_id))


@router.post(
    "/agents/threads/{thread_id}/rewind",
    summary="Take a thread back",
    response_model=ThreadRewound,
    responses=errors(*RUN, ErrorCode.CHECKPOINT_NOT_FOUND),
)
async def rewind_thread(
    thread_id: ThreadId,
    body: RewindRequest,
    request: Request,
    services: ServicesOf,
    principal: PrincipalOf,
    repeat: IdempotencyKeyHeader = None,
) -> ThreadRewound | JSONResponse:
    """Go on from an earlier checkpoint. What came after it stays in the history, to be returned to.

    With `files` what the thread changed since is undone, too, but for files that somebody else changed.
    Questions that are open now are withdrawn. A question that was open then is not asked again by itself:
    send an instruction. A fork that is made while the thread waits keeps its questions open.
    """
    key = idempotency_key(repeat, "rewind", _about(thread_id, await request.body()))
    begun = await asyncio.shield(services.agent.timeline.rewind(principal.name, thread_id, body, key))
    stored = begun.response if isinstance(begun, Finished) else await stored_response(begun)
    if isinstance(stored, JSONResponse):
        return stored
    view = await services.agent.thread(principal, thread_id)
    return ThreadRewound.of_rewind(view, RewindResponse.model_validate_json(stored))


@router.post(
    "/agents/threads/prune",
    summary="Clear away old checkpoints and threads",
    responses=errors(*BODY, ErrorCode.DATABASE_UNAVAILABLE),
)
async def prune_threads(body: PruneRequest, services: ServicesOf, principal: PrincipalOf) -> Pruned:
    """Of the caller's own threads, none that runs or waits for an answer."""
    return await asyncio.shield(services.agent.timeline.prune(principal.name, body))


def _about(thread_id: str, raw: bytes) -> bytes:
    """What makes two requests the same one: a key is not bound to a path."""
    return thread_id.encode() + b"\0" + raw
