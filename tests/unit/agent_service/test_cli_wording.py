"""Words that depend on how the command was started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent_service.cli.wording import command_name, laid_out
from agent_service.model_pool import HOW_TO_BEGIN


@pytest.fixture(autouse=True)
def no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)


def test_a_command_off_the_path_is_named_as_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / ".venv/bin/agent-service"), "demo"])
    assert command_name() == ".venv/bin/agent-service"
    monkeypatch.setattr(sys, "argv", ["agent-service"])
    assert command_name() == "./agent-service"
    monkeypatch.setattr(sys, "argv", ["/x/agent_service/__main__.py"])
    assert command_name().endswith(" -m agent_service")


def test_a_command_on_the_path_is_named_shortly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "agent-service"
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["/elsewhere/agent-service"])
    assert command_name() == "agent-service"


def test_numbered_ways_out_get_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/agent-service"])
    first, *ways = laid_out(HOW_TO_BEGIN)
    assert first.endswith("ways out:")
    assert [way[:5] for way in ways] == ["  (1)", "  (2)", "  (3)"]
    assert not any(way.endswith((";", " ")) for way in ways)
    assert ways[2].endswith(": .venv/bin/agent-service local install")
    assert laid_out("one (1) thing") == ["one (1) thing"]
    assert laid_out("") == []
