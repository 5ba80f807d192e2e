"""A scripted upstream for formats other than OpenAI's: any address, answered from a script of `Exchange`s.

    with WireUpstream([ANTHROPIC.says("hello")], judge=ANTHROPIC.judge) as upstream:
        ...  # point a provider at upstream.origin

`judge` raises for a request that the real service would refuse; it is then answered 400 and noted in
`refusals`. The other steps of `tests.upstream` (`status`, `hang`, `raw`, ...) may stand in the script too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.upstream import Recorded, ScriptedUpstream, Step

Event = tuple[str, Mapping[str, Any] | str]
"""The `event:` field (empty = there is none) and the data."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer, in both the forms that a request may ask for."""

    whole: Mapping[str, Any]
    events: Sequence[Event]

    def step(self, *, upto: int | None = None, cut: bool = False, insert: bytes = b"") -> Step:
        """Answer with it; its stream may end after `upto` events, by a broken connection if `cut`.

        `insert` is written amid the events.
        """

        async def serve(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            if not (body.get("stream") or ":stream" in request.path):
                return web.json_response(self.whole)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            written = [written_event(each) for each in self.events[:upto]]
            written.insert(len(written) // 2, insert)
            await response.write(b"".join(written))
            if cut and request.transport is not None:
                await asyncio.sleep(0.02)  # what was written leaves before the connection dies
                request.transport.abort()
            return response

        return Step(serve)


def written_event(event: Event) -> bytes:
    """The event as it stands on the wire."""
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {name}\n" if name else "").encode() + b"data: " + text.encode() + b"\n\n"


def refusal(status: int, body: Any, **headers: str) -> Step:
    """An error with exactly this body."""

    async def serve(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return Step(serve)


@dataclass
class WireUpstream(ScriptedUpstream):
    """The server, as a context manager. Posts are answered by the script, everything else by `pages`."""

    judge: Callable[[dict[str, Any]], object] = len
    paths: list[str] = field(default_factory=list, init=False)
    """Path and query of all that was asked."""

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._page(request)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return await self._page(request)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        if request.method != "POST":
            return await super()._page(request)
        body = json.loads(await request.read())
        self.requests.append(Recorded({name.lower(): v for name, v in request.headers.items()}, body))
        try:
            self.judge(body)
        except (ValueError, TypeError) as problem:
            self.refusals.append(str(problem))
            return web.json_response({"message": f"invalid request: {problem}"}, status=400)
        item = self._steps.popleft() if self._steps else self.otherwise
        if callable(item):
            item = item(body)
        assert isinstance(item, Step), "the script ended"
        try:
            return await item.serve(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.abandoned += 1
            raise
