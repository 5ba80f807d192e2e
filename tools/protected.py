"""Paths that tools do not touch: git's own folder, secrets, and settings that make code run.

Names are compared as the most forgiving file system would: without regard to case, to invisible
characters, to trailing dots and blanks, and with the short names Windows makes (`git~1`). They are
protected before they exist, too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from enum import Enum
from itertools import pairwise

from tools.errors import ProtectedPath
from tools.ignorable import without_ignorable


class Protection(Enum):
    """Why a path is protected."""

    REPOSITORY = "it belongs to git's own data (.git), which tools neither read nor write"
    SECRET = "it may hold secrets, so tools neither read nor write it; .env.example is allowed"
    SETTINGS = "settings that can make code run are changed by the human only"


_SETTINGS = frozenset(
    {
        ".vscode", ".idea", ".cursor", ".claude", ".mcp.json", ".devcontainer", ".husky", ".envrc",
        ".gitmodules", ".npmrc",
    }
)  # fmt: skip
_HARMLESS_ENV = (".example", ".sample", ".template")
_SHORT_NAME = re.compile(r"(?P<stem>[^~.]{1,6})~\d+(?P<extension>\.[^.]{0,3})?")


def protection(parts: Sequence[str]) -> Protection | None:
    """Why the path is protected, the strictest reason first; None if it is not."""
    names = [_folded(part) for part in parts]
    if any(_is(name, ".git") for name in names):
        return Protection.REPOSITORY
    if any(_is_secret(name) for name in names):
        return Protection.SECRET
    if any(_is_settings(name) for name in names) or _in_workflows(names):
        return Protection.SETTINGS
    return None


def refuse_reading(parts: Sequence[str]) -> None:
    """Raises ProtectedPath if the content must not be shown to a model."""
    reason = protection(parts)
    if reason in (Protection.REPOSITORY, Protection.SECRET):
        raise ProtectedPath(f"{'/'.join(parts)} is protected: {reason.value}. Ask the human if it matters.")


def refuse_writing(parts: Sequence[str]) -> None:
    """Raises ProtectedPath if only the human may change the path."""
    if reason := protection(parts):
        raise ProtectedPath(
            f"{'/'.join(parts)} is protected: {reason.value}. Tell the human what to change there, and go on."
        )


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFKC", without_ignorable(name))
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    text = unicodedata.normalize("NFKC", text.casefold())
    # `name:stream` is another way to write `name` on NTFS.
    return text.partition(":")[0].rstrip(". ")


def _is(name: str, protected: str) -> bool:
    if name == protected:
        return True
    short = _SHORT_NAME.fullmatch(name)
    return short is not None and short["stem"] == protected.lstrip(".").partition(".")[0][:6]


def _is_secret(name: str) -> bool:
    return (name.startswith(".env") and not name.endswith(_HARMLESS_ENV)) or _is(name, ".env")


def _is_settings(name: str) -> bool:
    short = _SHORT_NAME.fullmatch(name)
    is_workspace_file = name.endswith(".code-workspace") or (
        short is not None and short["extension"] == ".cod"
    )
    return is_workspace_file or any(_is(name, protected) for protected in _SETTINGS)


def _in_workflows(names: Sequence[str]) -> bool:
    return any(_is(outer, ".github") and _is(inner, "workflows") for outer, inner in pairwise(names))
