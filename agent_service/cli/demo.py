"""`agent-service demo`: the main job on a small project: look, ask, change a file, show what changed."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from agent_service.cli.answers import Answers, answers_from_stdin
from agent_service.cli.client import Json, Refused, ServiceClient
from agent_service.cli.connection import default_url, own_service
from agent_service.cli.conversation import Audience, Conversation
from agent_service.cli.fault import COMPLETED, FAILED
from agent_service.cli.local import install
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal
from agent_service.cli.wording import command_name, laid_out
from agent_service.model_pool import OTHER_MODELS

FILES = {
    "README.md": "# Greeter\n\n`python greet.py` prints a greeting.\n",
    "greet.py": 'print("Hello, World!")\n',
}
INSTRUCTION = (
    "Ask the user which greeting greet.py should print. "
    "Then write greet.py so that it prints exactly the greeting the user gave."
)
DEFAULT_ANSWER = "Hello, Orion!"


def demo(start: Start, *, yes: bool) -> int:
    """Show it on whatever model there is, else on the embedded one; returns the exit code."""
    terminal = Terminal()
    with _folder() as project, own_service(start, project) as client:
        found = _models(client)
        if found is None:
            terminal.line("No model is configured, so this demo needs the embedded one.")
            if not _install(start, terminal, yes=yes):
                return FAILED
            found = _models(client)
        _fill(project)
        _introduce(terminal, project, _described(client, found))
        thread_id = str(uuid4())
        answers = _DemoAnswers(answers_from_stdin(terminal, yes=True), terminal)
        body = {"instruction": INSTRUCTION, "thread_id": thread_id, "project_directory": str(project)}
        conversation = Conversation(client, thread_id, Audience(terminal, answers), start.beginning)
        exit_code = conversation.run(client.invoke(body))
    if exit_code == COMPLETED:
        _what_next(terminal, start, project)
    elif exit_code == FAILED:
        terminal.gap()
        terminal.line(("What to try now  ", "bold"), f"{command_name()} doctor{start.options}")
    return exit_code


class _DemoAnswers:
    """Answers for those who cannot, so that the demo comes to its end everywhere."""

    def __init__(self, answers: Answers, terminal: Terminal) -> None:
        self._answers, self._terminal = answers, terminal

    def answer(self, request: dict[str, Any]) -> str | None:
        answer = self._answers.answer(request)
        if answer is None:
            self._terminal.line(f"  no terminal to ask at: answering '{DEFAULT_ANSWER}' for you")
        return DEFAULT_ANSWER if answer is None else answer


def _models(client: ServiceClient) -> list[Json] | None:
    """The models as the agent would ask them; None = the service has no provider at all."""
    try:
        found: list[Json] = client.route(INSTRUCTION, "best_quality")["candidates"]
    except Refused as refused:
        if refused.code != "no_provider":
            raise
        return None
    return found


def _described(client: ServiceClient, found: list[Json] | None) -> tuple[str, str] | None:
    """The model that is asked first, and where it is; None = no provider names any."""
    if not found:
        return None
    name = f"{found[0]['provider']}/{found[0]['model']}"
    for provider in client.providers():  # those that are configured; the others were found here
        if provider["name"] == found[0]["provider"] and provider["tier"] != "local":
            return name, f"at {provider['base_url']}"
    return name, "on this machine"


def _install(start: Start, terminal: Terminal, *, yes: bool) -> bool:
    """Whether the embedded model is there now; else the other ways were told. Raises Fault."""
    installed = False
    try:
        installed = install(start, yes=yes)
    finally:
        if not installed:
            for line in laid_out(f"The demo can do with any other model as well: {OTHER_MODELS}"):
                terminal.line(line)
    return installed


@contextmanager
def _folder() -> Iterator[Path]:
    """A new folder, which stays if something was put into it."""
    folder = Path(tempfile.mkdtemp(prefix="agent-demo-"))
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()


def _fill(project: Path) -> None:
    for name, content in FILES.items():
        (project / name).write_text(content, encoding="utf-8")


def _introduce(terminal: Terminal, project: Path, model: tuple[str, str] | None) -> None:
    terminal.gap()
    if model is not None:
        name, place = model
        terminal.line(("The model    ", "bold"), name, (f"  {place}", "dim"))
    terminal.line(("The project  ", "bold"), (str(project), "dim"))
    for name, content in FILES.items():
        terminal.line(f"  {name}")
        for line in content.splitlines():
            terminal.line(("    │ ", "dim"), (line, "cyan"))
    terminal.gap()
    terminal.line(("The instruction", "bold"))
    terminal.paragraph(INSTRUCTION)
    terminal.gap()
    terminal.line(("The agent at work", "bold"))


def _what_next(terminal: Terminal, start: Start, project: Path) -> None:
    url = default_url(start)
    body = json.dumps({"instruction": "Explain greet.py.", "project_directory": str(project)})
    terminal.gap()
    terminal.line(("What to do next", "bold"))
    name, given = command_name(), start.options
    terminal.line(("  in a project of yours    ", "dim"), f'{name} run "What does this project do?"{given}')
    terminal.line(("  for editors and scripts  ", "dim"), f"{name} serve{given}")
    terminal.line(("  and then                 ", "dim"), f"curl -s {url}/v1/agents/code/invoke \\")
    terminal.line(f"{'':27}  -H 'Content-Type: application/json' \\")
    terminal.line(f"{'':27}  -d {shlex.quote(body)}")
