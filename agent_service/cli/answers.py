"""Where answers to the agent's questions come from: a person at the terminal, lines of a pipe, or nowhere."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import Any, Protocol

from agent_service.cli.terminal import Terminal

PIPE_SECONDS = 2.0
"""How long a pipe that is open but silent is waited for: a script may need a moment to read the question."""
_CHUNK = 65536


class Answers(Protocol):
    """Answers one question after the other."""

    def answer(self, request: dict[str, Any]) -> str | None:
        """The answer; None = there is nobody to ask, or they would rather answer later."""
        ...


def answers_from_stdin(terminal: Terminal, *, yes: bool) -> Answers:
    """A person if standard input is a terminal, else the lines piped in; `yes` answers approvals."""
    answers = PromptedAnswers(terminal) if sys.stdin.isatty() else PipedAnswers(terminal, sys.stdin.fileno())
    return ConsentingAnswers(answers, terminal) if yes else answers


class PromptedAnswers:
    """Asks at the terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def answer(self, request: dict[str, Any]) -> str | None:
        hint = _hint(request)
        try:
            while not (text := self._line(f"  {hint} › ").strip()):
                pass
        except (EOFError, KeyboardInterrupt):
            self._terminal.gap()
            return None
        return chosen(text, request)

    def _line(self, prompt: str) -> str:
        if sys.stdout.isatty():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - gives `input` its line editing
            return input(prompt)
        self._terminal.piece(prompt)  # standard output is for programs, where `input` would write the prompt
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line


class PipedAnswers:
    """One line of a pipe or file for each question."""

    def __init__(self, terminal: Terminal, descriptor: int) -> None:
        self._terminal, self._descriptor = terminal, descriptor
        self._buffer = b""

    def answer(self, request: dict[str, Any]) -> str | None:
        while (line := self._line()) is not None:
            if text := line.decode("utf-8", "replace").strip():
                answer = chosen(text, request)
                self._terminal.line("Answer: ", answer)
                return answer
        return None

    def _line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._descriptor], [], [], PIPE_SECONDS)
            chunk = os.read(self._descriptor, _CHUNK) if ready else b""
            if not chunk:
                rest, self._buffer = self._buffer, b""
                return rest or None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


class ConsentingAnswers:
    """Says yes to every approval; leaves questions to others."""

    def __init__(self, others: Answers, terminal: Terminal) -> None:
        self._others, self._terminal = others, terminal

    def answer(self, request: dict[str, Any]) -> str | None:
        if request["kind"] != "approval":
            return self._others.answer(request)
        self._terminal.line("  yes ", ("(--yes)", "dim"))
        return "yes"


def confirmed(terminal: Terminal, question: str) -> bool:
    """Whether a person at the terminal says yes; nobody there means no."""
    if not sys.stdin.isatty():
        return False
    try:
        answer = input(question)
    except (EOFError, KeyboardInterrupt):
        terminal.gap()
        return False
    return answer.strip().lower() in ("y", "yes")


def chosen(text: str, request: dict[str, Any]) -> str:
    """The option of that number, if the text is the number of one and not itself an option; else the text."""
    options: list[str] = request.get("options") or []
    if text in options:
        return text
    numbered = {str(number): option for number, option in enumerate(options, 1)}
    return numbered.get(text.strip(), text)


def _hint(request: dict[str, Any]) -> str:
    if request["kind"] == "approval":
        return "yes, no, or what to do instead"
    return "a number, or your own words" if request.get("options") else "your answer"
