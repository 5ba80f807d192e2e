"""Patterns mean what .gitignore and CODEOWNERS taught people, and nothing makes matching slow."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.agent.path_patterns import MAX_LENGTH, path_pattern
from tools.paths import MAX_PATH_BYTES


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("**", "a .env a/b .a/b/c", ""),
        ("*", "a .env a/b", ""),
        ("*.lock", "x.lock a/b/x.lock .lock x.lock/y", "x.lock.md lock a/xlock"),
        ("Makefile", "Makefile sub/Makefile makefile Makefile/x", "Makefile.am xMakefile"),
        ("./Makefile", "Makefile", "sub/Makefile"),
        ("src/*", "src/a src/.b", "src src/a/b x/src/a"),
        ("src/*.py", "src/a.py src/.py", "src/a/b.py src/a.pyc a.py"),
        ("src/**", "src/a src/a/b", "src xsrc/a a/src/b"),
        ("src/", "src/a x/src/a/b", "src x/src"),
        ("src/app", "src/app src/app/x/y", "src/apps x/src/app"),
        ("src/*/", "src/a/b src/a/b/c", "src/a"),
        ("**/src", "src a/src a/b/src/c", "asrc srca"),
        ("a/**/b", "a/b a/x/b a/x/y/b a/b/c", "ab a/xb ax/b x/a/b"),
        ("a/**/**/b", "a/b a/x/y/b", "ab"),
        ("a/**/*.md", "a/x.md a/b/c/x.md", "x.md a/x.mdx"),
        ("a**b/c", "ab/c axxb/c", "a/b/c ax/b/c"),
        ("?.txt", "a.txt é.txt b/c.txt", ".txt ab.txt"),
        ("a?c/d", "abc/d", "a/c/d ac/d"),
        ("[ab].txt", "[ab].txt", "a.txt"),
        ("a.c", "a.c", "abc"),
        ("x//y/./z", "x/y/z", "x/y"),
    ],
)
def test_what_a_pattern_matches(pattern: str, matching: str, other: str) -> None:
    assert [path for path in matching.split() if not path_pattern(pattern).matches(path)] == []
    assert [path for path in other.split() if path_pattern(pattern).matches(path)] == []


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("migrations/**", "MiGrations/0001.SQL"),
        ("*.LOCK", "poetry.lock"),
        ("straße", "STRASSE"),
        ("é.txt", "e\u0301.txt"),
        ("E\u0301.txt", "é.txt"),
        ("?.txt", "e\u0301.txt"),
        ("\u1fb3", "\u0391\u0345"),  # canonically equal only when decomposed before the case is folded
        ("kelvin", "\u212aelvin"),
        ("migrations/**", "migra\u200dtions/1.sql"),
        ("*.lock", "poetry.lo\ufe0fck"),
        ("mi\u200cgrations/", "migrations/1.sql"),
    ],
)
def test_another_spelling_does_not_slip_past(pattern: str, path: str) -> None:
    assert path_pattern(pattern).matches(path)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("/src/**", "is absolute"),
        ("~/src", "is absolute"),
        ("../x", "has a `..`"),
        ("a/../b", "has a `..`"),
        ("..", "has a `..`"),
        ("a\\b", "backslash"),
        ("a\nb", "control character"),
        (".", "the project folder itself"),
        ("./", "the project folder itself"),
        ("\u200d", "the project folder itself"),
        (".\u200d.", "has a `..`"),
        ("a" * (MAX_LENGTH + 1), f"longer than {MAX_LENGTH}"),
    ],
)
def test_a_pattern_that_no_file_could_fit_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        path_pattern(pattern)
    assert len(str(caught.value)) < 200


NAMES = st.text(alphabet="aB.*?é", min_size=1, max_size=5).filter(lambda name: name not in (".", ".."))
PATTERNS = st.lists(NAMES | st.just("**"), min_size=1, max_size=5).map("/".join)
PATHS = st.lists(
    st.text(alphabet="aAb.é", min_size=1, max_size=4).filter(lambda name: name not in (".", "..")),
    min_size=1,
    max_size=5,
).map("/".join)


@given(PATTERNS, st.sampled_from(["", "/"]), PATHS)
def test_it_agrees_with_the_definition(pattern: str, ending: str, path: str) -> None:
    assert path_pattern(pattern + ending).matches(path) == fits(pattern + ending, path)


def fits(pattern: str, path: str) -> bool:
    """The definition, word for word: tries everything, so for small input only."""
    names, parts = pattern.casefold().rstrip("/").split("/"), path.casefold().split("/")
    if len(names) == 1:
        names = ["**", *names]
    if pattern.endswith("/"):
        names = [*names, "**"]
    least = len(parts) if set(names[-1]) == {"*"} else 1  # else a folder that fits covers what is in it
    return any(goes_through(names, parts[:length]) for length in range(least, len(parts) + 1))


def goes_through(names: list[str], parts: list[str]) -> bool:
    if not names:
        return not parts
    if names[0] == "**":
        least = 1 if len(names) == 1 else 0  # `**` at the end is about what is in the folder
        return any(goes_through(names[1:], parts[taken:]) for taken in range(least, len(parts) + 1))
    return bool(parts) and fits_name(names[0], parts[0]) and goes_through(names[1:], parts[1:])


def fits_name(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(fits_name(pattern[1:], name[taken:]) for taken in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and fits_name(pattern[1:], name[1:])


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 127 + "b", "**/a/" * 50 + "b", "a*" * 128, "?*" * 128, "*" * 256, "**/" * 85, "a/*" * 80 + "b"],
)
@pytest.mark.parametrize("path", ["a" * MAX_PATH_BYTES, "a/" * (MAX_PATH_BYTES // 2 - 1) + "a"])
def test_hostile_patterns_end(pattern: str, path: str) -> None:
    """A matcher that tries one way after the other would not come to an end here."""
    path_pattern(pattern).matches(path)


@given(st.text(max_size=40), st.text(max_size=60))
def test_any_text_is_a_pattern_or_refused(pattern: str, path: str) -> None:
    try:
        made = path_pattern(pattern)
    except ValueError:
        return
    matched = made.matches(path)
    assert matched == made.matches(unicodedata.normalize("NFD", path))
    assert matched == made.matches(path.casefold())
