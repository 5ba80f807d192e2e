from __future__ import annotations

import pytest

from tools.errors import ProtectedPath
from tools.protected import Protection, protection, refuse_reading, refuse_writing


@pytest.mark.parametrize(
    "path",
    [
        ".git", ".git/config", "sub/.git", "sub/.git/hooks/x", ".GIT/hooks/x", ".git./hooks/x",
        ".git /x", ".git . /x",
        ".g\u200cit/hooks/x", ".git\u200d/x", ".g\u034fit/x", ".\ufe0fgit/x", ".gi\u3164t/x",
        ".git\U000e0100/x", "\ufeff.git/x", ".g\u00adit/x", "．git/x", "\u2024git/x", ".ＧＩＴ/x",
        "git~1/x", "GIT~2/x",
        ".git::$INDEX_ALLOCATION/x", ".git:x",
    ],
)  # fmt: skip
def test_repository(path: str) -> None:
    assert protection(path.split("/")) is Protection.REPOSITORY


@pytest.mark.parametrize(
    "path", [".env", ".env.local", "sub/.ENV", ".env.production.local", ".envrc", "ENV~1.LOC", ".env/x"]
)
def test_secret(path: str) -> None:
    assert protection(path.split("/")) is Protection.SECRET


@pytest.mark.parametrize(
    "path",
    [
        ".vscode/tasks.json", "a/.vscode", ".VSCODE/x", "VSCODE~1/tasks.json", ".idea/x", ".cursor/x",
        ".claude/x",
        ".mcp.json", "MCP~1.JSO", "x.code-workspace", "X.Code-Workspace", "MYWORK~1.COD", ".devcontainer/x",
        "devcon~1/x", ".husky/x", ".gitmodules", "GITMOD~1", ".npmrc", "a/.npmrc", ".github/workflows/ci.yml",
        ".GitHub/Workflows", "sub/.github/workflows/x/y",
    ],
)  # fmt: skip
def test_settings(path: str) -> None:
    parts = path.split("/")
    assert protection(parts) is Protection.SETTINGS
    refuse_reading(parts)
    with pytest.raises(ProtectedPath, match="human"):
        refuse_writing(parts)


@pytest.mark.parametrize(
    "path",
    [
        "a.txt", ".gitignore", ".gitattributes", ".github/ISSUE_TEMPLATE.md", ".github/x/workflows/y",
        "workflows/x",
        "git/x", "agit~1", ".env.example", ".env.local.sample", ".env.template", "env/x",
        "environment.yml", "vscode/x",
        "mcp.json", "a.git", "...", "x.code-workspaces", "notes~1.txt",
    ],
)  # fmt: skip
def test_ordinary(path: str) -> None:
    assert protection(path.split("/")) is None
