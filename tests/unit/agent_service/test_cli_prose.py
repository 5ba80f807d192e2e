"""A model's Markdown on a terminal: block by block, nothing lost, nothing that commands the terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agent_service.cli.prose import Prose, print_prose, split_blocks
from agent_service.cli.terminal import Terminal

MARKUP = st.lists(
    st.sampled_from(
        ["a", " ", "\n", "\n\n", "```", "~~~", "# h", "- x", "1. y", "    z", "| a |", "|---|", "<b>", "*c*"]
    ),
    max_size=30,
).map("".join)


def terminal() -> tuple[Terminal, io.StringIO]:
    """One of sixty columns, whose writing can be read."""
    shown, writing = Terminal(), io.StringIO()
    shown.live = True
    shown.console = Console(file=writing, width=60, force_terminal=True, color_system=None)
    return shown, writing


def laid_out(text: str) -> str:
    shown, writing = terminal()
    print_prose(shown, text)
    return writing.getvalue()


@given(MARKUP)
def test_blocks_are_the_text(text: str) -> None:
    blocks, rest = split_blocks(text)
    assert "".join([*blocks, rest]) == text


@given(MARKUP, st.integers(0, 40))
def test_blocks_do_not_depend_on_where_pieces_end(text: str, cut: int) -> None:
    first, rest = split_blocks(text[:cut])
    second, end = split_blocks(rest + text[cut:])
    if "".join(first) + rest == text[:cut] and text[cut - 1 : cut] == "\n":  # whole lines so far
        assert ([*first, *second], end) == split_blocks(text)


@pytest.mark.parametrize(
    ("text", "blocks", "rest"),
    [
        ("one\n\ntwo", ["one\n\n"], "two"),
        ("one\n\n", [], "one\n\n"),
        ("```\na\n\nb\n```\n\nend", ["```\na\n\nb\n```\n\n"], "end"),
        ("````\n```\n\na\n````\n\nend", ["````\n```\n\na\n````\n\n"], "end"),
        ("~~~\na\n\nb\n~~~~\n\nend", ["~~~\na\n\nb\n~~~~\n\n"], "end"),
        ("- a\n\n  more of a\n\nend", ["- a\n\n  more of a\n\n"], "end"),
        ("\n\none", [], "\n\none"),
    ],
)
def test_a_block_ends_where_the_next_one_begins(text: str, blocks: list[str], rest: str) -> None:
    assert split_blocks(text) == (blocks, rest)


def test_what_looks_like_html_is_shown() -> None:
    assert laid_out("Use List<String> or <b>x</b>.") == "Use List<String> or <b>x</b>.\n"


def test_a_link_shows_where_it_leads() -> None:
    assert "(https://evil.example)" in laid_out("[https://bank.example](https://evil.example)")


@given(st.text(max_size=80) | MARKUP)
def test_no_text_commands_the_terminal(text: str) -> None:
    for way in (text, f"`{text}`", f"```\n{text}\n```", f"[{text}](http://x/{text})", f"# {text}"):
        shown = laid_out(way).replace("\x1b[", "")
        assert all(each in "\n\t" or each >= " " for each in shown.replace("m", "")), ascii(shown)


@pytest.mark.parametrize("entity", ["&#x202e;", "&#8206;", "&#27;", "&#x9b;", "&rlm;"])
def test_no_entity_does_either(entity: str) -> None:
    shown = laid_out(f"a{entity}[2Jb")
    assert not set(shown) & set("\x1b\x9b\u200e\u200f\u202e")


def test_pieces_come_to_the_whole_text() -> None:
    text = "# Title\n\nOne **two**\nthree.\n\n```python\nx = 1\n\ny = 2\n```\n\n1. a\n2. b\n"
    shown, writing = terminal()
    prose = Prose(shown)
    for letter in text:
        prose.add(letter)
    prose.end()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", writing.getvalue()).splitlines()
    assert set(laid_out(text).splitlines()) <= set(lines)
