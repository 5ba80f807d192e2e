"""`agent-service demo`: the main job on a small project: look, ask, change a file, show what changed."""

from __future__ import annotations

import asyncio
import json
import shlex
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from agent_service.cli.answers import Answers, answers_from_stdin
from agent_service.cli.connection import default_url, own_service
from agent_service.cli.conversation import Audience, Conversation
from agent_service.cli.fault import COMPLETED, FAILED
from agent_service.cli.local import install
from agent_service.cli.models import ranking
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal
from agent_service.cli.wording import command_name, laid_out
from agent_service.model_pool import HOW_TO_BEGIN
from routing.errors import NoProviderConfigured
from routing.policy import Candidate

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
    model = _first_model(start)
    if model is None:
        terminal.line("No model is configured, so this demo needs the embedded one.")
        if not _install(start, terminal, yes=yes):
            return COMPLETED
        model = _first_model(start)
    project = _make_project()
    _introduce(terminal, project, model)
    thread_id = str(uuid4())
    answers = _DemoAnswers(answers_from_stdin(terminal, yes=True), terminal)
    body = {"instruction": INSTRUCTION, "thread_id": thread_id, "project_directory": str(project)}
    with own_service(start, project) as client:
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


def _first_model(start: Start) -> Candidate | None:
    """The model that would be asked first."""
    try:
        ranked = asyncio.run(ranking(start, INSTRUCTION, "best_quality"))
    except NoProviderConfigured:
        return None
    return ranked[0].candidate if ranked else None


def _install(start: Start, terminal: Terminal, *, yes: bool) -> bool:
    """Whether the embedded model is there now; else the other ways were told. Raises Fault."""
    installed = False
    try:
        installed = install(start, yes=yes)
    finally:
        if not installed:
            for line in laid_out(HOW_TO_BEGIN):
                terminal.line(line)
    return installed


def _make_project() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="agent-demo-"))
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def _introduce(terminal: Terminal, project: Path, model: Candidate | None) -> None:
    terminal.gap()
    if model is not None:
        note = "on this machine" if model.spec.tier == "local" else f"at {model.spec.base_url}"
        terminal.line(("The model    ", "bold"), model.name, (f"  {note}", "dim"))
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
