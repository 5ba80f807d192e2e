"""All rows of threads behind one value, so that it can be passed as one."""

from __future__ import annotations

from dataclasses import dataclass

from checkpoints.database import Database
from checkpoints.events import EventLog
from checkpoints.journal import EffectJournal
from checkpoints.questions import QuestionStore
from checkpoints.runs import RunStore
from checkpoints.threads import ThreadStore


@dataclass(frozen=True, slots=True)
class Stores:
    """Threads, their runs, questions, effects and events, in one database."""

    database: Database
    log: EventLog
    threads: ThreadStore
    runs: RunStore
    questions: QuestionStore
    journal: EffectJournal

    @classmethod
    def on(cls, database: Database) -> Stores:
        """The stores of that database."""
        log = EventLog(database)
        return cls(
            database,
            log,
            ThreadStore(database),
            RunStore(database, log),
            QuestionStore(database, log),
            EffectJournal(database, log),
        )
