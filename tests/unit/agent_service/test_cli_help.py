"""What every command says of itself, and of what it cannot take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from agent_service.cli.commands import cli


def commands(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command below that one, with the words that call it."""
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, *words, name)


ALL = dict(commands(get_command(cli)))


def shown(*words: str) -> str:
    done = CliRunner().invoke(cli, [*words], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    return " ".join(done.output.split())


def test_all_commands_are_found() -> None:
    assert {("run",), ("local", "serve"), ("providers", "import"), ("threads", "answer")} <= ALL.keys()


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_option_and_argument_is_told_in_a_sentence(words: tuple[str, ...]) -> None:
    command = ALL[words]
    assert (command.help or "").strip().endswith(".")
    for each in command.params:
        if each.name not in ("install_completion", "show_completion", "help"):
            assert re.match(r"[A-Z].+\.$", each.help or "", re.DOTALL), each.name
    told = shown(*words, "--help")
    assert not re.search(r"\[\[|\{\[|\[default: \(", told), told


def test_where_things_are_unless_told_otherwise() -> None:
    told = shown("serve", "--help")
    for usual in ("127.0.0.1", "8000", "~/.config/agent-service/config.yaml", "~/.local/share/agent-service"):
        assert usual in told
    assert "[default: best_quality]" in shown("models", "--help")


def test_a_wrong_value_is_told_in_our_own_words() -> None:
    told = shown("run", "x", "--quality", "foo")
    assert "'foo' is not one of 'fastest', 'balanced', 'best_quality'." in told
    assert "Value error" not in told
