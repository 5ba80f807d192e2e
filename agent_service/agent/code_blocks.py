"""Code and prose of a model's answer (fenced blocks, CommonMark 4.5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ALIASES = {
    "py": "python", "python3": "python", "js": "javascript", "node": "javascript", "jsx": "javascript",
    "ts": "typescript", "tsx": "typescript", "sh": "bash", "shell": "bash", "zsh": "bash", "c++": "cpp",
    "cxx": "cpp", "cs": "csharp", "c#": "csharp", "golang": "go", "rs": "rust", "rb": "ruby", "kt": "kotlin",
    "yml": "yaml", "md": "markdown", "ps1": "powershell", "htm": "html", "objc": "objective-c",
}  # fmt: skip
"""Usual other names of languages in info strings."""

_OPENING = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")


@dataclass(frozen=True, slots=True)
class Answer:
    """A text split into its code and the prose around it."""

    code: str | None
    prose: str
    truncated: bool
    """A block was opened and not closed: the text ended too early."""


@dataclass(slots=True)
class _Block:
    tag: str
    lines: list[str]

    @property
    def code(self) -> str:
        return "\n".join(self.lines)


def split_answer(text: str, language: str | None = None) -> Answer:
    """The last block in the asked language, else the longest block; and everything that is not code."""
    blocks: list[_Block] = []
    prose: list[str] = []
    fence = ""
    for line in text.splitlines():
        if fence:
            if re.fullmatch(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*", line):
                fence = ""
            else:
                blocks[-1].lines.append(line)
        elif opening := _OPENING.match(line):
            fence = opening["fence"]
            blocks.append(_Block(_language(opening["info"]), []))
        else:
            prose.append(line)
    chosen = _choose(blocks, _language(language or ""))
    collapsed = re.sub(r"\n{3,}", "\n\n", "\n".join(prose)).strip()
    return Answer(code=chosen.code if chosen else None, prose=collapsed, truncated=bool(fence))


def _choose(blocks: list[_Block], wanted: str) -> _Block | None:
    if not blocks:
        return None
    matching = [block for block in blocks if wanted and block.tag == wanted]
    return matching[-1] if matching else max(blocks, key=lambda block: len(block.code))


def _language(info: str) -> str:
    tag = (info.strip().lower().split() or [""])[0].strip("{}.:")
    return _ALIASES.get(tag, tag)
