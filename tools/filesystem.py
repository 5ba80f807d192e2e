"""The file tools: read, list, write, edit. Those that change files return the planned change only."""

from __future__ import annotations

from tools.diff import count_changes, unified_diff
from tools.errors import FileTooLarge, ToolError
from tools.replacement import replace_passage
from tools.tool import Effect, ToolContext, ToolResult, tool
from tools.workspace import is_binary


@tool(effect="none", path_parameter="filepath")
def read_file(
    ctx: ToolContext, filepath: str, start_line: int | None = None, end_line: int | None = None
) -> ToolResult:
    """Read a text file of the project. Returns its content and nothing else.

    Args:
        filepath: The file, relative to the project, such as src/main.py.
        start_line: First line to return, counted from 1. For large files.
        end_line: Last line to return.
    """
    files = ctx.files
    if start_line is None and end_line is None:
        try:
            text = files.read(filepath).decode("utf-8", "replace")
        except FileTooLarge as error:
            raise ToolError(f"{error}. Read a part of it with start_line and end_line.") from None
        return ToolResult(text, summary=_count(text))
    content = files.read(filepath, limit=files.limits.write)
    return _excerpt(content, start_line or 1, end_line, files.limits.read)


@tool(effect="none")
def list_files(ctx: ToolContext, directory_path: str = "") -> ToolResult:
    """List the files and folders of the project, with everything below them. Folders end with a slash.

    Args:
        directory_path: The folder to list, relative to the project. Leave it empty for the whole project.
    """
    listing = ctx.files.list(directory_path)
    lines = [str(entry) for entry in listing.entries]
    if listing.truncated:
        lines.append(f"(cut after {len(lines):,} entries; call list_files on a folder to see more of it)")
    return ToolResult("\n".join(lines) or "(the folder is empty)", summary=_counted(len(listing.entries)))


@tool(effect="workspace", path_parameter="filepath")
def write_file(ctx: ToolContext, filepath: str, content: str) -> Effect:
    """Write a whole file, new or not. To change a part of a file use edit_file.

    Args:
        filepath: The file, relative to the project, such as src/main.py. Missing folders are made.
        content: All of the file's new content, exactly as it shall be.
    """
    files = ctx.files
    path = files.check_writable(filepath)
    after = _encoded(content, "content")
    files.check_size(after)
    before = files.current(path)
    if before == after:
        done = f"{path} already has exactly this content; nothing to change"
    elif before is None:
        done = f"created {path} ({_count(content)})"
    else:
        done = f"wrote {_count(content)} to {path}"
    return _effect(path, before, after, done)


@tool(effect="workspace", path_parameter="filepath")
def edit_file(
    ctx: ToolContext, filepath: str, old_text: str, new_text: str, replace_all: bool = False
) -> Effect:
    """Replace a passage of a text file. The rest of the file stays as it is.

    Args:
        filepath: The file, relative to the project, such as src/main.py.
        old_text: The exact text to replace, blanks and line breaks included. It must be in the file once.
        new_text: What stands there afterwards.
        replace_all: Replace every occurrence of old_text.
    """
    files = ctx.files
    path = files.check_writable(filepath)
    before = files.current(path)
    if before is None:
        raise ToolError(f"there is no file {path} to edit; make it with write_file")
    if is_binary(before):
        raise ToolError(f"{path} is a binary file; only text files can be edited")
    old, new = _encoded(old_text, "old_text"), _encoded(new_text, "new_text")
    after, count = replace_passage(before, old, new, everywhere=replace_all)
    files.check_size(after)
    places = "1 place" if count == 1 else f"{count} places"
    return _effect(path, before, after, f"edited {path} in {places}")


def _effect(path: str, before: bytes | None, after: bytes, done: str) -> Effect:
    added, removed = count_changes(before, after)
    summary = "unchanged" if before == after else f"+{added} -{removed}"
    return Effect(
        path=path,
        before=before,
        after=after,
        result=ToolResult(done, summary=summary),
        preview=unified_diff(path, before, after),
    )


def _excerpt(content: bytes, first: int, last: int | None, most: int) -> ToolResult:
    """Lines `first` to `last`, as many as fit in `most` bytes, and how to get the rest."""
    lines = content.decode("utf-8", "replace").split("\n")
    ended = [line + "\n" for line in lines[:-1]] + lines[-1:] * bool(lines[-1])
    first = max(first, 1)
    last = len(ended) if last is None else min(last, len(ended))
    if first > max(len(ended), 1):
        raise ToolError(f"start_line is {first}, but the file has only {len(ended)} lines")
    if last < first and ended:
        raise ToolError(f"end_line is before start_line; the file has {len(ended)} lines, counted from 1")
    end, size = first - 1, 0
    while end < last and size + len(ended[end].encode()) <= most:
        size += len(ended[end].encode())
        end += 1
    if end < first and ended:
        raise ToolError(f"line {first} alone is larger than {most:,} bytes, too large to show")
    text = "".join(ended[first - 1 : end])
    if end < len(ended):
        text += f"\n(lines {first} to {end} of {len(ended)}; read on with start_line={end + 1})"
    return ToolResult(text, summary=f"lines {first}-{end} of {len(ended)}")


def _encoded(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(
            f"{name} is not valid Unicode: it has half of a surrogate pair at character {error.start}"
        ) from None


def _count(text: str) -> str:
    lines = text.count("\n") + (not text.endswith("\n") and text != "")
    return "1 line" if lines == 1 else f"{lines} lines"


def _counted(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries} entries"
