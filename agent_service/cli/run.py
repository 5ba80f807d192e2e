"""`agent-service run`: an instruction, carried out in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from agent_service.cli.client import QUESTION_OPEN, Refused, ServiceClient
from agent_service.cli.connection import connect
from agent_service.cli.conversation import Audience, Conversation, answer_command
from agent_service.cli.fault import WRONG_USAGE, Fault
from agent_service.cli.render import RunView
from agent_service.cli.start import Start
from agent_service.cli.terminal import printable


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    instruction: str
    project: Path | None = None
    """None = the current folder, or on a known thread that thread's own."""
    thread: str | None = None
    quality: str | None = None
    provider: str | None = None
    model: str | None = None
    yes: bool = False
    as_json: bool = False


def run(start: Start, wish: Wish) -> int:
    """Carry it out, by a running service or one of our own; returns the exit code."""
    if not wish.instruction.strip():
        raise Fault("The instruction is empty; say in words what to do.", WRONG_USAGE)
    project = _folder(wish.project or Path.cwd())
    audience = Audience.here(start, yes=wish.yes, as_json=wish.as_json)
    with connect(start, project) as client:
        thread_id = client.full_id(wish.thread) if wish.thread else str(uuid4())
        known = wish.thread is not None and wish.project is None and _exists(client, thread_id)
        body = _request(wish, thread_id, None if known else project)
        try:
            return Conversation(client, thread_id, audience, start.beginning).run(client.invoke(body))
        except Refused as refused:
            if refused.code != QUESTION_OPEN:
                raise
            raise _what_to_answer_first(client, thread_id, audience, refused) from None


def _folder(path: Path) -> Path:
    folder = path.expanduser().absolute()
    if not folder.is_dir():
        raise Fault(f"There is no folder {path}; give --project an existing one.", WRONG_USAGE)
    return folder


def _exists(client: ServiceClient, thread_id: str) -> bool:
    try:
        client.thread(thread_id)
    except Refused as refused:
        if refused.status != 404:
            raise
        return False
    return True


def _what_to_answer_first(
    client: ServiceClient, thread_id: str, audience: Audience, refused: Refused
) -> Refused:
    """Show the open questions; the refusal with the commands that answer them."""
    pending: list[dict[str, Any]] = client.thread(thread_id)["pending_requests"]
    if not pending:  # it was answered just now
        return refused
    for request in pending:
        RunView(audience.terminal).question(request)
    commands = (answer_command(thread_id, request, audience.options) for request in pending)
    lines = "".join(f"\n  {printable(command)}" for command in commands)
    message = (
        f"The thread waits for an answer, so it was not given the instruction. Answer first, with:{lines}"
    )
    return Refused(refused.status, refused.code, message, refused.param)


def _request(wish: Wish, thread_id: str, project: Path | None) -> dict[str, Any]:
    """The body of invoke. The thread's name is ours, so that it can be found again whatever happens."""
    given = {
        "instruction": wish.instruction,
        "thread_id": thread_id,
        "project_directory": str(project) if project else None,
        "model_quality": wish.quality,
        "provider": wish.provider,
        "model": wish.model,
    }
    return {name: value for name, value in given.items() if value is not None}
