"""Server-Sent Events as chat providers write them, one `data:` line an event."""

from __future__ import annotations

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""The specification allows it at the beginning."""


class EventLines:
    """Cuts pieces of bytes, split anywhere, into `data:` lines: the payload of each, and its `event:` if any.

    Works on bytes, so a character that is split between pieces is never looked at half. Each line is taken
    for itself, because providers do forget the blank line between two events. Comments, blank lines
    and other fields yield nothing.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._event = ""

    def feed(self, piece: bytes) -> list[tuple[bytes, str]]:
        """What this piece completes."""
        if self._rest:
            self._rest += piece
            if b"\n" not in piece:
                return []
            piece = bytes(self._rest)
            self._rest.clear()
        lines = piece.split(b"\n")
        rest = lines.pop()
        found = []
        for line in lines:
            if line[:5] == b"data:":
                found.append((line[5:].strip(), self._event))
            elif not line or line == b"\r":
                self._event = ""
            elif line.startswith(b"event:"):
                self._event = line[6:].strip().decode("ascii", "replace")
            elif line.startswith(_BYTE_ORDER_MARK):
                found += self.feed(line[len(_BYTE_ORDER_MARK) :] + b"\n")
        self._rest += rest
        return found

    def finish(self) -> list[tuple[bytes, str]]:
        """A last line without an end, if there is one."""
        return self.feed(b"\n")
