"""What ends a command early, in words for a person."""

from __future__ import annotations

COMPLETED, FAILED, WRONG_USAGE, WAITING = range(4)
"""Exit codes. WAITING: the thread waits for an answer."""
INTERRUPTED = 130
"""Of a run that was cancelled; what shells expect of a program that Ctrl-C ended (128 + SIGINT)."""


class Fault(Exception):
    """The command cannot go on; the message says what to do. Shown as `agent-service: <message>`."""

    code = "failed"
    """For programs."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        if exit_code == WRONG_USAGE:
            self.code = "invalid_request"


class Disconnected(Fault):
    """The service left in the middle, or cannot be reached."""

    code = "disconnected"


def fault_of(error: Exception) -> Fault | None:
    """The error as a Fault if it is one that a person can do something about; None for a fault of ours."""
    if isinstance(error, Fault):
        return error
    from agent_service.config_file import ConfigError
    from checkpoints.errors import DatabaseUnusable
    from routing.errors import RoutingError

    if isinstance(error, ConfigError):
        return Fault(str(error), WRONG_USAGE)
    return Fault(str(error)) if isinstance(error, DatabaseUnusable | RoutingError) else None
