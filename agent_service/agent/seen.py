"""What the agent knows of the project's files: which content of each it saw or wrote last.

In the graph's state this is a list of short texts that only grows, so that a checkpoint costs what is new in
it, and a fork or a rewind of the conversation brings back what was known then:

`<SHA-256> <path>`        the content that was seen; `absent` in place of the hash for a file that was deleted
`told:<SHA-256> <path>`   the model was told that somebody else left this content there
`heard:<SHA-256> <path>`  whoever follows the thread was told so

The latest text about a path counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from checkpoints.journal import content_hash
from tools.paths import normalise

ABSENT = "absent"
UNREADABLE = "unreadable"
"""In place of a hash: something that is no readable file stands there now, or a huge one."""
_TOLD, _HEARD = "told:", "heard:"


def fingerprint(content: bytes | None) -> str:
    """The content as it is noted: its hash, or `absent`."""
    return content_hash(content) or ABSENT


class SeenFiles:
    """The knowledge of one thread during a run. What is noted here must go into the graph's state, too."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self.drift: dict[str, str] = {}
        """What was found changed at the start of the run: path -> fingerprint."""
        self._unsaved: list[str] = []
        self.load(entries)

    def load(self, entries: Iterable[str]) -> None:
        """Know what these entries say, and nothing else."""
        self._seen: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._heard: dict[str, str] = {}
        for entry in entries:
            self._take(entry)

    def last(self, path: str) -> str | None:
        """The fingerprint of what was seen last at the path; None if it was never seen."""
        return self._seen.get(path)

    def all(self) -> Mapping[str, str]:
        """All paths that were seen, with the last fingerprint."""
        return self._seen

    def untold(self) -> dict[str, str]:
        """The drift that the model does not know of: neither told, nor seen by itself since."""
        return {
            path: found
            for path, found in self.drift.items()
            if found not in (self._seen.get(path), self._told.get(path))
        }

    def unheard(self) -> dict[str, str]:
        """The part of it that those who follow the thread do not know of either."""
        return {path: found for path, found in self.untold().items() if self._heard.get(path) != found}

    def saw(self, path: str, found: str) -> list[str]:
        """Note what is seen at a path now; gives the entries that are new."""
        self.drift.pop(path, None)
        return self.recall(path, found)

    def recall(self, path: str, found: str) -> list[str]:
        """Note what was seen at a path before this run; gives the entries that are new."""
        if self._seen.get(path) == found:
            return []
        return [self._take(f"{found} {path}")]

    def tell(self, drift: Mapping[str, str]) -> list[str]:
        """Note that the model is told of this drift; gives the entries that are new."""
        return [self._take(f"{_TOLD}{found} {path}") for path, found in drift.items()]

    def hear(self, drift: Mapping[str, str]) -> None:
        """Note that followers were told of this drift; the entries are among the unsaved ones."""
        self._unsaved += [self._take(f"{_HEARD}{found} {path}") for path, found in drift.items()]

    def unsaved(self) -> list[str]:
        """The entries from before the first step of the run, for the one that is finished first."""
        entries, self._unsaved = self._unsaved, []
        return entries

    def _take(self, entry: str) -> str:
        found, _, path = entry.partition(" ")
        if found.startswith(_TOLD):
            self._told[path] = found.removeprefix(_TOLD)
        elif found.startswith(_HEARD):
            self._heard[path] = found.removeprefix(_HEARD)
        else:
            self._seen[path] = found
            for known in (self._told, self._heard):
                known.pop(path, None)  # should the older content come back, that is news again
        return entry


class CallNotes:
    """What one tool call adds to the knowledge; `entries` go into the state with the call's answer."""

    def __init__(
        self, seen: SeenFiles, writing: Callable[[str, str], None] = lambda path, found: None
    ) -> None:
        """`writing` is told the path and the fingerprint of each write, just before it."""
        self._seen = seen
        self._writing = writing
        self._read: dict[str, bytes | None] = {}
        self.entries: list[str] = []

    def read(self, path: str, content: bytes | None) -> None:
        """A tool read this. It counts once the model is shown what the tool made of it."""
        self._read[path] = content

    def shown(self) -> None:
        """The model is shown what the tool made of its reading."""
        for path, content in self._read.items():
            self.saw(path, content)

    def writes(self, path: str, content: bytes | None) -> None:
        """The call is about to write this."""
        self._writing(normalise(path), fingerprint(content))

    def saw(self, path: str, content: bytes | None) -> None:
        """The model knows this content now."""
        self.entries += self._seen.saw(path, fingerprint(content))

    def wrote(self, path: str, found: str | None) -> None:
        """The call wrote the content of this hash in an earlier attempt; None if it deleted the file."""
        self.entries += self._seen.recall(path, found or ABSENT)

    def is_stale(self, path: str, content: bytes | None) -> bool:
        """Whether another content than this was seen last at the path."""
        return self._seen.last(normalise(path)) not in (None, fingerprint(content))

    def knows_of(self, path: str) -> bool:
        """Whether the path was ever seen."""
        return self._seen.last(path) is not None
