"""What is kept of finished work, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules that a service keeps by itself."""

    keep_checkpoints: int | None = None
    """So many of the newest checkpoints of a thread stay, soon after a run ends and nothing waits: its
    response does not wait for the older ones to go. None = all."""
    keep_events_days: int | None = 30
    """Events older than so many days go; None = none does."""

    @property
    def keep_events_seconds(self) -> float | None:
        """The same in seconds."""
        return None if self.keep_events_days is None else self.keep_events_days * 86400.0
