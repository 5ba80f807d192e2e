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
from queue import SimpleQueue
from types import FrameType
from typing import Any

from agent_service.cli.answers import Answers
from agent_service.cli.client import Disconnected, Event, Events, Refused, ServiceClient
from agent_service.cli.fault import COMPLETED, FAILED, INTERRUPTED, WAITING, Fault, fault_of
from agent_service.cli.render import RunView, print_diff, was_cancelled
from agent_service.cli.terminal import Terminal
from agent_service.cli.wording import command_name

RECONNECT_SECONDS = 60.0
"""How long a service that went away is waited for."""
POLL_SECONDS = 0.5
LAST_WORDS_SECONDS = 2.0
"""How long the answer to a cancel is waited for when the run has ended already."""
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
        beginning: str = "working",
    ) -> None:
        """`options` are shown with the command that answers a question later; see `Start.options`.

        `beginning` is what goes on until the model first speaks.
        """
        self._client, self._thread_id, self._options = client, thread_id, options
        self._terminal, self._answers, self._as_json = terminal, answers, as_json
        self._view = RunView(terminal, beginning)

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
            with _first_interrupt(self._cancel):
                return self._watch(events)
        except KeyboardInterrupt:
            self._view.note(
                f"Left. How it stands: {command_name()} threads show {self._thread_id}{self._options}"
            )
            raise
        finally:
            self._view.quiet()

    def _watch(self, events: Events) -> Response:
        """The response at the end of the events. Where the connection breaks off they are taken up again."""
        last: Event | None = None
        give_up: float | None = None
        while True:
            try:
                with closing(events):
                    for event in events:
                        last, give_up = event, None
                        self._view.show(event)
                        if event["kind"] == "run.finished":
                            response: Response = event["response"]
                            return response
            except Disconnected:
                if give_up is None:
                    self._view.note("The connection broke off; waiting for the service.")
                    self._view.waiting()
                    give_up = time.monotonic() + RECONNECT_SECONDS
                if time.monotonic() > give_up:
                    raise
            if last is None:
                return self._settled()
            time.sleep(POLL_SECONDS)
            events = self._client.follow(last)

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
        try:
            self._client.cancel(self._thread_id)
        except Disconnected:
            pass  # whoever follows the run notices that too, and says so
        except Fault as fault:
            self._view.note(str(fault))

    def _finish(self, response: Response) -> int:
        status = response["agent_status"]
        self._view.summary(response)
        if status == "requires_human_input":
            tell_answer_command(
                self._terminal, self._thread_id, response["human_input_request"], self._options
            )
        else:
            self._terminal.line(("  thread ", "dim"), (self._thread_id, "dim"))
        if self._as_json:
            write_json(response)
        elif status != "requires_human_input" and response["files_changed"]:
            self._show_diff()
        if was_cancelled(response):
            return INTERRUPTED
        return {"completed": COMPLETED, "requires_human_input": WAITING}.get(status, FAILED)

    def _show_diff(self) -> None:
        self._terminal.gap()
        print_diff(self._terminal.console, self._client.diff(self._thread_id), live=self._terminal.live)


def tell_answer_command(terminal: Terminal, thread_id: str, request: Response, options: str) -> None:
    """Show the command that answers the question; `options` as of `Start.options`."""
    approval = request["kind"] == "approval"
    names = f"{shlex.quote(thread_id)} {shlex.quote(request['tool_call_id'])}"
    answer = "YES_OR_NO" if approval else '"ANSWER"'  # nobody shall consent by pasting
    command = f"{command_name()} threads answer {names} {answer}{options}"
    terminal.line(("  Answer it with: ", "dim"), command)


@contextmanager
def faults_as_json(wanted: bool) -> Iterator[None]:
    """For programs: what ends the command early, on standard output as well."""
    try:
        yield
    except Exception as error:
        fault = fault_of(error)
        if wanted and fault is not None:
            write_json({"error": {"message": str(fault), "code": fault.code}})
        raise


def write_json(value: Any) -> None:
    """For programs: the value on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextmanager
def _first_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls `act` in a thread of its own; the second one interrupts as usual."""
    presses: SimpleQueue[bool] = SimpleQueue()  # the one means of this kind that a signal handler may use
    pressed = False

    def act_if_pressed() -> None:
        if presses.get():
            act()

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        presses.put(True)

    watcher = threading.Thread(target=act_if_pressed, daemon=True)
    watcher.start()
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
        presses.put(False)
        watcher.join(LAST_WORDS_SECONDS)
    finally:
        presses.put(False)
        signal.signal(signal.SIGINT, before)
