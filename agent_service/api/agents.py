"""The routes of the agent: invoke, resume, and its threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any
from uuid import uuid4

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from agent_service import events
from agent_service.agent.code_agent import CodeAgent
from agent_service.agent.contract import CodeAgentRequest, CodeAgentResponse, ResumeRequest, RunAccepted
from agent_service.agent.supervisor import ActiveRun
from agent_service.api.cursor import read_cursor
from agent_service.api.documentation import MODEL, RUN, SENT, STATE, THREAD, errors, event_stream
from agent_service.api.error_codes import ErrorCode
from agent_service.api.json_route import StrictJsonRoute
from agent_service.api.parameters import IdempotencyKeyHeader, LastEventIdHeader, ThreadId
from agent_service.api.runs import idempotency_key, stored_response
from agent_service.api.schemas import ThreadDetail, ThreadDiff, ThreadList, ThreadMessages
from agent_service.api.services import PrincipalOf, ServicesOf
from agent_service.events import KEEP_ALIVE, encode_sse
from checkpoints.idempotency import Finished
from checkpoints.threads import ThreadStatus
from routing.types import AUTO
from tools.diff import unified_diff

router = APIRouter(route_class=StrictJsonRoute)

KEEP_ALIVE_SECONDS = 15.0
_SSE_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
Begin = Callable[[], Awaitable[ActiveRun | Finished]]

_RUN: dict[int | str, dict[str, Any]] = {
    200: event_stream("The outcome; with `stream` the events of the run."),
    202: {"model": RunAccepted, "description": "With `background`: the run goes on by itself."},
}


@router.post(
    "/agents/code/invoke",
    summary="Give the agent an instruction",
    response_model=CodeAgentResponse,
    responses={**_RUN, **errors(*RUN, *MODEL, ErrorCode.QUESTION_OPEN)},
)
async def invoke(
    body: CodeAgentRequest,
    request: Request,
    services: ServicesOf,
    principal: PrincipalOf,
    repeat: IdempotencyKeyHeader = None,
) -> Response:
    """Start a thread, or go on with one. The run belongs to the service: leaving does not stop it."""
    key = idempotency_key(repeat, "invoke", await request.body())
    if earlier := await services.agent.replay(principal, key):
        return _answer_again(request, body, earlier)
    await services.models.check(body.model or AUTO, body.provider)
    raw = _documented_fields(body)
    body = body.model_copy(update={"thread_id": body.thread_id or str(uuid4())})

    async def begin() -> ActiveRun | Finished:
        return await services.agent.invoke(principal, body, raw, key)

    return await _respond(request, services.agent, body, begin)


@router.post(
    "/agents/resume",
    summary="Answer a question of the agent",
    response_model=CodeAgentResponse,
    responses={
        **_RUN,
        **errors(
            *RUN,
            ErrorCode.NOT_WAITING,
            ErrorCode.ALREADY_ANSWERED,
            ErrorCode.ANSWER_UNCLEAR,
            ErrorCode.NO_PROVIDER,
        ),
    },
)
async def resume(
    body: ResumeRequest,
    request: Request,
    services: ServicesOf,
    principal: PrincipalOf,
    repeat: IdempotencyKeyHeader = None,
) -> Response:
    """The first answer wins; the same answer again gives the thread's present outcome."""
    key = idempotency_key(repeat, "resume", await request.body())
    if earlier := await services.agent.replay(principal, key):
        return _answer_again(request, body, earlier)
    await services.models.require_any()  # before the answer is taken: it must not be used up for nothing
    raw = _documented_fields(body)

    async def begin() -> ActiveRun | Finished:
        return await services.agent.resume(principal, body, raw, key)

    return await _respond(request, services.agent, body, begin)


@router.get(
    "/agents/threads",
    summary="List threads",
    responses=errors(ErrorCode.INVALID, ErrorCode.DATABASE_UNAVAILABLE),
)
async def list_threads(
    services: ServicesOf,
    principal: PrincipalOf,
    status: Annotated[ThreadStatus | None, Query(description="Only those.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="At most so many.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=256, description="The `next_cursor` of the page before.")
    ] = None,
) -> ThreadList:
    """The caller's threads, the latest first."""
    after = read_cursor(cursor) if cursor else None
    found = await services.agent.threads(principal, status=status, limit=limit + 1, after=after)
    return ThreadList.of_records(found, limit)


@router.get("/agents/threads/{thread_id}", summary="Show a thread", responses=errors(*STATE))
async def show_thread(thread_id: ThreadId, services: ServicesOf, principal: PrincipalOf) -> ThreadDetail:
    """The thread and its latest run."""
    return ThreadDetail.of_view(await services.agent.thread(principal, thread_id))


@router.get(
    "/agents/threads/{thread_id}/messages",
    summary="Show a conversation",
    responses=errors(*STATE),
)
async def show_messages(thread_id: ThreadId, services: ServicesOf, principal: PrincipalOf) -> ThreadMessages:
    """All messages, with the tool calls and their answers."""
    messages = await services.agent.messages(principal, thread_id)
    return ThreadMessages(thread_id=thread_id, messages=messages)


@router.delete(
    "/agents/threads/{thread_id}",
    status_code=204,
    summary="Delete a thread",
    response_description="It is gone.",
    responses=errors(*THREAD, ErrorCode.THREAD_BUSY),
)
async def delete_thread(thread_id: ThreadId, services: ServicesOf, principal: PrincipalOf) -> None:
    """Delete the thread and all that is kept of it; files in the project stay as they are."""
    await asyncio.shield(services.agent.delete(principal, thread_id))


@router.get("/agents/threads/{thread_id}/diff", summary="What a thread changed", responses=errors(*STATE))
async def show_diff(thread_id: ThreadId, services: ServicesOf, principal: PrincipalOf) -> ThreadDiff:
    """One unified diff of all that the thread changed."""
    changes = await services.agent.changes(principal, thread_id)
    diffs = [await asyncio.to_thread(unified_diff, c.path, c.before, c.after) for c in changes]
    return ThreadDiff(thread_id=thread_id, diff="".join(diffs))


@router.get(
    "/agents/threads/{thread_id}/events",
    summary="Follow a thread",
    response_class=StreamingResponse,
    responses={200: event_stream("The thread's events."), **errors(*STATE, ErrorCode.INVALID)},
)
async def follow_thread(
    thread_id: ThreadId,
    services: ServicesOf,
    principal: PrincipalOf,
    after: Annotated[
        int | None,
        Query(ge=0, description="The number of the last event that was seen; 0: all that are kept."),
    ] = None,
    last_event_id: LastEventIdHeader = None,
) -> StreamingResponse:
    """The thread's events after the number given as `Last-Event-ID` or `after`, and then as they come.

    Without a number: from now on; with `after=0` all that are kept.
    """
    record = (await services.agent.thread(principal, thread_id)).record
    latest = record.last_event
    wanted = next((number for number in (_number(last_event_id), after) if number is not None), latest)
    start = min(latest, wanted)

    async def stream() -> AsyncIterator[bytes]:
        with services.agent.feed.follow(thread_id, record.created_at) as subscription:
            yield KEEP_ALIVE
            async with services.agent.watching(principal.name, thread_id):
                async for event in subscription.events(start, KEEP_ALIVE_SECONDS):
                    yield encode_sse(event) if event else KEEP_ALIVE

    return _sse(stream())


@router.post(
    "/agents/threads/{thread_id}/cancel",
    summary="Stop a thread",
    responses=errors(*SENT, *STATE, ErrorCode.THREAD_BUSY),
)
async def cancel_thread(thread_id: ThreadId, services: ServicesOf, principal: PrincipalOf) -> ThreadDetail:
    """Stop the run under way, or withdraw the open questions; the thread is idle afterwards."""
    return ThreadDetail.of_view(await asyncio.shield(services.agent.cancel(principal, thread_id)))


async def _respond(
    request: Request, agent: CodeAgent, body: CodeAgentRequest | ResumeRequest, begin: Begin
) -> Response:
    """Begin the run, then answer in the way that was asked for."""
    if _wants_stream(request, body):
        stream = _run_events(agent, body.thread_id or "", begin)
        first = await anext(stream)  # what is wrong with the request is told by a status, before any event
        return _sse(_chain(first, stream))
    begun = await asyncio.shield(asyncio.ensure_future(begin()))
    if isinstance(begun, Finished):
        return _answer_again(request, body, begun)
    if body.background:
        return _accepted(begun.run.thread_id, begun.run.run_id)
    stored = await stored_response(begun)
    return Response(stored, media_type="application/json") if isinstance(stored, bytes) else stored


def _wants_stream(request: Request, body: CodeAgentRequest | ResumeRequest) -> bool:
    asked = body.stream or "text/event-stream" in request.headers.get("accept", "")
    return asked and not body.background


def _answer_again(request: Request, body: CodeAgentRequest | ResumeRequest, earlier: Finished) -> Response:
    """The stored response, in the way that was asked for."""
    if not body.background and not _wants_stream(request, body):
        return Response(earlier.response, media_type="application/json")
    finished = _run_finished(earlier)
    if body.background:
        return _accepted(finished.thread_id, finished.run_id)
    return Response(encode_sse(finished), media_type="text/event-stream", headers=_SSE_HEADERS)


def _run_finished(earlier: Finished) -> events.RunFinished:
    response = orjson.loads(earlier.response)
    return events.RunFinished(thread_id=response["thread_id"], run_id=response["run_id"], response=response)


def _accepted(thread_id: ThreadId, run_id: str) -> JSONResponse:
    return JSONResponse(RunAccepted(thread_id=thread_id, run_id=run_id).model_dump(), status_code=202)


def _documented_fields(body: CodeAgentRequest | ResumeRequest) -> bytes:
    """What is kept of a request, and echoed: the fields that were given and mean something."""
    return body.model_dump_json(exclude_unset=True).encode()


async def _run_events(agent: CodeAgent, thread_id: str, begin: Begin) -> AsyncIterator[bytes]:
    """The run's events from its start to its end."""
    with agent.feed.follow(thread_id) as subscription:
        standing = await agent.standing(thread_id)
        begun = await asyncio.shield(asyncio.ensure_future(begin()))
        if isinstance(begun, Finished):
            yield encode_sse(_run_finished(begun))
            return
        # What was read before belongs to another thread if that one was deleted meanwhile.
        after = standing.last if standing and standing.born == subscription.born else 0
        async with agent.watching(begun.run.principal, thread_id):
            async for event in subscription.events(after, KEEP_ALIVE_SECONDS):
                if event is None:
                    yield KEEP_ALIVE
                elif event.run_id == begun.run.run_id:
                    yield encode_sse(event)
                    if event.kind == "run.finished":
                        return


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _sse(stream: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(stream, media_type="text/event-stream", headers=_SSE_HEADERS)


def _number(last_event_id: str | None) -> int | None:
    """What a client has seen before it was cut off; text that is no number of ours counts as nothing."""
    text = last_event_id or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
