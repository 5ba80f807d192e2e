"""Tables: laid out for people, tabs and everything for programs."""

from __future__ import annotations

import pytest
from rich.text import Text

from agent_service.cli.ids import short_id
from agent_service.cli.table import print_table
from agent_service.cli.terminal import Terminal


def test_a_program_gets_tabs_and_whole_values(capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 60
    print_table(Terminal(), ("name", "text"), [(Text("a\tb", "red"), Text(long)), (Text(""), Text("x\ny"))])
    assert capsys.readouterr().out == f"name\ttext\na b\t{long.strip()}\n\tx y\n"


def test_a_person_gets_numbers_at_the_right_and_nothing_cut(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.live, terminal.console.width = True, 40
    words = " ".join(f"word{number}" for number in range(20))
    rows = [(Text("a"), Text("7"), Text(words)), (Text("b"), Text("1,000"), Text(""))]
    print_table(terminal, ("name", "calls", "why"), rows, numbers=("calls",))
    shown = capsys.readouterr().out
    assert all(word in shown for word in words.split())
    lines = shown.splitlines()
    assert lines[0].index("calls") + len("calls") == lines[2].index("7") + 1


def test_a_table_without_rows_is_its_titles(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    for live in (False, True):
        terminal.live = live
        print_table(terminal, ("name", "text"), [])
        assert capsys.readouterr().out.split()[:2] == ["name", "text"]


def test_an_id_is_as_long_as_it_must_be() -> None:
    names = ["abcdefgh-1", "abcdefgh-2", "bcdefghi-1"]
    assert [short_id(name, names) for name in names] == ["abcdefgh-1", "abcdefgh-2", "bcdefghi"]
