"""`agent-service threads`: what was worked on, what waits for an answer, and the answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from agent_service.cli.answers import answers_from_stdin
from agent_service.cli.client import ServiceClient
from agent_service.cli.connection import connect
from agent_service.cli.conversation import Conversation, answer_command, write_json
from agent_service.cli.fault import WRONG_USAGE, Fault
from agent_service.cli.render import RunView, print_diff
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal, ago, printable

_STYLES = {"running": "cyan", "requires_human_input": "yellow", "error": "red"}
_WORDS = {"requires_human_input": "waits for an answer"}


def list_threads(start: Start, *, status: str | None, limit: int, as_json: bool) -> None:
    """Show the latest threads."""
    with connect(start) as client:
        page = client.threads(status, limit, None)
    if as_json:
        write_json(page)
        return
    terminal = Terminal()
    if not page["threads"]:
        terminal.line('There are no threads yet; agent-service run "INSTRUCTION" starts one.')
        return
    table = Table(box=SIMPLE if terminal.live else None, show_edge=False, pad_edge=False)
    table.add_column("thread", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("changed", no_wrap=True)
    table.add_column("instruction", overflow="ellipsis", no_wrap=True)
    for thread in page["threads"]:
        stands: str = thread["status"]
        table.add_row(
            thread["thread_id"],
            Text(_WORDS.get(stands, stands), style=_STYLES.get(stands, "")),
            f"{_age(thread['updated_at'])} ago",
            printable(thread["title"]),
        )
    terminal.console.print(table)


def show_thread(start: Start, thread_id: str, *, as_json: bool) -> None:
    """Show a thread, its latest run and its open questions."""
    with connect(start) as client:
        thread = client.thread(thread_id)
    if as_json:
        write_json(thread)
        return
    terminal = Terminal()
    status: str = thread["status"]
    terminal.line((thread["title"], "bold"))
    terminal.line(("  thread   ", "dim"), thread["thread_id"])
    terminal.line(("  project  ", "dim"), thread["project_directory"] or "none")
    terminal.line(("  status   ", "dim"), (_WORDS.get(status, status), _STYLES.get(status, "")))
    terminal.line(("  changed  ", "dim"), f"{_age(thread['updated_at'])} ago")
    if thread["error_details"]:
        terminal.line(("  error    ", "dim"), thread["error_details"])
    response = thread["last_response"] or {}
    if response.get("explanation"):
        terminal.gap()
        terminal.line(response["explanation"])
    for request in thread["pending_requests"]:
        RunView(terminal).question(request)
        terminal.line(
            ("  Answer it with: ", "dim"),
            answer_command(thread["thread_id"], request["tool_call_id"], start.options),
        )


def answer_thread(
    start: Start, thread_id: str, words: list[str], *, yes: bool = False, as_json: bool = False
) -> int:
    """Answer an open question and follow the run that goes on; returns the exit code."""
    terminal = Terminal(to_stderr=as_json)
    with connect(start) as client:
        call_id = words[0] if len(words) == 2 else _only_question(client, thread_id)
        events = client.resume(thread_id, call_id, words[-1])
        answers = answers_from_stdin(terminal, yes=yes)
        return Conversation(client, thread_id, terminal, answers, options=start.options, as_json=as_json).run(
            events
        )


def show_diff(start: Start, thread_id: str) -> None:
    """Show what the thread changed; in a pipe byte by byte, for `git apply`."""
    with connect(start) as client:
        diff = client.diff(thread_id)
    terminal = Terminal()
    print_diff(terminal.console, diff, live=terminal.live)


def cancel_thread(start: Start, thread_id: str) -> None:
    """Stop the thread's run, or withdraw its questions."""
    with connect(start) as client:
        thread = client.cancel(thread_id)
    Terminal().line(f"The thread is {thread['status']}.")


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


def _age(moment: str) -> str:
    return ago((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
