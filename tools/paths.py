"""Paths as a model writes them: relative to the project, `/` between the parts."""

from __future__ import annotations

import unicodedata

from tools.errors import ToolError

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096


def normalise(filepath: str) -> str:
    """The one spelling of a file's path: no `.`, no `..`, no doubled `/`. Touches no file.

    Raises ToolError for what cannot name a file inside the project. The message never repeats a path
    that points outside.
    """
    if filepath.endswith("/") and filepath.strip("/"):
        raise ToolError("the path ends with a slash, so it names a folder; name a file in it")
    parts = split(filepath)
    if not parts:
        raise ToolError("the path names the project folder itself; name a file in it, such as src/main.py")
    return "/".join(parts)


def split(path: str) -> tuple[str, ...]:
    """The names a path goes through, from the project folder down; empty for the project folder.

    `..` is taken back by its text alone. That is exact here, because no folder on the way may be a link.
    Raises ToolError as `normalise` does.
    """
    _refuse_malformed(path)
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise ToolError("the path leaves the project folder; only paths inside it are allowed")
            parts.pop()
        elif part not in ("", "."):
            if len(part.encode()) > MAX_NAME_BYTES:
                raise ToolError(f"a name in the path is longer than {MAX_NAME_BYTES} bytes")
            parts.append(part)
    _refuse_malformed("/".join(parts))  # what is left may be blank, though the path was not
    return tuple(parts)


def _refuse_malformed(path: str) -> None:
    if len(path) > MAX_PATH_BYTES:
        raise ToolError(f"the path is longer than {MAX_PATH_BYTES} bytes")
    if path and not path.strip():
        raise ToolError("the path is blank; give a path relative to the project, such as src/main.py")
    if path.startswith(("/", "~")):
        raise ToolError("the path is not relative; give a path inside the project, such as src/main.py")
    if "\\" in path:
        raise ToolError("the path has a backslash; put / between the parts, as in src/main.py")
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise ToolError("the path has a control character; write it without")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise ToolError("the path is not valid Unicode (it has half of a surrogate pair)") from None
    if size > MAX_PATH_BYTES:
        raise ToolError(f"the path is longer than {MAX_PATH_BYTES} bytes")
