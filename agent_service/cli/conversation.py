"""A run from its first event to its end, with all the questions on the way."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

from agent_service.cli.answers import Answers
from agent_service.cli.client import Disconnected, Events, Refused, ServiceClient
from agent_service.cli.fault import COMPLETED, FAILED, WAITING, Fault
from agent_service.cli.render import RunView, print_diff
from agent_service.cli.terminal import Terminal

RECONNECT_SECONDS = 60.0
"""How long a service that went away is waited for."""
POLL_SECONDS = 0.5
_OVERTAKEN = ("already_answered", "not_waiting", "thread_busy")
"""Codes that say: somebody else answered in the meantime."""

Response = dict[str, Any]


class Conversation:
    """One thread, followed and answered until it comes to an end."""

    def __init__(
        self,
        client: ServiceClient,
        thread_id: str,
        terminal: Terminal,
        answers: Answers,
        *,
        options: str = "",
        as_json: bool = False,
    ) -> None:
        """`options` are shown with the command that answers a question later; see `Start.options`."""
        self._client, self._thread_id, self._options = client, thread_id, options
        self._terminal, self._answers, self._as_json = terminal, answers, as_json
        self._view = RunView(terminal)

    def run(self, events: Events) -> int:
        """Follow the events, ask and answer, show how it ended. Returns the exit code."""
        response = self._follow(events)
        while response["agent_status"] == "requires_human_input":
            request = response["human_input_request"]
            self._view.question(request)
            answer = self._answers.answer(request)
            if answer is None:
                break
            response = self._go_on(response, request["tool_call_id"], answer)
        return self._finish(response)

    def _go_on(self, response: Response, call_id: str, answer: str) -> Response:
        try:
            return self._follow(self._client.resume(self._thread_id, call_id, answer))
        except Refused as refused:
            if refused.code == "answer_unclear":
                self._view.note(str(refused))
                return response
            if refused.code in _OVERTAKEN:
                self._view.note("Somebody else answered; going on from there.")
                return self._settled()
            raise

    def _follow(self, events: Events) -> Response:
        self._view.waiting()
        try:
            with _first_interrupt(self._cancel), closing(events):
                try:
                    for event in events:
                        self._view.show(event)
                        if event["kind"] == "run.finished":
                            response: Response = event["response"]
                            return response
                except Disconnected:
                    self._view.note("The connection broke off; waiting for the service.")
                    self._view.waiting()
                return self._settled()
        finally:
            self._view.quiet()

    def _settled(self) -> Response:
        """The thread's latest response, as soon as no run is under way."""
        give_up = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                thread = self._client.thread(self._thread_id)
                give_up = time.monotonic() + RECONNECT_SECONDS
            except Disconnected:
                if time.monotonic() > give_up:
                    raise
                thread = {"status": "running"}
            if thread["status"] != "running":
                break
            time.sleep(POLL_SECONDS)
        if thread["last_response"] is None:
            raise Fault(f"thread {self._thread_id} has no run that came to an end")
        response: Response = thread["last_response"]
        return response

    def _cancel(self) -> None:
        self._view.note("Stopping; Ctrl-C once more leaves at once.")
        self._view.waiting()
        try:
            self._client.cancel(self._thread_id)
        except Fault as fault:
            self._view.note(str(fault))

    def _finish(self, response: Response) -> int:
        status = response["agent_status"]
        self._view.summary(response)
        if status == "requires_human_input":
            call_id = response["human_input_request"]["tool_call_id"]
            self._terminal.line(
                ("  Answer it with: ", "dim"), answer_command(self._thread_id, call_id, self._options)
            )
        else:
            self._terminal.line(("  thread ", "dim"), (self._thread_id, "dim"))
        if self._as_json:
            write_json(response)
        elif status != "requires_human_input" and response["files_changed"]:
            self._show_diff()
        return {"completed": COMPLETED, "requires_human_input": WAITING}.get(status, FAILED)

    def _show_diff(self) -> None:
        self._terminal.gap()
        print_diff(self._terminal.console, self._client.diff(self._thread_id), live=self._terminal.live)


def answer_command(thread_id: str, call_id: str, options: str) -> str:
    """The command that answers the question; `options` as of `Start.options`."""
    return f'agent-service threads answer {shlex.quote(thread_id)} {shlex.quote(call_id)} "ANSWER"{options}'


def write_json(value: Any) -> None:
    """For programs: the value on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextmanager
def _first_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls `act` in a thread of its own; the second one interrupts as usual."""
    pressed = False

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        threading.Thread(target=act, daemon=True).start()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
