from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from tests.unit.tools.conftest import Ground, names
from tools.errors import InvalidArguments, ProtectedPath, ToolError, UnknownTool
from tools.filesystem import edit_file, list_files, read_file, write_file
from tools.tool import Effect, Tool, ToolContext, ToolRegistry, ToolResult
from tools.workspace import MIB

TOOLS = ToolRegistry([read_file, list_files, write_file, edit_file])


def run(ground: Ground, tool: Tool, **arguments: Any) -> ToolResult:
    return asyncio.run(tool.bind(arguments).run(ground.ctx))


def plan(ground: Ground, tool: Tool, **arguments: Any) -> Effect:
    effect = asyncio.run(tool.bind(arguments).plan(ground.ctx))
    assert isinstance(effect, Effect)
    return effect


def do(ground: Ground, tool: Tool, **arguments: Any) -> str:
    effect = plan(ground, tool, **arguments)
    ground.workspace.commit(effect)
    return effect.result.content


def test_names_and_parameters() -> None:
    signatures = {tool.name: list(tool.parameters["properties"]) for tool in TOOLS}
    assert signatures == {
        "read_file": ["filepath", "start_line", "end_line"],
        "list_files": ["directory_path"],
        "write_file": ["filepath", "content"],
        "edit_file": ["filepath", "old_text", "new_text", "replace_all"],
    }
    assert [tool.effect for tool in TOOLS] == ["none", "none", "workspace", "workspace"]
    for tool in TOOLS:
        assert all("description" in field for field in tool.parameters["properties"].values())


def test_planning_changes_nothing(ground: Ground) -> None:
    effect = plan(ground, write_file, filepath="./a//b.txt", content="x\n")
    assert names(ground.project) == []
    assert (effect.path, effect.before, effect.after) == ("a/b.txt", None, b"x\n")
    assert effect.preview == "--- /dev/null\n+++ b/a/b.txt\n@@ -0,0 +1 @@\n+x\n"


def test_write_tells_what_it_did(ground: Ground) -> None:
    assert do(ground, write_file, filepath="a.txt", content="1\n2") == "created a.txt (2 lines)"
    assert do(ground, write_file, filepath="a.txt", content="1\n") == "wrote 1 line to a.txt"
    assert "nothing to change" in do(ground, write_file, filepath="a.txt", content="1\n")


def test_bytes_and_mode_are_kept(ground: Ground) -> None:
    path = ground.project / "run.sh"
    path.write_bytes(b"old")
    path.chmod(0o755)
    do(ground, write_file, filepath="run.sh", content="a\r\nb\n")
    assert path.read_bytes() == b"a\r\nb\n"
    assert path.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("a", "x" * (24 * MIB), "5 MiB"),
        ("a", "é" * (3 * MIB), "5 MiB"),
        ("../a", "x", "leaves the project"),
        ("/a", "x", "not relative"),
        (".vscode/tasks.json", "{}", "human"),
        (".github/workflows/x.yml", "", "human"),
        (".git/hooks/pre-commit", "x", "protected"),
        (".g\u200cit/hooks/x", "x", "protected"),
        (".env", "x", "secrets"),
    ],
)
def test_refused_writes(ground: Ground, path: str, content: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        plan(ground, write_file, filepath=path, content=content)
    assert names(ground.project) == []


def test_half_a_surrogate_pair(ground: Ground) -> None:
    for function, texts in (
        (write_file, ("a\ud800b",)),
        (edit_file, ("\udfff", "x")),
        (edit_file, ("x", "\ud800")),
    ):
        (ground.project / "f").write_text("x")
        with pytest.raises(ToolError, match="surrogate"):
            function.function(ground.ctx, "f", *texts)


@pytest.mark.parametrize("arguments", ['{"filepath": ', "[]", "null", '{"filepath": 5}', "{}"])
def test_wrong_arguments(arguments: str) -> None:
    with pytest.raises(InvalidArguments, match="filepath"):
        read_file.bind(arguments)


def test_unknown_tool() -> None:
    with pytest.raises(UnknownTool, match="read_file, list_files, write_file, edit_file"):
        TOOLS["run_shell"]


def test_no_project() -> None:
    ctx = ToolContext(workspace=None, ask=lambda request: pytest.fail("nothing is asked"))
    for tool, arguments in (
        (read_file, {"filepath": "a"}),
        (list_files, {}),
        (write_file, {"filepath": "a", "content": ""}),
        (edit_file, {"filepath": "a", "old_text": "a", "new_text": "b"}),
    ):
        with pytest.raises(ToolError, match="no project folder"):
            asyncio.run(tool.invoke(ctx, tool.bind(arguments).arguments))


def test_read_is_the_content_and_nothing_else(ground: Ground) -> None:
    (ground.project / "a").write_bytes(b"1\r\n\xff\n")
    assert run(ground, read_file, filepath="a").content == "1\r\n\ufffd\n"
    (ground.project / "empty").touch()
    assert run(ground, read_file, filepath="empty").content == ""
    assert run(ground, read_file, filepath="empty", start_line=1).content == ""


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (1, 2, "1\n2\n\n(lines 1 to 2 of 5; read on with start_line=3)"),
        (4, None, "4\n5"),
        (4, 99, "4\n5"),
        (None, 1, "1\n\n(lines 1 to 1 of 5; read on with start_line=2)"),
        (0, 5, "1\n2\n3\n4\n5"),
    ],
)
def test_parts(ground: Ground, first: int | None, last: int | None, expected: str) -> None:
    (ground.project / "a").write_text("1\n2\n3\n4\n5")
    assert run(ground, read_file, filepath="a", start_line=first, end_line=last).content == expected


@pytest.mark.parametrize(("first", "last"), [(6, None), (3, 2), (1, 0), (1, -1)])
def test_parts_that_are_not_there(ground: Ground, first: int, last: int | None) -> None:
    (ground.project / "a").write_text("1\n2\n3\n4\n5")
    with pytest.raises(ToolError, match="5 lines"):
        run(ground, read_file, filepath="a", start_line=first, end_line=last)


def test_large_files_are_read_in_parts(ground: Ground) -> None:
    (ground.project / "large").write_bytes(b"0123456789abcde\n" * (3 * MIB // 16))
    with pytest.raises(ToolError, match="start_line"):
        run(ground, read_file, filepath="large")
    content = run(ground, read_file, filepath="large", start_line=5).content
    assert len(content) < MIB + 200
    assert content.endswith(f"read on with start_line={5 + MIB // 16})")
    (ground.project / "one-line").write_bytes(b"x" * (2 * MIB))
    with pytest.raises(ToolError, match="line 1 alone"):
        run(ground, read_file, filepath="one-line", start_line=1)
    os.truncate(ground.project / "large", 6 * MIB)
    with pytest.raises(ToolError, match="5 MiB"):
        run(ground, read_file, filepath="large", start_line=1)


def test_a_pipe_answers_at_once(ground: Ground) -> None:
    os.mkfifo(ground.project / "pipe")
    started = time.monotonic()
    with pytest.raises(ToolError, match="not a regular file"):
        run(ground, read_file, filepath="pipe")
    with pytest.raises(ToolError, match="not a regular file"):
        plan(ground, write_file, filepath="pipe", content="x")
    assert time.monotonic() - started < 5


def test_list(ground: Ground) -> None:
    assert run(ground, list_files).content == "(the folder is empty)"
    (ground.project / "src").mkdir()
    (ground.project / "src" / "main.py").touch()
    assert run(ground, list_files).content == "src/\nsrc/main.py"
    assert run(ground, list_files, directory_path="src/").content == "src/main.py"
    for number in range(2_100):
        (ground.project / f"{number:04}").touch()
    content = run(ground, list_files).content
    assert content.count("\n") == 2_000
    assert "cut after 2,000 entries" in content.splitlines()[-1]


def test_edit(ground: Ground) -> None:
    path = ground.project / "a.py"
    path.write_bytes(b"\xef\xbb\xbfx = 1\r\ny = 1\r\n# \xff\r\n")
    assert do(ground, edit_file, filepath="a.py", old_text="x = 1\n", new_text="x = 2\nz = 3\n") == (
        "edited a.py in 1 place"
    )
    assert path.read_bytes() == b"\xef\xbb\xbfx = 2\r\nz = 3\r\ny = 1\r\n# \xff\r\n"
    path.write_bytes(b"a a")
    assert "2 places" in do(ground, edit_file, filepath="a.py", old_text="a", new_text="b", replace_all=True)
    assert path.read_bytes() == b"b b"


def test_edits_that_cannot_be(ground: Ground) -> None:
    (ground.project / "b").write_bytes(b"x\0x")
    (ground.project / "a").write_bytes(b"x x")
    for path, old, message in (
        ("b", "x", "binary"),
        ("none", "x", "write_file"),
        ("a", "x", "2 times"),
        ("a", "y", "not in the file"),
        ("a", "", "empty"),
    ):
        with pytest.raises(ToolError, match=message):
            plan(ground, edit_file, filepath=path, old_text=old, new_text="z")
    with pytest.raises(ProtectedPath):
        plan(ground, edit_file, filepath=".npmrc", old_text="a", new_text="b")
    with pytest.raises(ToolError, match="5 MiB"):
        plan(ground, edit_file, filepath="a", old_text="x", new_text="x" * (3 * MIB), replace_all=True)


def test_an_edit_of_a_file_changed_meanwhile(ground: Ground) -> None:
    (ground.project / "a").write_bytes(b"x")
    effect = plan(ground, edit_file, filepath="a", old_text="x", new_text="y")
    (ground.project / "a").write_bytes(b"x, edited")
    with pytest.raises(ToolError, match="changed by somebody else"):
        ground.workspace.commit(effect)
    assert (ground.project / "a").read_bytes() == b"x, edited"
