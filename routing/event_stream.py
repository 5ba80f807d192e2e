"""Server-Sent Events as chat providers write them, one `data:` line an event."""

from __future__ import annotations

from collections.abc import Iterator

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventLines:
    """Cuts pieces of bytes, split anywhere, into the payloads of `data:` lines.

    Works on bytes, so a character that is split between pieces is never looked at half. Each line is taken
    for itself, because providers do forget the blank line between two events. Comments, blank lines
    and other fields yield nothing.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self.event = ""
        """The `event:` field of the payload given last; empty if there was none."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The payloads that this piece completes."""
        if b"\n" not in piece:
            self._rest += piece
            return
        lines = (bytes(self._rest) + piece if self._rest else piece).split(b"\n")
        self._rest = bytearray(lines.pop())
        for line in lines:
            if not line:
                self.event = ""
            elif (payload := self._payload(line)) is not None:
                yield payload

    def finish(self) -> Iterator[bytes]:
        """The payload of a last line without an end, if there is one."""
        payload = self._payload(bytes(self._rest))
        self._rest.clear()
        if payload is not None:
            yield payload

    def _payload(self, line: bytes) -> bytes | None:
        if line.startswith(b"data:"):
            return line[5:].strip()
        if line.startswith(_BYTE_ORDER_MARK):  # which the specification allows at the beginning
            return self._payload(line[len(_BYTE_ORDER_MARK) :])
        if line.startswith(b"event:"):
            self.event = line[6:].strip().decode("ascii", "replace")
        elif line in (b"", b"\r"):
            self.event = ""
        return None
