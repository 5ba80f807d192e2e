"""`agent-service threads history / fork / rewind / prune`: a thread's past."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from agent_service.cli.answers import confirmed
from agent_service.cli.connection import connect
from agent_service.cli.conversation import tell_answer_command, write_json
from agent_service.cli.fault import COMPLETED, FAILED, WRONG_USAGE, Fault
from agent_service.cli.render import RunView
from agent_service.cli.start import Start
from agent_service.cli.table import age, print_table
from agent_service.cli.terminal import Terminal, printable
from agent_service.cli.wording import command_name


def show_history(start: Start, thread_id: str, *, limit: int, as_json: bool) -> None:
    """Show the moments to which a thread can go back."""
    with connect(start) as client:
        page = client.history(client.full_id(thread_id), limit)
    if as_json:
        write_json(page)
        return
    terminal = Terminal()
    rows = [
        (
            Text(each["checkpoint_id"]),
            Text(f"{age(each['created_at'])} ago"),
            Text(str(each["messages"])),
            Text(printable(each["summary"]), "yellow" if each["waiting"] else ""),
        )
        for each in page["checkpoints"]
    ]
    if not rows:
        terminal.line("Nothing was said on this thread yet.")
        return
    print_table(terminal, ("checkpoint", "made", "messages", "last message"), rows)
    if page["next_cursor"]:
        terminal.line(("There are older ones; --limit shows more.", "dim"))


def fork_thread(start: Start, thread_id: str, checkpoint_id: str | None, *, as_json: bool) -> None:
    """Make a new thread that goes on from a checkpoint of this one."""
    with connect(start) as client:
        made = client.fork(client.full_id(thread_id), checkpoint_id)
    if as_json:
        write_json(made)
        return
    terminal = Terminal()
    terminal.line("The fork is thread ", (made["thread_id"], "bold"))
    for request in made["pending_requests"]:
        RunView(terminal).question(request)
        tell_answer_command(terminal, made["thread_id"], request, start.options)
    if not made["pending_requests"]:
        name = made["thread_id"]
        terminal.line((f'Go on with: {command_name()} run "INSTRUCTION" --thread {name}', "dim"))


def rewind_thread(
    start: Start, thread_id: str, checkpoint_id: str, *, files: bool, yes: bool, as_json: bool
) -> int:
    """Take a thread back, after asking if files would change; returns the exit code."""
    terminal = Terminal(to_stderr=as_json)
    with connect(start) as client:
        thread = client.thread(client.full_id(thread_id))
        if files and not yes:
            terminal.line((thread["title"], "bold"), (f"  {thread['project_directory'] or ''}", "dim"))
            if not confirmed(terminal, "Undo what this thread changed in the project since then? [y/N] "):
                terminal.line("Nothing was changed; --yes goes back without asking.")
                return FAILED
        back = client.rewind(thread["thread_id"], checkpoint_id, files=files)
    if as_json:
        write_json(back)
    else:
        _show_rewound(terminal, back)
    return FAILED if back["agent_status"] == "error" else COMPLETED


def prune_threads(
    start: Start, *, keep: int | None, older_than: float | None, delete: bool, yes: bool
) -> int:
    """Clear away old checkpoints or, after asking, whole threads; returns the exit code."""
    if delete == (keep is not None) or (delete and older_than is None):
        raise Fault("say what may go: --keep N, or --delete with --older-than DAYS", WRONG_USAGE)
    terminal = Terminal()
    with connect(start) as client:
        if delete and not yes:
            asked = f"Delete all threads on which nothing happened for {older_than:g} days? [y/N] "
            if not confirmed(terminal, asked):
                terminal.line("Nothing was deleted; --yes deletes without asking.")
                return FAILED
        done = client.prune(keep, older_than, delete=delete)
    if delete:
        terminal.line(f"{_counted(done['threads_deleted'], 'thread')} deleted.")
    else:
        threads = _counted(done["threads_pruned"], "thread")
        terminal.line(f"{_counted(done['checkpoints_deleted'], 'checkpoint')} of {threads} deleted.")
    return COMPLETED


def _show_rewound(terminal: Terminal, back: dict[str, Any]) -> None:
    if back["agent_status"] == "error":
        terminal.line(("✗ ", "red"), back["error_details"] or "")
        return
    terminal.line("The conversation is back where it was then.")
    for note in back["notes"]:
        terminal.line((note, "yellow"))
    for path in back["restored"]:
        terminal.line(("  restored  ", "green"), path)
    for each in back["kept"]:
        terminal.line(("  kept      ", "yellow"), each["path"], (f"  {each['reason']}", "dim"))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
