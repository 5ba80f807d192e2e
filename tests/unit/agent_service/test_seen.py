"""What the agent knows of files, as a list that only grows; and the comparison with the disk."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from agent_service.agent.drift import MOST_NAMED, changed_since, drift_note
from agent_service.agent.seen import ABSENT, UNREADABLE, CallNotes, SeenFiles, fingerprint
from tools.tool import Effect, ToolResult
from tools.workspace import Workspace

ONE, TWO = fingerprint(b"one"), fingerprint(b"two")


def test_the_latest_entry_of_a_path_counts() -> None:
    seen = SeenFiles([f"{ONE} a b.py", f"{TWO} a b.py", f"{ONE} c"])
    assert (seen.last("a b.py"), seen.last("c"), seen.last("d")) == (TWO, ONE, None)
    assert sha256(b"one").hexdigest() == ONE
    assert fingerprint(None) == ABSENT


def test_only_what_is_new_is_noted() -> None:
    seen = SeenFiles()
    assert seen.saw("a", ONE) == [f"{ONE} a"]
    assert seen.saw("a", ONE) == []
    assert seen.saw("a", TWO) == [f"{TWO} a"]
    assert seen.saw("a", ONE) == [f"{ONE} a"]


def test_drift_is_told_once_for_each_content() -> None:
    seen = SeenFiles([f"{ONE} a"])
    seen.drift = {"a": TWO}
    assert seen.untold() == {"a": TWO}
    entries = seen.tell(seen.untold())
    assert seen.untold() == {}
    later = SeenFiles([f"{ONE} a", *entries])
    later.drift = {"a": TWO}
    assert later.untold() == {}
    later.drift = {"a": ABSENT}
    assert later.untold() == {"a": ABSENT}
    later.saw("a", ABSENT)
    later.drift = {"a": TWO}
    assert later.untold() == {"a": TWO}


def test_what_was_seen_meanwhile_need_not_be_told() -> None:
    seen = SeenFiles([f"{ONE} a"])
    seen.drift = {"a": TWO}
    seen.saw("a", TWO)
    assert seen.untold() == {}
    seen.saw("a", ONE)
    assert seen.untold() == {}


def test_a_write_of_an_earlier_attempt_does_not_hide_what_came_after_it() -> None:
    seen = SeenFiles([f"{fingerprint(None)} a"])
    seen.drift = {"a": TWO}
    notes = CallNotes(seen)
    notes.wrote("a", ONE)
    assert (seen.last("a"), notes.entries) == (ONE, [f"{ONE} a"])
    assert seen.untold() == {"a": TWO}


def test_a_reading_counts_only_when_it_was_shown() -> None:
    seen = SeenFiles()
    notes = CallNotes(seen)
    notes.read("a", b"one")
    assert notes.entries == []
    assert not notes.is_stale("a", b"two")
    notes.shown()
    assert notes.entries == [f"{ONE} a"]
    assert notes.is_stale("./a", b"two")
    assert notes.is_stale("a", None)
    assert not notes.is_stale("a", b"one")


def test_the_comparison_with_the_disk(project: Path) -> None:
    for name in ("same", "changed", "gone", "folder", "link", "huge"):
        (project / name).write_bytes(b"one")
    seen = {path.name: ONE for path in project.iterdir()} | {"was not there": ABSENT, "still absent": ABSENT}
    (project / "changed").write_bytes(b"two")
    (project / "was not there").write_bytes(b"one")
    for name in ("gone", "folder", "link"):
        (project / name).unlink()
    (project / "folder").mkdir()
    (project / "link").symlink_to(project / "same")
    (project / "huge").write_bytes(b"1" * (5 * 1024 * 1024 + 1))
    assert changed_since(seen, Workspace(project)) == {
        "changed": TWO,
        "was not there": ONE,
        "gone": ABSENT,
        "folder": UNREADABLE,
        "link": UNREADABLE,
        "huge": UNREADABLE,
    }


@pytest.mark.parametrize("files", [1, MOST_NAMED, MOST_NAMED + 7])
def test_the_note_names_some_dozens(files: int) -> None:
    text = str(drift_note({f"f{number:03}.py": ONE for number in range(files)} | {"a.py": ABSENT}).content)
    assert "a.py (deleted)" in text
    assert text.count(".py") == min(files + 1, MOST_NAMED)
    assert (f"and {files + 1 - MOST_NAMED} more" in text) == (files + 1 > MOST_NAMED)


def test_an_observer_is_told_of_what_is_read_and_written(project: Path) -> None:
    told: list[tuple[str, bytes | None]] = []
    (project / "a").write_bytes(b"one")
    files = Workspace(project)
    view = files.observed(lambda path, content: told.append((path, content)))
    view.read("./a")
    view.current("a")
    view.commit(Effect("a", b"one", b"two", ToolResult(""), ""))
    view.commit(Effect("a", b"two", None, ToolResult(""), ""))
    files.list("")
    assert told == [("a", b"one"), ("a", b"two"), ("a", None)]
