"""The log of the process: one plain line an event, on standard error, without secrets."""

from __future__ import annotations

import logging
from collections.abc import Collection

from agent_service.cli.terminal import printable
from routing.redaction import redact

_CHATTY = ("aiosqlite", "asyncio", "httpcore", "httpx", "uvicorn.error", "watchfiles")
"""Libraries whose everyday work is nobody's news."""


class RedactingFormatter(logging.Formatter):
    """Lines in which known secrets, and whatever looks like a key, are masked; tracebacks included."""

    def __init__(self, secrets: Collection[str]) -> None:
        """`secrets` may grow later."""
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record), tuple(self._secrets)))


def configure_logging(level: str, secrets: Collection[str]) -> None:
    """Log to standard error from that level on (a name of `logging`, any case)."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
