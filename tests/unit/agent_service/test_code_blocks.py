"""Code and prose of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.agent.code_blocks import split_answer


@pytest.mark.parametrize(
    ("text", "language", "code"),
    [
        ("no code", None, None),
        ("```\na\n```", None, "a"),
        ("```python\na\n```", "py", "a"),
        ("```py\nfirst\n```\n```python\nlast\n```\n```sh\nlonger than both\n```", "Python", "last"),
        ("```py\nfirst\n```\n```sh\nlonger than both\n```", "rust", "longer than both"),
        ("```py\nfirst\n```\n```sh\nlonger than both\n```", None, "longer than both"),
        ("~~~js\na\n```\nb\n~~~", "javascript", "a\n```\nb"),
        ("````md\n```py\nx\n```\n````", "markdown", "```py\nx\n```"),
        ("  ```c++ title=x\n  a\n  ```", "cpp", "  a"),
        ("```py\n\n```", None, ""),
    ],
)
def test_the_block_that_was_meant(text: str, language: str | None, code: str | None) -> None:
    answer = split_answer(text, language)
    assert (answer.code, answer.truncated) == (code, False)


def test_an_open_block_is_truncated() -> None:
    answer = split_answer("Here:\n```py\nprint(1")
    assert (answer.code, answer.prose, answer.truncated) == ("print(1", "Here:", True)


def test_inline_code_is_prose() -> None:
    assert split_answer("Use ```x``` or `y`.").prose == "Use ```x``` or `y`."


@given(st.text(alphabet="`~ \nab", max_size=200), st.sampled_from([None, "py"]))
def test_any_text_can_be_split(text: str, language: str | None) -> None:
    answer = split_answer(text, language)
    assert answer.code is None or isinstance(answer.code, str)


@given(st.lists(st.text(alphabet="abc xyz", max_size=20), max_size=10), st.text(alphabet="abc ", max_size=30))
def test_what_was_fenced_comes_back(lines: list[str], prose: str) -> None:
    code = "\n".join(lines)
    answer = split_answer(f"{prose}\n```py\n{code}{chr(10) if lines else ''}```", "py")
    assert answer.code == code
    assert answer.prose == prose.strip()
