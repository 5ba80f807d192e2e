"""Watching a question while a person thinks about it: somebody else may answer first, or time run out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from agent_service.cli.event_stream import Event

_SIGNAL = signal.SIGURG
"""Ignored by default, so that one which comes too late does no harm."""
AGAIN_SECONDS = 0.2
"""A signal between a prompt and the wait for a key goes unnoticed, so it is sent until it is heard."""
LOOK_AGAIN_SECONDS = 1.0
"""How soon the service is asked again after its stream broke off."""


class Overtaken(Exception):
    """The question is not open any more; `event` tells why."""

    def __init__(self, event: Event) -> None:
        super().__init__(event["kind"])
        self.event = event


@contextmanager
def vigil(fate: Callable[[], Event | None]) -> Iterator[None]:
    """Raises Overtaken in the main thread, in the middle of whatever it does, once `fate` gives an event.

    `fate` waits for it in a thread of its own; None = it could not, and may be asked again.
    """
    main, over, found = threading.get_ident(), threading.Event(), list[Event]()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if found and not over.is_set():
            over.set()
            raise Overtaken(found[0])

    def watch() -> None:
        while not over.is_set() and not found:
            if event := fate():
                found.append(event)
            else:
                over.wait(LOOK_AGAIN_SECONDS)
        while not over.is_set():
            signal.pthread_kill(main, _SIGNAL)
            over.wait(AGAIN_SECONDS)

    before = signal.signal(_SIGNAL, interrupt)
    threading.Thread(target=watch, name="vigil", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.signal(_SIGNAL, before)
