"""`agent-service threads history / fork / rewind / prune`: a thread's past."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rich.text import Text

from agent_service.cli.answers import confirmed
from agent_service.cli.connection import connect
from agent_service.cli.conversation import tell_answer_command, write_json
from agent_service.cli.fault import COMPLETED, FAILED, WRONG_USAGE, Fault
from agent_service.cli.ids import short_id
from agent_service.cli.moments import find_moment, is_present, moments
from agent_service.cli.render import RunView
from agent_service.cli.start import Start
from agent_service.cli.table import age, print_table
from agent_service.cli.terminal import Terminal, printable
from agent_service.cli.wording import command_name


def show_history(start: Start, thread_id: str, *, limit: int, as_json: bool) -> None:
    """Show the moments to which a thread can go back, numbered back from the present."""
    with connect(start, needs_keys=False) as client:
        thread_id = client.full_id(thread_id)
        if as_json:
            write_json(client.history(thread_id, limit))
            return
        found = list(islice(moments(client, thread_id), limit + 1))
    terminal = Terminal()
    if not found and terminal.live:
        terminal.line("Nothing was said on this thread yet.")
        return
    numbers = {str(each["checkpoint_id"]): number for number, each in enumerate(found)}
    show = _row_for_people if terminal.live else _row_for_programs
    rows = [show(number, each, numbers) for number, each in enumerate(found[:limit])]
    print_table(terminal, _TITLES if terminal.live else ("back", "checkpoint", "made", *_TITLES[2:]), rows)
    if terminal.live:
        more = " There are older ones; --limit shows more." if len(found) > limit else ""
        terminal.gap()
        name = f"{command_name()} threads rewind {thread_id}"
        terminal.line((f"Go back so many moments with: {name} NUMBER.{more}", "dim"))


_TITLES = ("back", "made", "messages", "what was last")


def _row_for_people(number: int, moment: dict[str, Any], numbers: dict[str, int]) -> tuple[Text, ...]:
    nothing = "cannot be read" if moment["damaged"] else "before the first instruction"
    last = Text(printable(moment["summary"]) or nothing)
    last.stylize("yellow" if moment["waiting"] else "" if moment["summary"] else "dim")
    for remark in _remarks(number, moment, numbers):
        last = Text.assemble((f"{remark}  ", "bold cyan"), last)
    when = f"{age(moment['created_at'])} ago"
    return Text(str(number)), Text(when), Text(str(moment["messages"])), last


def _row_for_programs(number: int, moment: dict[str, Any], numbers: dict[str, int]) -> tuple[Text, ...]:
    remarks = "".join(f"[{remark}] " for remark in _remarks(number, moment, numbers))
    cells = (number, moment["checkpoint_id"], moment["created_at"], moment["messages"])
    return *(Text(str(cell)) for cell in cells), Text(remarks + printable(moment["summary"]))


def _remarks(number: int, moment: dict[str, Any], numbers: dict[str, int]) -> Iterator[str]:
    if moment["rewound"]:
        origin = numbers.get(moment["parent_id"])
        yield "went back" if origin is None else f"went back to {origin}"
    if number == 0:
        yield "waits here" if moment["waiting"] else "now"
    if moment["damaged"]:
        yield "damaged"


def fork_thread(start: Start, thread_id: str, checkpoint_id: str | None, *, as_json: bool) -> None:
    """Make a new thread that goes on from a checkpoint of this one."""
    with connect(start) as client:
        thread_id = client.full_id(thread_id)
        at = None if checkpoint_id is None else find_moment(client, thread_id, checkpoint_id)
        made = client.fork(thread_id, at)
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
    with connect(start, needs_keys=False) as client:
        thread = client.thread(client.full_id(thread_id))
        checkpoint_id = find_moment(client, thread["thread_id"], checkpoint_id)
        # Files to undo, an open question or a failed run leave something to go back from even so.
        settled = thread["status"] == "idle" and not files
        if settled and is_present(client, thread["thread_id"], checkpoint_id):
            terminal.line("The thread is there already; nothing was changed.")
            if as_json:
                write_json({**thread, "restored": [], "kept": [], "notes": []})
            return COMPLETED
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


@dataclass(frozen=True, slots=True)
class Clearing:
    """What is to be cleared away."""

    keep: int | None = None
    """So many checkpoints of each finished thread stay."""
    older_than: float | None = None
    """Days; only threads on which nothing happened for so long."""
    delete: bool = False
    """Whole threads."""

    def check(self) -> None:
        """Raises Fault if it is not said what may go."""
        if self.delete == (self.keep is not None) or (self.delete and self.older_than is None):
            raise Fault("Say what may go: give --keep N, or --delete with --older-than DAYS.", WRONG_USAGE)


def prune_threads(start: Start, wanted: Clearing, *, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Clear away old checkpoints or whole threads, after showing them and asking; returns the exit code."""
    wanted.check()
    terminal = Terminal(to_stderr=as_json)
    with connect(start, needs_keys=False) as client:

        def prune(*, only_look: bool) -> dict[str, Any]:
            return client.prune(wanted.keep, wanted.older_than, delete=wanted.delete, dry_run=only_look)

        done = prune(only_look=True) if dry_run or not yes else None
        if done is not None and not as_json:
            _show_prunable(terminal, done)
        if done is None or (not dry_run and done["threads"]):
            if not yes and not confirmed(terminal, "Delete this? Files in the projects stay. [y/N] "):
                terminal.line("Nothing was deleted; --yes deletes without asking.")
                return FAILED
            done = prune(only_look=False)
            terminal.line(_in_numbers(done), " deleted.")
        for each in done["skipped"]:
            terminal.line(("✗ ", "red"), each["reason"])
    if as_json:
        write_json(done)
    return COMPLETED


def _show_prunable(terminal: Terminal, found: dict[str, Any]) -> None:
    if not found["threads"]:
        terminal.line("There is nothing to delete.")
        return
    names = [str(each["thread_id"]) for each in found["threads"]]
    rows = [
        (
            Text(short_id(name, names) if terminal.live else name),
            Text(str(each["checkpoints_deleted"] or "all")),
            Text(printable(each["title"])),
        )
        for name, each in zip(names, found["threads"], strict=True)
    ]
    print_table(terminal, ("thread", "checkpoints", "instruction"), rows)
    if terminal.live:
        terminal.gap()
        terminal.line(_in_numbers(found), " can be deleted.")


def _in_numbers(found: dict[str, Any]) -> str:
    if found["threads_deleted"]:
        return _counted(found["threads_deleted"], "thread")
    threads = _counted(found["threads_pruned"], "thread")
    return f"{_counted(found['checkpoints_deleted'], 'checkpoint')} of {threads}"


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
