"""The embedded model's commands, without the download."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent_service.cli import local
from agent_service.cli.fault import Fault
from agent_service.cli.start import Start, read_start
from agent_service.cli.terminal import Terminal
from agent_service.local_model.weights import Progress


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return read_start(None, {"state.data_dir": str(tmp_path / "data")})


def test_nothing_is_downloaded_without_a_yes(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "engine_available", lambda: True)
    with Path("/dev/null").open() as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert not local.install(start, yes=False)
    shown = capsys.readouterr().out
    assert "1.1 GB" in shown
    assert "--yes" in shown
    assert not start.settings.data_dir.exists()


def test_without_the_engine_it_is_said_how_to_get_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "engine_available", lambda: False)
    with pytest.raises(Fault, match=r"agent-service\[local\]"):
        local.install(start, yes=True)


def test_what_is_not_there_is_neither_served_nor_removed(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Fault, match="agent-service local install"):
        local.serve(start)
    local.remove(start)
    assert capsys.readouterr().out == "There was nothing to remove.\n"


def test_progress_in_a_log_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with local._progress(Terminal()) as report:
        for done in range(0, 101, 2):
            report(Progress("download", done * 10**6, 100 * 10**6))
        report(Progress("verify", 10**8, 10**8, "almost there"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Downloading: 0 % of 100 MB", "Downloading: 10 % of 100 MB"]
    assert lines[-2:] == ["almost there", "Verifying: 100 % of 100 MB"]
    assert len(lines) == 13
