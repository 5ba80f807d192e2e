"""A scripted model behind a real OpenAI-compatible HTTP server on 127.0.0.1.

    with ScriptedUpstream([calls(("read_file", {"filepath": "a.txt"})), "It says hello."]) as upstream:
        ...  # point a provider at upstream.base_url
        assert upstream.requests[0].body["messages"][0]["role"] == "system"

Each chat request takes the next step of the script: a text, `says`, `calls`, one of the faults, or a
function from the request's body to a step. It streams when the request asks for it. Histories are judged
as the strictest providers judge them: a wrong one is answered 400, noted in `refusals`, and takes no step.

The server runs in a thread with a loop of its own, so synchronous and asynchronous tests use it alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import threading
import uuid
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.history import objection

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """A chat request as it arrived. Header names are lower-case."""

    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What the upstream does with one chat request."""

    serve: Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


ScriptItem = Step | str | Callable[[dict[str, Any]], "Step | str"]
Call = tuple[str, Mapping[str, Any] | str] | tuple[str, Mapping[str, Any] | str, str]
"""Name and arguments (a string is sent as it is), and the id if the test wants to choose it."""


def says(text: str, *, finish: str = "stop", usage: tuple[int, int] = (11, 7)) -> Step:
    """An answer in plain text. `usage` is prompt and completion tokens."""
    return _answers({"role": "assistant", "content": text}, finish, usage)


def calls(*wanted: Call, text: str | None = None, usage: tuple[int, int] = (11, 7)) -> Step:
    """An answer with tool calls, and prose beside them if `text` is given. Ids are fresh unless chosen."""
    tool_calls = []
    for name, arguments, *chosen in wanted:
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        call_id = chosen[0] if chosen else f"call_{uuid.uuid4().hex[:16]}"
        tool_calls.append(
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": written}}
        )
    return _answers({"role": "assistant", "content": text, "tool_calls": tool_calls}, "tool_calls", usage)


def status(
    code: int, message: str = "", *, error_code: str | None = None, retry_after: str | float | None = None
) -> Step:
    """An error with OpenAI's error object; `retry_after` in seconds or as the header's own text."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    error = {"message": message or f"scripted {code}", "type": "scripted", "param": None, "code": error_code}

    async def serve(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": error}, status=code, headers=headers)

    return Step(serve)


def endless_refusal(code: int = 503) -> Step:
    """An error whose body begins and never ends."""

    async def serve(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(status=code)
        await response.prepare(request)
        await response.write(b'{"error": ')
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return Step(serve)


def raw(*pieces: bytes, content_type: str = "application/json", pause: float = 0.0) -> Step:
    """A 200 with exactly these bytes, one network write a piece, `pause` seconds apart."""

    async def serve(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(pause)
        return response

    return Step(serve)


def html() -> Step:
    """A 200 with a web page, as from a captive portal."""
    return raw(b"<!doctype html><title>Sign in</title>", content_type="text/html")


def empty() -> Step:
    """A 200 with no body at all. (An answer without content is `says("")`.)"""
    return raw()


def error_in_200(message: str = "upstream exploded", code: int | str | None = None) -> Step:
    """A 200 that carries an error object; in a stream an error event after the first text."""
    error = {"error": {"message": message, "type": "server_error", "code": code}}

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            return web.json_response(error)
        first = _chunks(body, {"role": "assistant", "content": "some text"}, "stop", None)
        return await _events(request, [next(first), next(first), error])

    return Step(serve)


def hang() -> Step:
    """Takes the request and never answers."""

    async def serve(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return Step(serve)


def drip(every: float = 0.02, saying: bytes = b": still here") -> Step:
    """Keeps the connection warm for ever without content: comments in a stream, blanks otherwise.

    `saying` is what it sends in a stream instead of comments.
    """

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = _prepared(body)
        await response.prepare(request)
        while True:
            await response.write(saying + b"\n\n" if body.get("stream") else b" ")
            await asyncio.sleep(every)

    return Step(serve)


def cut_after(events: int, text: str = "one two three four five six seven eight") -> Step:
    """Drops the connection after so many events of a streamed `text`, or half-way through a whole answer."""

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        message = {"role": "assistant", "content": text}
        response = _prepared(body)
        if not body.get("stream"):
            whole = json.dumps(_completion(body, message, "stop", (11, 7))).encode()
            response.content_length = len(whole)
            await response.prepare(request)
            await response.write(whole[: len(whole) // 2])
        else:
            await response.prepare(request)
            for _, chunk in zip(range(events), _chunks(body, message, "stop", (11, 7)), strict=False):
                await response.write(_event(chunk))
        await asyncio.sleep(0.02)  # what was written leaves before the connection dies
        if request.transport is not None:
            request.transport.abort()
        return response

    return Step(serve)


def unfinished(text: str = "half an answer") -> Step:
    """A stream that ends in good order, but without a finish reason."""

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        whole = list(_chunks(body, {"role": "assistant", "content": text}, "stop", None))
        return await _events(request, whole[:-1])

    return Step(serve)


def bad_line(text: str = "whole despite it") -> Step:
    """A stream with one undecodable line in its middle; a broken JSON document otherwise."""

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = _prepared(body)
        await response.prepare(request)
        if not body.get("stream"):
            await response.write(b'{"choices": [{"message"')
            return response
        events = list(_chunks(body, {"role": "assistant", "content": text}, "stop", (11, 7)))
        written = [_event(each) for each in events]
        written.insert(2, b'data: {"choices": [{"del\xff\n\n')
        await response.write(b"".join(written) + b"data: [DONE]\n\n")
        return response

    return Step(serve)


def gzip_bomb(mebibytes: int = 400) -> Step:
    """A gzip body nobody asked for: some kilobytes on the wire, `mebibytes` of blanks when unpacked."""

    async def serve(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        # A fully flushed block stands for itself, so one compressed mebibyte may be sent any number of times.
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        block = packer.compress(b" " * MEBIBYTE) + packer.flush(zlib.Z_FULL_FLUSH)
        header = gzip.compress(b"", mtime=0)[:10]
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(header)
        for _ in range(mebibytes):
            await response.write(block)
        return response

    return Step(serve)


def flood(mebibytes: int = 65) -> Step:
    """An answer of so many mebibytes, not compressed."""

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = _prepared(body)
        await response.prepare(request)
        for _ in range(mebibytes):
            await response.write(b" " * MEBIBYTE)
        return response

    return Step(serve)


def redirect(to: str) -> Step:
    """A 307 to another address."""

    async def serve(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": to})

    return Step(serve)


def wait(event: threading.Event, then: Step | str = "released") -> Step:
    """Holds the request until the test sets `event`, then goes on with `then`."""

    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        while not event.is_set():  # noqa: ASYNC110 - the event belongs to the test's thread, not to this loop
            await asyncio.sleep(0.005)
        return await _as_step(then, body).serve(request, body)

    return Step(serve)


@dataclass
class ScriptedUpstream:
    """The server, as a context manager. All attributes may be read while it runs."""

    script: Iterable[ScriptItem] = ()
    otherwise: ScriptItem | None = None
    """The step for every request after the script's end; without it they are answered 400."""
    models: tuple[str | dict[str, Any], ...] = ("scripted-model",)
    """What `GET /v1/models` lists: ids or whole entries."""
    api_key: str | None = None
    """If given, other bearer keys are answered 401, with the key echoed as some providers do."""
    pages: Mapping[str, Any] = field(default_factory=dict)
    """Further paths and the JSON they answer with, to GET and POST."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every answer, such as `Server`."""

    requests: list[Recorded] = field(default_factory=list, init=False)
    """All chat requests in order, refused ones included."""
    lookups: list[str] = field(default_factory=list, init=False)
    """`METHOD /path` of everything else that was asked."""
    refusals: list[str] = field(default_factory=list, init=False)
    """Why requests were found wrong; a sound client leaves it empty."""
    abandoned: int = field(default=0, init=False)
    """How many chat requests the client left before their end."""
    port: int = field(default=0, init=False)

    @property
    def base_url(self) -> str:
        """For providers: ends in `/v1`."""
        return f"{self.origin}/v1"

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [each.body for each in self.requests]

    @property
    def steps_left(self) -> int:
        return len(self._steps)

    def then(self, *steps: ScriptItem) -> None:
        """Add steps to the end of the script."""
        self._steps.extend(steps)

    def __post_init__(self) -> None:
        self._steps = deque(self.script)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-upstream", daemon=True)
        self._thread.start()
        self._exit = contextlib.AsyncExitStack()
        self._run(self._exit.enter_async_context(self._serving()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._exit.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=64 * MEBIBYTE)
        app.on_response_prepare.append(self._add_headers)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_route("*", "/{path:.*}", self._page)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    async def _add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self.headers)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Recorded(headers, body))
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if self.api_key is not None and given != self.api_key:
            return _error(401, f"Incorrect API key provided: {given}.", "invalid_api_key")
        if problem := objection(body):
            self.refusals.append(problem)
            return _error(400, problem, "invalid_history")
        if not self._steps and self.otherwise is None:
            return _error(400, f"the script ended before request {len(self.requests)}", "script_ended")
        item = self._steps.popleft() if self._steps else self.otherwise
        assert item is not None
        try:
            return await _as_step(item, body).serve(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.abandoned += 1
            raise

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self.lookups.append(f"{request.method} {request.path}")
        entries = [
            {"id": each, "object": "model", "owned_by": "tests"} if isinstance(each, str) else each
            for each in self.models
        ]
        return web.json_response({"object": "list", "data": entries})

    async def _page(self, request: web.Request) -> web.StreamResponse:
        self.lookups.append(f"{request.method} {request.path}")
        if request.path in self.pages:
            return web.json_response(self.pages[request.path])
        return _error(404, f"no such page: {request.path}", "not_found")


def _as_step(item: ScriptItem, body: dict[str, Any]) -> Step:
    if isinstance(item, str):
        return says(item)
    return item if isinstance(item, Step) else _as_step(item(body), body)


def _error(code: int, message: str, error_code: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": error_code}
    return web.json_response({"error": error}, status=code)


def _answers(message: dict[str, Any], finish: str, usage: tuple[int, int]) -> Step:
    async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            return web.json_response(_completion(body, message, finish, usage))
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        return await _events(request, _chunks(body, message, finish, usage if wants_usage else None))

    return Step(serve)


def _completion(
    body: dict[str, Any], message: dict[str, Any], finish: str, usage: tuple[int, int]
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": _usage(usage),
    }


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


def _chunks(
    body: dict[str, Any], message: dict[str, Any], finish: str, usage: tuple[int, int] | None
) -> Iterator[dict[str, Any]]:
    """The message as OpenAI streams it: the role, text word by word, each call's name, then its arguments."""
    frame = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000}
    frame |= {"model": body.get("model")}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for word in re.findall(r"\S+\s*|\s+", message.get("content") or ""):
        yield chunk({"content": word})
    for index, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        head = {**call, "index": index, "function": {"name": name, "arguments": ""}}
        yield chunk({"tool_calls": [head]})
        size = max(16, len(arguments) // 256)
        for start in range(0, len(arguments), size):
            piece = {"index": index, "function": {"arguments": arguments[start : start + size]}}
            yield chunk({"tool_calls": [piece]})
    yield chunk({}, finish)
    if usage is not None:
        yield {**frame, "choices": [], "usage": _usage(usage)}


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def _prepared(body: dict[str, Any]) -> web.StreamResponse:
    kind = "text/event-stream" if body.get("stream") else "application/json"
    return web.StreamResponse(headers={"Content-Type": kind})


async def _events(request: web.Request, chunks: Iterable[dict[str, Any]]) -> web.StreamResponse:
    response = _prepared({"stream": True})
    await response.prepare(request)
    for each in chunks:
        await response.write(_event(each))
    await response.write(b"data: [DONE]\n\n")
    return response
