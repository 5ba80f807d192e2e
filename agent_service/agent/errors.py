"""Why a run ended early. Each message is shown as `error_details`."""

from __future__ import annotations


class RunEnded(Exception):
    """The run stops here; its thread can be continued."""

    code = "run_failed"


class LimitReached(RunEnded):
    """A limit of the run was reached; the message names it."""

    code = "limit_reached"


class RunCancelled(RunEnded):
    """The run was cancelled by the user."""

    code = "cancelled"

    def __init__(self) -> None:
        super().__init__("The run was cancelled by the user.")


class AnswerTruncated(RunEnded):
    """The model's answer is not whole."""

    code = "truncated"

    def __init__(self, why: str) -> None:
        super().__init__(f"The model's answer was cut off: {why}.")


class EmptyAnswer(RunEnded):
    """The model said nothing."""

    code = "empty_answer"

    def __init__(self) -> None:
        super().__init__("The model gave an empty answer; try again, or choose another model.")


class Misconfigured(RunEnded):
    """The run cannot work as things stand, for instance because the project folder is gone."""

    code = "misconfigured"


class InternalFault(RunEnded):
    """A fault of the service itself; the log has the details."""

    code = "internal"

    def __init__(self) -> None:
        super().__init__("The service failed at this run; its log says why, and the thread can be continued.")
