"""`agent-service threads`: what was worked on, what waits for an answer, and the answers."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from agent_service.cli.answers import chosen, confirmed
from agent_service.cli.connection import connect, open_service, running_service
from agent_service.cli.conversation import Audience, Conversation, tell_answer_command, write_json
from agent_service.cli.fault import COMPLETED, FAILED, WRONG_USAGE, Fault
from agent_service.cli.ids import short_id
from agent_service.cli.prose import print_prose
from agent_service.cli.render import RunView, print_diff
from agent_service.cli.start import Start
from agent_service.cli.table import age, print_table
from agent_service.cli.terminal import Terminal, printable
from agent_service.cli.wording import command_name
from checkpoints.threads import ThreadStatus

_STYLES = {"running": "cyan", "requires_human_input": "yellow", "error": "red", "left off": "yellow"}
_WORDS = {"requires_human_input": "waits for an answer", "error": "failed"}
_NONE = {
    None: "There are no threads yet;",
    "idle": "No thread is idle;",
    "running": "No thread is running;",
    "requires_human_input": "No thread waits for an answer;",
    "error": "No thread has failed;",
}
_CANCELLED = {"running": "The run was stopped.", "requires_human_input": "The question was withdrawn."}


def list_threads(start: Start, *, status: ThreadStatus | None, limit: int, as_json: bool) -> None:
    """Show the latest threads."""
    page, left = _latest(start, status, limit)
    if as_json:
        write_json(page)
        return
    terminal = Terminal()
    if not page["threads"] and terminal.live:
        terminal.line(f'{_NONE[status]} {command_name()} run "INSTRUCTION" starts one.')
        return
    names = [str(thread["thread_id"]) for thread in page["threads"]]
    show = _row_for_people if terminal.live else _row_for_programs
    rows = [show(thread, names, left) for thread in page["threads"]]
    print_table(terminal, ("thread", "status", "changed", "instruction"), rows)
    if page["next_cursor"] and terminal.live:
        terminal.line(("There are older ones; --limit shows more.", "dim"))


def _latest(start: Start, status: ThreadStatus | None, limit: int) -> tuple[dict[str, Any], set[str]]:
    """A page of threads, and which of them run although nobody works on them."""
    if url := running_service(start):
        with open_service(start, url) as client:
            return client.threads(status, limit, None), set()
    from agent_service.cli.stored import stored_threads

    return stored_threads(start, status, limit)


def _row_for_people(thread: dict[str, Any], names: list[str], left: set[str]) -> tuple[Text, ...]:
    status = "left off" if thread["thread_id"] in left else thread["status"]
    return (
        Text(short_id(thread["thread_id"], names)),
        Text(_WORDS.get(status, status), _STYLES.get(status, "")),
        Text(f"{age(thread['updated_at'])} ago"),
        Text(printable(thread["title"])),
    )


def _row_for_programs(thread: dict[str, Any], _names: list[str], _left: set[str]) -> tuple[Text, ...]:
    cells = (thread["thread_id"], thread["status"], thread["updated_at"], printable(thread["title"]))
    return tuple(map(Text, cells))


def show_thread(start: Start, thread_id: str, *, as_json: bool) -> None:
    """Show a thread, its latest run and its open questions."""
    with connect(start, needs_keys=False) as client:
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
        print_prose(terminal, response["explanation"])
    for request in thread["pending_requests"]:
        RunView(terminal).question(request)
        tell_answer_command(terminal, thread["thread_id"], request, start.options)


def answer_thread(
    start: Start, thread_id: str, words: list[str], *, yes: bool = False, as_json: bool = False
) -> int:
    """Answer an open question and follow the run that goes on; returns the exit code.

    `words`: the answer, or the number of an option, maybe after the id of the question.
    """
    audience = Audience.here(start, yes=yes, as_json=as_json)
    with connect(start) as client:
        thread_id = client.full_id(thread_id)
        pending: list[dict[str, Any]] = client.thread(thread_id)["pending_requests"]
        call_id = words[0] if len(words) == 2 else _only_question(pending)
        request = next((each for each in pending if each["tool_call_id"] == call_id), {})
        answer = chosen(words[-1], request)
        if answer != words[-1]:
            audience.terminal.line("Answer: ", answer)
        return Conversation(client, thread_id, audience).run(client.resume(thread_id, call_id, answer))


def follow_thread(start: Start, thread_id: str, *, yes: bool = False, as_json: bool = False) -> int:
    """Show the latest run from its beginning, go along to its end, and answer; returns the exit code."""
    audience = Audience.here(start, yes=yes, as_json=as_json)
    with connect(start) as client:
        thread = client.thread(client.full_id(thread_id))
        if thread["run_id"] is None:
            raise Fault("Nothing has happened on this thread yet, so there is nothing to follow.")
        conversation = Conversation(client, thread["thread_id"], audience, timed=False)
        return conversation.run(lambda: client.follow_latest(thread))


def show_diff(start: Start, thread_id: str) -> None:
    """Show what the thread changed; in a pipe byte by byte, for `git apply`."""
    with connect(start, needs_keys=False) as client:
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
    with connect(start, needs_keys=False) as client:
        thread = client.thread(client.full_id(thread_id))
        terminal.line((thread["title"], "bold"), (f"  {thread['thread_id']}", "dim"))
        if not yes and not confirmed(terminal, "Delete this thread? Files in the project stay. [y/N] "):
            terminal.line("Nothing was deleted; --yes deletes without asking.")
            return FAILED
        client.delete(thread["thread_id"])
    terminal.line("The thread was deleted.")
    return COMPLETED


def _only_question(pending: list[dict[str, Any]]) -> str:
    if len(pending) == 1:
        return str(pending[0]["tool_call_id"])
    if not pending:
        raise Fault("The thread does not wait for an answer; `threads show` tells how it stands.")
    named = "".join(
        f"\n  {each['tool_call_id']}  {printable(each['question_for_human'])}" for each in pending
    )
    raise Fault(f"Several questions are open; put the id of one before the answer:{named}", WRONG_USAGE)
