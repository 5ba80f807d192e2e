"""How a run looks: events, questions, diffs and the summary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from agent_service.cli.event_stream import Event
from agent_service.cli.prose import Prose, print_prose
from agent_service.cli.terminal import Stopwatch, Terminal, printable
from agent_service.cli.wording import laid_out
from agent_service.principals import LOCAL

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_DIFF_STYLES = {"+": "green", "-": "red", "\\": "dim"}
_ASKING = "ask_human_for_input"


class RunView:
    """Shows a run as it goes on."""

    def __init__(self, terminal: Terminal, beginning: str = "working", *, timed: bool = True) -> None:
        """`beginning` is what goes on until the model first speaks; `timed`: what is shown begins now."""
        self.terminal = terminal
        self._doing = beginning
        self._calls: dict[str, str] = {}
        self._unseen: dict[str, dict[str, Any]] = {}
        """The open questions that nobody was shown."""
        self._prose: Prose | None = None
        self._streamed = False
        self._after_tool = False
        self._told = False
        self._spinner: Progress | None = None
        self._watch = Stopwatch() if timed else None

    def show(self, event: Event) -> None:
        """What happened, as far as it is of interest."""
        shows = {
            "token": self._token,
            "message": self._message,
            "tool.started": self._tool_started,
            "tool.finished": self._tool_finished,
            "question.opened": self._question_opened,
            "question.answered": self._question_settled,
            "question.closed": self._question_settled,
            "model.switched": self._model_switched,
            "error": self._error,
            "run.finished": self._finished,
        }
        self._told = self._told or event["kind"] in ("run.started", "message")
        if event["kind"] in ("token", "message", "tool.started", "error"):
            self._doing = "working"
        if show := shows.get(event["kind"]):
            show(event)
        if event["kind"] in ("question.opened", "run.finished"):
            self.quiet()
        else:
            self.waiting()

    def waiting(self) -> None:
        """Show that something goes on, until there is something else to show."""
        if self.terminal.live and self._spinner is None and self._prose is None:
            doing = TextColumn(f"[dim]{self._doing}")
            clock = [TimeElapsedColumn()] if self._watch else []
            columns = (TextColumn(" "), SpinnerColumn(), doing, *clock)
            self._spinner = Progress(*columns, console=self.terminal.console, transient=True)
            self._spinner.add_task("", total=None)
            if self._watch:
                started = self._spinner.get_time() - self._watch.seconds
                self._spinner.tasks[0].start_time = started  # the clock goes on from step to step
            self._spinner.start()

    def quiet(self) -> None:
        """Stop showing that something goes on, and begin a new line."""
        spinner, self._spinner = self._spinner, None  # a Ctrl-C brings a second thread here
        if spinner is not None:
            spinner.stop()
        prose, self._prose = self._prose, None
        if prose is not None:
            prose.end()

    def note(self, text: str) -> None:
        """A remark of this command's own."""
        self.quiet()
        self.terminal.line(("  · ", "dim"), (text, "dim"))

    def question(self, request: dict[str, Any]) -> None:
        """The question, with its options numbered."""
        self.quiet()
        self._unseen.pop(request["tool_call_id"], None)
        if self.terminal.live:
            self.terminal.gap()
            self.terminal.console.print(_question_panel(request))
        else:
            for text in _question_lines(request):
                self.terminal.line(text)

    def summary(self, response: dict[str, Any]) -> None:
        """How the run ended, what it cost, and which files it changed."""
        self.quiet()
        self.terminal.gap()
        cancelled = was_cancelled(response)
        mark, word = _ENDINGS["cancelled" if cancelled else response["agent_status"]]
        seconds = self._watch.seconds if self._watch else None
        self.terminal.line(mark, (word, "bold"), (f"  {_cost(response, seconds)}", "dim"))
        if response["error_details"] and not cancelled:
            for line in laid_out(response["error_details"]):
                self.terminal.line("  ", line)
        for file in response["files_changed"]:
            self.terminal.line(f"  {file['path']} ", (file["action"], "dim"), *_counts(file))

    def _token(self, event: Event) -> None:
        if not self.terminal.live:
            return  # the whole text follows as one message
        if self._prose is None:
            self._begin_text()
            self._prose = Prose(self.terminal)
        self._prose.add(event["text"])
        self._streamed = True

    def _message(self, event: Event) -> None:
        if event["role"] == "assistant" and not self._streamed:
            self._begin_text()
            print_prose(self.terminal, event["text"])
        self.quiet()
        self._streamed = False

    def _finished(self, event: Event) -> None:
        """What the model said, if only the outcome is told of the run."""
        said = event["response"].get("explanation")
        if said and not self._told:
            self._begin_text()
            print_prose(self.terminal, said)
        self._told = False

    def _question_opened(self, event: Event) -> None:
        request = event["human_input_request"]
        self._unseen[request["tool_call_id"]] = request

    def _question_settled(self, event: Event) -> None:
        """A question of the past with what became of it; one that was asked just now is known."""
        if request := self._unseen.get(event["tool_call_id"]):
            self.question(request)
            self.note(fate_in_words(event))

    def _begin_text(self) -> None:
        self.quiet()
        if self._after_tool and not self._streamed:
            self.terminal.gap()
        self._after_tool = False

    def _tool_started(self, event: Event) -> None:
        self._calls[event["tool_call_id"]] = event["summary"]

    def _tool_finished(self, event: Event) -> None:
        self.quiet()
        call = self._calls.pop(event["tool_call_id"], event["name"])
        if event["name"] == _ASKING and event["ok"]:
            return  # the question and its answer were seen already
        mark = ("  ✓ ", "green") if event["ok"] else ("  ✗ ", "red")
        counts = [part for file in event["files_changed"] for part in _counts(file)]
        outcome = [(f"  {event['summary']}", "dim")] if event["summary"] and not counts else []
        self.terminal.line(mark, call, *counts, *outcome)
        self._after_tool = True

    def _model_switched(self, event: Event) -> None:
        self.note(f"{event['from']} → {event['to']}: {event['reason']}")

    def _error(self, event: Event) -> None:
        if event["code"] != "run_failed":  # what ended the run is told in the summary
            self.note(event["message"])


_ENDINGS = {
    "completed": (("✓ ", "green"), "Done"),
    "cancelled": (("■ ", "yellow"), "Cancelled"),
    "error": (("✗ ", "red"), "Failed"),
    "requires_human_input": (("? ", "yellow"), "Waits for your answer"),
}


def fate_in_words(event: Event) -> str:
    """What became of a question, from the event that tells it."""
    if event["kind"] == "question.answered":
        who = "Answered" if event["by"] == LOCAL.name else f"Answered by {event['by']}"
        return f"{who}: {event['answer']}"
    if event["status"] == "expired":
        return "Nobody answered in time; the question expired, and nothing was agreed to."
    return "The question was withdrawn."


def was_cancelled(response: dict[str, Any]) -> bool:
    """Whether a person stopped the run or withdrew its question."""
    return response.get("error_code") == "cancelled"


def diff_text(diff: str) -> Iterator[Text]:
    """The lines of a unified diff, coloured as `git diff` does, and safe to show."""
    old = new = 0  # lines that the hunk still has: only outside of hunks can a line be a file's header
    for raw in diff.split("\n")[: -1 if diff.endswith("\n") else None]:
        line = printable(raw.replace("\r", "␍"))
        if not (old > 0 or new > 0) and (match := _HUNK.match(line)):
            old, new = (int(count or 1) for count in match.groups())
            yield Text(line, style="cyan")
        elif old > 0 or new > 0:
            old -= line[:1] in ("-", " ")
            new -= line[:1] in ("+", " ")
            yield Text(line, style=_DIFF_STYLES.get(line[:1], ""))
        else:
            yield Text(line, style="dim" if line.startswith("\\") else "bold")


def print_diff(console: Console, diff: str, *, live: bool) -> None:
    """The diff, coloured for a person; byte by byte for a program such as `patch`."""
    if not live:
        console.file.write(diff)
        return
    for line in diff_text(diff):
        console.print(line, soft_wrap=True)


def _question_panel(request: dict[str, Any]) -> RenderableType:
    approval = request["kind"] == "approval"
    parts: list[RenderableType] = [Text(printable(request["question_for_human"]))]
    if request.get("preview"):
        parts += [Text(), *diff_text(request["preview"])]
    options = request.get("options") or ()
    if options:
        parts.append(Text())
    for number, option in enumerate(options, 1):
        parts.append(Text.assemble((f" {number}  ", "bold yellow"), printable(option)))
    title = Text("Approval" if approval else "Question", style="bold yellow")
    return Panel(
        Group(*parts),
        title=title,
        title_align="left",
        box=ROUNDED,
        border_style="yellow",
        padding=(0, 1),
        expand=False,
    )


def _question_lines(request: dict[str, Any]) -> Iterator[str]:
    yield f"{'Approval' if request['kind'] == 'approval' else 'Question'}: {request['question_for_human']}"
    if request.get("preview"):
        yield request["preview"].rstrip("\n")
    for number, option in enumerate(request.get("options") or (), 1):
        yield f"  {number}) {option}"


def _counts(file: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f"  +{file['additions']}", "green"), (f" -{file['deletions']}", "red")]


def _cost(response: dict[str, Any], seconds: float | None) -> str:
    """What the instruction took; `seconds` None = nobody knows how long it was."""
    usage, parts = response["usage"], []
    if response["model_used"]:
        parts.append(", ".join(response["models_used"] or [response["model_used"]]))
    if calls := usage["model_calls"]:
        parts.append(f"{calls} model call{'s' * (calls != 1)}")
    if usage["prompt_tokens"] or usage["completion_tokens"]:
        parts.append(f"{usage['prompt_tokens']:,} + {usage['completion_tokens']:,} tokens")
    if usage["cost_usd"]:
        parts.append(f"${usage['cost_usd']:.4f}")
    if seconds is not None:
        parts.append(f"{seconds:.1f} s")
    return " · ".join(parts)
