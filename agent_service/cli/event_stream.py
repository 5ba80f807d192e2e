"""The service's events as they come out of a stream, and those of one run among them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import orjson

from agent_service.cli.fault import Disconnected

Event = dict[str, Any]
Events = Generator[Event, None, None]
"""Those of one run; close it to leave early."""


def server_sent_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The `data` of each event of a stream (WHATWG HTML, section 9.2), decoded.

    Lines end at a line feed only: text in the JSON may hold other characters that end lines elsewhere.
    """
    rest, data = b"", b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data += line[5:].strip()
            elif not line.strip() and data:
                yield orjson.loads(data)
                data = b""


def of_run(events: Events, run_id: str | None = None) -> Events:
    """Those of one run, up to `run.finished`; without a name of whichever run there is."""
    with closing(events):
        for event in events:
            if run_id is None or event["run_id"] == run_id:
                yield event
                if event["kind"] == "run.finished":
                    return


def of_latest_instruction(events: Events, run_id: str) -> Events:
    """Those of a run and of the runs that it goes on from, up to its `run.finished`."""
    before: list[Event] = []
    reached = False
    with closing(events):
        for event in events:
            reached = reached or event["run_id"] == run_id
            if event["kind"] == "run.started" and not event.get("resumed"):
                before.clear()
            if event["kind"] != "run.finished" or event["run_id"] == run_id:
                before.append(event)
            if reached:
                yield from before
                before.clear()
                if event["kind"] == "run.finished":
                    return


def replayed(events: Events, seconds: float) -> Events:
    """The events until for so long nothing is told but what others change. Then raises Disconnected."""
    since = time.monotonic()
    with closing(events):
        for event in events:
            if event["kind"] != "workspace.changed":
                since = time.monotonic()
            elif time.monotonic() > since + seconds:
                raise Disconnected("The run has no further events.")
            yield event
