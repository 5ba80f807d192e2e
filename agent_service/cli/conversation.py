"""A run from its first event to its end, with all the questions on the way."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import FrameType
from typing import Any

from agent_service.cli.answers import Answers, answers_from_stdin
from agent_service.cli.client import REPLAY_SECONDS, SILENCE_SECONDS, Begin, Refused, ServiceClient
from agent_service.cli.event_stream import Event
from agent_service.cli.fault import COMPLETED, FAILED, INTERRUPTED, WAITING, Disconnected, Fault, fault_of
from agent_service.cli.pursuit import POLL_SECONDS, RECONNECT_SECONDS, Pursuit
from agent_service.cli.render import RunView, fate_in_words, print_diff, was_cancelled
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal
from agent_service.cli.vigil import Overtaken, vigil
from agent_service.cli.wording import command_name

LAST_WORDS_SECONDS = 2.0
"""How long the answer to a cancel is waited for when the run has ended already."""
_OVERTAKEN = ("already_answered", "not_waiting", "thread_busy")
"""Codes that say: the question is not open any more."""

Response = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Audience:
    """Who looks on and answers."""

    terminal: Terminal
    answers: Answers
    options: str = ""
    """Shown with the command that answers a question later; see `Start.options`."""
    as_json: bool = False
    """Whether a program reads the outcome from standard output."""

    @classmethod
    def here(cls, start: Start, *, yes: bool, as_json: bool) -> Audience:
        """Whoever started this command; with `yes` they consent to whatever wants approval."""
        terminal = Terminal(to_stderr=as_json)
        return cls(terminal, answers_from_stdin(terminal, yes=yes), start.options, as_json)


class Conversation:
    """One thread, followed and answered until it comes to an end."""

    def __init__(
        self,
        client: ServiceClient,
        thread_id: str,
        audience: Audience,
        beginning: str = "working",
        *,
        timed: bool = True,
    ) -> None:
        """`beginning` is what goes on until the model first speaks; `timed`: the run begins now."""
        self._client, self._thread_id, self._audience = client, thread_id, audience
        self._view = RunView(audience.terminal, beginning, timed=timed)
        self._last: Event = {"thread_id": thread_id, "seq": 0}
        """The latest event that was seen."""

    def run(self, begin: Begin) -> int:
        """Follow the run, ask and answer, show how it ended. Returns the exit code."""
        response = self._follow(begin)
        while response["agent_status"] == "requires_human_input":
            request = response["human_input_request"]
            self._view.question(request)
            call_id: str = request["tool_call_id"]
            try:
                with vigil(partial(self._fate, call_id)):
                    answer = self._audience.answers.answer(request)
            except Overtaken as overtaken:
                self._audience.terminal.gap()
                response = self._go_along(overtaken.event)
                continue
            if answer is None:
                break
            response = self._go_on(response, call_id, answer)
        return self._finish(response)

    def _go_on(self, response: Response, call_id: str, answer: str) -> Response:
        try:
            return self._follow(self._client.resume(self._thread_id, call_id, answer))
        except Refused as refused:
            if refused.code == "answer_unclear":
                self._view.note(str(refused))
                return response
            if refused.code not in _OVERTAKEN:
                raise
            if refused.code != "thread_busy" and (event := self._fate(call_id, REPLAY_SECONDS)):
                return self._go_along(event)
            self._view.note("The thread goes on already; waiting for how it ends.")
            return self._settled()

    def _fate(self, call_id: str, silence: float = SILENCE_SECONDS) -> Event | None:
        """What became of a question after all that was shown."""
        return self._client.fate(self._last, call_id, silence)

    def _go_along(self, event: Event) -> Response:
        """Say what became of the question without us, and follow what comes of it."""
        self._view.note(fate_in_words(event))
        if event["kind"] == "question.answered":
            return self._follow(lambda: self._client.follow(event))
        return self._settled()

    def _follow(self, begin: Begin) -> Response:
        self._view.waiting()
        try:
            with _first_interrupt(self._cancel):
                return self._watch(begin)
        except KeyboardInterrupt:
            again = f"threads follow {self._thread_id}{self._audience.options}"
            self._view.note(f"Left. Come back to it with: {command_name()} {again}")
            raise
        finally:
            self._view.quiet()

    def _watch(self, begin: Begin) -> Response:
        """The response at the end of the run's events, which are shown."""
        response: Response = {}
        for event in Pursuit(self._client, self._thread_id, begin, self._tell_break).events():
            self._view.show(event)
            self._last = event
            response = event.get("response", response)
        return response

    def _tell_break(self) -> None:
        self._view.note("The connection broke off; waiting for the service.")
        self._view.waiting()

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
            raise Fault(f"Thread {self._thread_id} has no run that came to an end; give it an instruction.")
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
        status, terminal = response["agent_status"], self._audience.terminal
        self._view.summary(response)
        if status == "requires_human_input":
            request = response["human_input_request"]
            tell_answer_command(terminal, self._thread_id, request, self._audience.options)
        else:
            terminal.line(("  thread ", "dim"), (self._thread_id, "dim"))
        if self._audience.as_json:
            write_json(response)
        elif status != "requires_human_input" and response["files_changed"]:
            self._show_diff()
        if was_cancelled(response):
            return INTERRUPTED
        return {"completed": COMPLETED, "requires_human_input": WAITING}.get(status, FAILED)

    def _show_diff(self) -> None:
        terminal = self._audience.terminal
        terminal.gap()
        print_diff(terminal.console, self._client.diff(self._thread_id), live=terminal.live)


def tell_answer_command(terminal: Terminal, thread_id: str, request: Response, options: str) -> None:
    """Show the command that answers the question; `options` as of `Start.options`."""
    terminal.line(("  Answer it with: ", "dim"), answer_command(thread_id, request, options))


def answer_command(thread_id: str, request: Response, options: str) -> str:
    """The command that answers the question, but for the answer; `options` as of `Start.options`."""
    approval = request["kind"] == "approval"
    names = f"{shlex.quote(thread_id)} {shlex.quote(request['tool_call_id'])}"
    answer = "YES_OR_NO" if approval else '"ANSWER"'  # nobody shall consent by pasting
    return f"{command_name()} threads answer {names} {answer}{options}"


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
