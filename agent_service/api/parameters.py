"""Parameters that several routes of the agent share, described."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path
from pydantic import WithJsonSchema

ThreadId = Annotated[str, Path(description="The thread, as invoke named it.", examples=["greeter-1"])]

# Described here and judged by the routes: what is wrong with them is told in words of our own.
IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Makes a repeat safe: for 24 hours the same request with the same key is answered with "
        "the stored response, byte for byte; 409 `thread_busy` while the first one is being served, 422 "
        "with another body.",
        examples=["8f14e45f-ceea-467f-9575-1d4b2d1c7b8e"],
    ),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 255}),
]
LastEventIdHeader = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The `id` of the last event that was seen; the stream goes on after it. Browsers send it "
        "by themselves, and it counts more than `after`.",
        examples=["41"],
    ),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,18}$"}),
]
