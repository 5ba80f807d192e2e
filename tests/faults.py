"""Ways in which a model server fails, and what a client of a gateway gets when a second server is healthy.

FAULTS["cut"].step        # for a ScriptedUpstream
verdict_on(url, ...)      # one of the words of `Verdict`
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import httpx
from aiohttp import web

from tests.upstream import (
    Step,
    bad_line,
    cut_after,
    drip,
    empty,
    error_in_200,
    gzip_bomb,
    hang,
    html,
    raw,
    redirect,
    says,
    status,
)

PRIMARY = "one two three four five six seven eight nine ten"
"""What the failing server would say."""
BACKUP = "an answer of the backup"
PATIENCE = 12.0
"""Seconds a client waits."""

Verdict = Literal["backup", "whole", "told", "half", "mixed", "error", "nothing", "hung", "lost"]
"""What the client got.

backup, whole: all of the backup's or of the first server's answer. told: a part, and then an error. half: a
part that looks as if it were all, or simply ends. mixed: words of both. error: an error and no words.
nothing: neither. hung: no end within PATIENCE. lost: a broken connection. A status other than 200 counts as
an error.
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to fail, and what a client should get of it."""

    step: Step
    stream: bool
    right: Verdict = "backup"


def reset() -> Step:
    """Drops the connection as soon as the request is there."""

    async def serve(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        await asyncio.sleep(0)
        return web.Response()

    return Step(serve)


def _events(*data: object) -> Step:
    """A stream of these, which ends as if all were well."""
    lines = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in data]
    return raw(*lines, b"data: [DONE]\n\n", content_type="text/event-stream")


def _choice(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "mock",
        "choices": [choice],
    }


def _in_both(step: Step, name: str) -> dict[str, Fault]:
    return {name: Fault(step, stream=False), f"{name}, stream": Fault(step, stream=True)}


_ROLE = _choice({"role": "assistant", "content": ""})
_TEXT = _choice({"content": "one two three "})
_TOO_LONG = "This model's maximum context length is 8192 tokens"

FAULTS: Mapping[str, Fault] = {
    **_in_both(status(429, retry_after=1), "429"),
    **_in_both(status(500), "500"),
    **_in_both(status(503), "503"),
    **_in_both(status(401, "Incorrect API key provided"), "401"),
    **_in_both(status(400, _TOO_LONG, error_code="context_length_exceeded"), "context window"),
    **_in_both(reset(), "connection reset"),
    **_in_both(hang(), "hang"),
    **_in_both(drip(), "drip of blanks"),
    **_in_both(empty(), "empty 200"),
    **_in_both(html(), "HTML"),
    **_in_both(redirect("http://127.0.0.1:9/"), "redirect"),
    **_in_both(gzip_bomb(80), "gzip bomb"),
    "malformed JSON": Fault(bad_line(), stream=False),
    "error inside a 200": Fault(error_in_200(), stream=False),
    "cut in the middle": Fault(cut_after(0), stream=False),
    "finish_reason error": Fault(says(PRIMARY, finish="error"), stream=False),
    "error before the text, stream": Fault(_events(_ROLE, {"error": {"message": "overloaded"}}), stream=True),
    "no text, stream": Fault(_events(_ROLE, _choice({}, "stop")), stream=True),
    "end before the text, stream": Fault(cut_after(1, PRIMARY), stream=True),
    "cut in the middle, stream": Fault(cut_after(5, PRIMARY), stream=True, right="told"),
    "error after text, stream": Fault(
        _events(_ROLE, _TEXT, {"error": {"message": "overloaded"}}), stream=True, right="told"
    ),
    "no finish_reason, stream": Fault(_events(_ROLE, _TEXT), stream=True, right="told"),
    "finish_reason error, stream": Fault(
        _events(_ROLE, _TEXT, _choice({}, "error")), stream=True, right="told"
    ),
    "one malformed event, stream": Fault(bad_line(PRIMARY), stream=True, right="whole"),
}


@dataclass(frozen=True, slots=True)
class _Heard:
    """What an answer says."""

    text: str
    has_error: bool
    is_ended: bool
    """Whether it says that this is all."""

    @classmethod
    def in_stream(cls, content: bytes) -> Self:
        lines = [line[5:].strip() for line in content.splitlines() if line.startswith(b"data:")]
        text, has_error, is_ended = "", False, b"[DONE]" in lines
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            has_error = has_error or "error" in event
            for choice in event.get("choices") or ():
                text += (choice.get("delta") or {}).get("content") or ""
                is_ended = is_ended or choice.get("finish_reason") == "stop"
        return cls(text, has_error, is_ended)

    @classmethod
    def whole(cls, content: bytes) -> Self:
        try:
            answer = json.loads(content)
            message = answer["choices"][0]["message"]
        except (ValueError, LookupError, TypeError):
            return cls("", has_error=b"error" in content, is_ended=True)
        return cls(message.get("content") or "", has_error="error" in answer, is_ended=True)

    def verdict(self) -> Verdict:
        words = self.text.split()
        if not words:
            return "error" if self.has_error else "nothing"
        if self.has_error:
            return "told"
        if "one" in words and "backup" in words:
            return "mixed"
        if self.is_ended and words in (PRIMARY.split(), BACKUP.split()):
            return "backup" if "backup" in words else "whole"
        return "half"


def verdict_on(url: str, body: Mapping[str, Any], headers: Mapping[str, str], *, stream: bool) -> Verdict:
    """Ask, and judge what came."""
    question = {**body, "stream": True} if stream else dict(body)
    content, until = b"", time.monotonic() + PATIENCE
    try:
        with httpx.stream(
            "POST", url, json=question, headers=dict(headers), timeout=PATIENCE, trust_env=False
        ) as answer:
            for piece in answer.iter_bytes():
                content += piece
                if time.monotonic() > until:
                    return "hung"
            if not answer.is_success:
                return "error"
    except httpx.TimeoutException:
        return "hung"
    except httpx.HTTPError:
        return "lost"
    return (_Heard.in_stream(content) if stream else _Heard.whole(content)).verdict()
