"""Lines of a streamed answer that are no event by themselves: parts of one, broken characters, noise."""

from __future__ import annotations

import re

from routing.answers import decode
from routing.types import ChatChunk

MOST_BYTES = 256 << 10
MOST_LINES = 200
"""Of one event: what goes on for longer is none."""
_CALL = re.compile(rb'(?i)(?:tool|function)(?!_calls?"\s*:\s*(?:null|\[\s*\]))')
"""Stands in each event of any format that begins a call; not where some always say that there is none."""


class Gaps:
    """Makes of such lines what can be made of them, and remembers what could not.

    An event may have several `data:` lines, which belong together by the SSE specification. Each line is
    tried by itself all the same, because providers do forget the blank line between two events.
    """

    def __init__(self) -> None:
        self.open = b""
        """The beginning of an event of which the rest may come."""
        self.lost = False
        """Whether a part of the answer is missing."""
        self.lost_call = False
        """Whether that may have been the beginning of a call."""
        self._lines = 0

    def read(self, line: bytes, *, exact: bool) -> ChatChunk | None:
        """The event that this line completes, if it does.

        Characters that are no UTF-8 are replaced by U+FFFD, except in calls, and not at all when `exact`.
        """
        if self.open:
            return self._go_on(line)
        if b"{" not in line:
            return None  # a blank, or words to keep the connection open
        replaced = line.decode("utf-8", "replace").encode()
        if replaced != line and not exact and not _CALL.search(line) and (event := decode(replaced)):
            return event
        self.open, self._lines = line, 1
        return None

    def close(self) -> None:
        """What is open does not go on."""
        if self.open:
            self.lose(self.open)

    def lose(self, text: bytes) -> None:
        """Take note of a part of the answer that makes no sense."""
        self.open, self.lost = b"", True
        self.lost_call = self.lost_call or _CALL.search(text) is not None

    def _go_on(self, line: bytes) -> ChatChunk | None:
        self.open += b"\n" + line
        self._lines += 1
        event = decode(self.open) if line.endswith(b"}") else None
        if event is not None:
            self.open = b""
            # Between the tokens of JSON, where alone a line can end, a blank is as good.
            return ChatChunk(event.raw.replace(b"\n", b" "), event.data)
        if self._lines >= MOST_LINES or len(self.open) > MOST_BYTES:
            self.close()
        return None
