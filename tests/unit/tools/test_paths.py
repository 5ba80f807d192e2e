from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.errors import ToolError
from tools.paths import normalise, split


@pytest.mark.parametrize(
    ("given_path", "expected"),
    [
        ("a.txt", "a.txt"),
        ("./a.txt", "a.txt"),
        ("a/./b", "a/b"),
        ("a//b", "a/b"),
        ("a/x/../b", "a/b"),
        ("a/...", "a/..."),
        ("a~", "a~"),
        (" a.txt ", " a.txt "),
        ("%2e%2e/x", "%2e%2e/x"),
        ("$HOME/x", "$HOME/x"),
        ("e\u0301.txt", "e\u0301.txt"),
        ("n" * 255, "n" * 255),
    ],
)
def test_spellings(given_path: str, expected: str) -> None:
    assert normalise(given_path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "", " ", " /.", "\t", ".", "./", "..", "../x", "a/../../x", "a/..", "/etc/passwd", "//x", "~", "~/x",
        "~root/x",
        "a\0b", "a\nb", "a\x7fb", "dir/", "a\\b", "a\ud800b", "n" * 256, "\u00e9" * 128,
        "d/" * 2048 + "x", "x" * 10**6,
    ],
)  # fmt: skip
def test_refused(path: str) -> None:
    with pytest.raises(ToolError) as caught:
        normalise(path)
    assert "etc" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_project_folder_is_a_folder() -> None:
    assert split("") == split(".") == split("./") == split("a/..") == ()


@given(st.text(alphabet=st.sampled_from("a./~\\\0é%\ud800 ")))
def test_normal_paths_are_relative_and_stay_as_they_are(path: str) -> None:
    try:
        normal = normalise(path)
    except ToolError:
        return
    assert normal == normalise(normal)
    assert not {"", ".", ".."} & set(normal.split("/"))
