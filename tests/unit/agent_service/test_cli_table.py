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


def test_an_id_is_as_long_as_it_must_be() -> None:
    names = ["abcdefgh-1", "abcdefgh-2", "bcdefghi-1"]
    assert [short_id(name, names) for name in names] == ["abcdefgh-1", "abcdefgh-2", "bcdefghi"]
