"""`agent-service threads`: what was worked on, what waits for an answer, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from agent_service.cli.answers import answers_from_stdin, confirmed
from agent_service.cli.client import ServiceClient
from agent_service.cli.connection import connect
from agent_service.cli.conversation import Conversation, tell_answer_command, write_json
from agent_service.cli.fault import COMPLETED, FAILED, WRONG_USAGE, Fault
from agent_service.cli.render import RunView, print_diff
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal, ago, printable
from agent_service.cli.wording import command_name

_STYLES = {"running": "cyan", "requires_human_input": "yellow", "error": "red"}
_WORDS = {"requires_human_input": "waits for an answer"}
_CANCELLED = {"running": "The run was stopped.", "requires_human_input": "The question was withdrawn."}
_SHORT_ID = 8
"""Characters of an id that are shown to a person, where they are enough to tell threads apart."""
_MIN_LAST = 12
"""Characters of the last column of a table."""
_GAP = 2
"""Characters between two columns; one more where there are lines."""


def list_threads(start: Start, *, status: str | None, limit: int, as_json: bool) -> None:
    """Show the latest threads."""
    with connect(start) as client:
        page = client.threads(status, limit, None)
    if as_json:
        write_json(page)
        return
    terminal = Terminal()
    if not page["threads"]:
        which = f" that are {_WORDS.get(status, status)}" if status else " yet"
        terminal.line(f'There are no threads{which}; {command_name()} run "INSTRUCTION" starts one.')
        return
    names = [str(thread["thread_id"]) for thread in page["threads"]]
    rows = [
        (
            Text(short_id(name, names) if terminal.live else name),
            Text(_WORDS.get(thread["status"], thread["status"]), _STYLES.get(thread["status"], "")),
            Text(f"{age(thread['updated_at'])} ago"),
            Text(printable(thread["title"])),
        )
        for name, thread in zip(names, page["threads"], strict=True)
    ]
    print_table(terminal, ("thread", "status", "changed", "instruction"), rows)


def short_id(name: str, names: list[str]) -> str:
    """The beginning of the id if it is that of no other, else the id."""
    short = name[:_SHORT_ID]
    return short if sum(each.startswith(short) for each in names) == 1 else name


def print_table(terminal: Terminal, titles: Sequence[str], rows: Sequence[tuple[Text, ...]]) -> None:
    """A table in which only the last column may be cut, because the others are copied."""
    *others, last = titles
    table = Table(box=SIMPLE if terminal.live else None, show_edge=False, pad_edge=False)
    fixed = 0
    for place, title in enumerate(others):
        width = max(len(title), *(cell_len(row[place].plain) for row in rows))
        table.add_column(title, width=width, no_wrap=True)
        fixed += width + _GAP + terminal.live
    room = max(_MIN_LAST, terminal.console.width - fixed)
    table.add_column(last, width=room, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    terminal.console.print(table, width=fixed + room, crop=False)


def show_thread(start: Start, thread_id: str, *, as_json: bool) -> None:
    """Show a thread, its latest run and its open questions."""
    with connect(start) as client:
        thread = client.thread(client.full_id(thread_id))
    if as_json:
        write_json(thread)
        return
    terminal = Terminal()
    status: str = thread["status"]
    terminal.line((thread["title"], "bold"))
    terminal.line(("  thread   ", "dim"), thread["thread_id"])
    terminal.line(("  project  ", "dim"), thread["project_directory"] or "none")
    terminal.line(("  status   ", "dim"), (_WORDS.get(status, status), _STYLES.get(status, "")))
    terminal.line(("  changed  ", "dim"), f"{age(thread['updated_at'])} ago")
    if thread["error_details"]:
        terminal.line(("  error    ", "dim"), thread["error_details"])
    response = thread["last_response"] or {}
    if response.get("explanation"):
        terminal.gap()
        terminal.line(response["explanation"])
    for request in thread["pending_requests"]:
        RunView(terminal).question(request)
        tell_answer_command(terminal, thread["thread_id"], request, start.options)


def answer_thread(
    start: Start, thread_id: str, words: list[str], *, yes: bool = False, as_json: bool = False
) -> int:
    """Answer an open question and follow the run that goes on; returns the exit code."""
    terminal = Terminal(to_stderr=as_json)
    with connect(start) as client:
        thread_id = client.full_id(thread_id)
        call_id = words[0] if len(words) == 2 else _only_question(client, thread_id)
        events = client.resume(thread_id, call_id, words[-1])
        answers = answers_from_stdin(terminal, yes=yes)
        return Conversation(client, thread_id, terminal, answers, options=start.options, as_json=as_json).run(
            events
        )


def follow_thread(start: Start, thread_id: str, *, yes: bool = False, as_json: bool = False) -> int:
    """Show the latest run from its beginning, go along to its end, and answer; returns the exit code."""
    terminal = Terminal(to_stderr=as_json)
    with connect(start) as client:
        thread = client.thread(client.full_id(thread_id))
        if thread["run_id"] is None:
            raise Fault("nothing has happened on this thread yet")
        ids = {"thread_id": thread["thread_id"], "run_id": thread["run_id"]}
        conversation = Conversation(
            client,
            thread["thread_id"],
            terminal,
            answers_from_stdin(terminal, yes=yes),
            options=start.options,
            as_json=as_json,
        )
        return conversation.run(client.follow({**ids, "seq": 0}))


def show_diff(start: Start, thread_id: str) -> None:
    """Show what the thread changed; in a pipe byte by byte, for `git apply`."""
    with connect(start) as client:
        diff = client.diff(client.full_id(thread_id))
    terminal = Terminal()
    print_diff(terminal.console, diff, live=terminal.live)


def cancel_thread(start: Start, thread_id: str) -> None:
    """Stop the thread's run, or withdraw its questions."""
    with connect(start) as client:
        thread_id = client.full_id(thread_id)
        before = client.thread(thread_id)["status"]
        client.cancel(thread_id)
    Terminal().line(_CANCELLED.get(before, "There was nothing to cancel."))


def delete_thread(start: Start, thread_id: str, *, yes: bool) -> int:
    """Delete the thread after asking; returns the exit code."""
    terminal = Terminal()
    with connect(start) as client:
        thread = client.thread(client.full_id(thread_id))
        terminal.line((thread["title"], "bold"), (f"  {thread['thread_id']}", "dim"))
        if not yes and not confirmed(terminal, "Delete this thread? Files in the project stay. [y/N] "):
            terminal.line("Nothing was deleted; --yes deletes without asking.")
            return FAILED
        client.delete(thread["thread_id"])
    terminal.line("The thread was deleted.")
    return COMPLETED


def _only_question(client: ServiceClient, thread_id: str) -> str:
    pending: list[dict[str, Any]] = client.thread(thread_id)["pending_requests"]
    if len(pending) == 1:
        return str(pending[0]["tool_call_id"])
    if not pending:
        raise Fault("the thread does not wait for an answer")
    named = "".join(
        f"\n  {each['tool_call_id']}  {printable(each['question_for_human'])}" for each in pending
    )
    raise Fault(f"several questions are open; say which one, before the answer:{named}", WRONG_USAGE)


def age(moment: str) -> str:
    """How long ago an ISO 8601 moment was, as people say it."""
    return ago((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
