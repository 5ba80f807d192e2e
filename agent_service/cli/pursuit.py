"""A run's events to their end, whatever becomes of the connection on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from agent_service.cli.client import Begin, Refused, ServiceClient
from agent_service.cli.event_stream import Event, Events
from agent_service.cli.fault import Disconnected

RECONNECT_SECONDS = 60.0
"""How long a service that went away is waited for."""
POLL_SECONDS = 0.5


class Pursuit:
    """One run of a thread, from the request that asks for it."""

    def __init__(
        self, client: ServiceClient, thread_id: str, begin: Begin, broke_off: Callable[[], None]
    ) -> None:
        """`broke_off` is called when the service went away, once each time."""
        self._client, self._thread_id, self._begin = client, thread_id, begin
        self._broke_off = broke_off
        self._last: Event | None = None

    def events(self) -> Events:
        """Every event once, `run.finished` as the last. Raises Refused; Disconnected: it stays away."""
        give_up: float | None = None
        while True:
            try:
                with closing(self._connected()) as events:
                    for event in events:
                        self._last, give_up = event, None
                        yield event
                        if event["kind"] == "run.finished":
                            return
            except Disconnected:
                if give_up is None:
                    self._broke_off()
                    give_up = time.monotonic() + RECONNECT_SECONDS
                if time.monotonic() > give_up:
                    raise
            time.sleep(POLL_SECONDS)

    def _connected(self) -> Events:
        """The events that are still to come, for as long as a connection lasts.

        Before the first one nobody knows whether the request arrived, so it is made again: what it did is
        done once, and no other run on the thread is taken for this one.
        """
        if self._last is not None:
            yield from self._client.follow(self._last)
            return
        run_id: str | None = None
        while True:
            try:
                yield from self._begin()
                return
            except Refused as refused:
                if not refused.is_repeated:
                    raise
            if run_id is not None:  # ours went on before and after we asked which one does
                break
            run_id = self._client.thread(self._thread_id)["run_id"]
        yield from self._client.follow({"thread_id": self._thread_id, "run_id": run_id, "seq": 0})
