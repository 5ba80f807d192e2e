"""`agent-service local`: the embedded model, downloaded, served to other tools, and removed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from agent_service.cli.answers import confirmed
from agent_service.cli.connection import answers_as_agent_service, default_url
from agent_service.cli.fault import Fault
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal
from agent_service.data_dir import prepare_data_dir
from agent_service.local_model.engine import EngineError, engine_available
from agent_service.local_model.provider import MODELS_FOLDER, make_engine
from agent_service.local_model.weights import (
    CODER_1_5B,
    InstallError,
    Progress,
    Report,
    Weights,
    installed,
)
from agent_service.local_model.weights import install as install_weights
from agent_service.local_model.weights import remove as remove_weights

ENGINE_MISSING = "The engine is missing; install it with: pip install 'agent-service[local]'"
_STAGES = {"download": "Downloading", "verify": "Verifying"}


def install(start: Start, *, yes: bool) -> bool:
    """Download and verify the model after asking; whether it is there now. Raises Fault."""
    terminal, weights = Terminal(), CODER_1_5B
    folder = models_folder(start)
    if not engine_available():
        raise Fault(ENGINE_MISSING)
    if installed(weights, folder):
        terminal.line(("✓ ", "green"), f"{weights.name} is installed.")
        return True
    if not yes and not _consents(terminal, weights, folder):
        return False
    prepare_data_dir(start.settings.data_dir)
    try:
        with _progress(terminal) as report:
            file = install_weights(weights, folder, report, start.environ.get("LOCAL_MODEL_URL"))
    except InstallError as error:
        raise Fault(str(error)) from None
    terminal.line(("✓ ", "green"), f"{weights.name} is installed and verified: ", (str(file), "dim"))
    return True


def serve(start: Start) -> None:
    """Run the engine until a signal comes, and say how other tools reach it. Raises Fault."""
    file = installed(CODER_1_5B, models_folder(start))
    if file is None:
        raise Fault("The embedded model is not installed; install it with: agent-service local install")
    prepare_data_dir(start.settings.data_dir)
    try:
        asyncio.run(_serve(start, CODER_1_5B, file))
    except EngineError as error:
        raise Fault(str(error)) from None


def remove(start: Start) -> None:
    """Delete all that was downloaded."""
    terminal = Terminal()
    if not remove_weights(CODER_1_5B, models_folder(start)):
        terminal.line("There was nothing to remove.")
        return
    terminal.line(f"Removed: {CODER_1_5B.name}.")
    if answers_as_agent_service(url := default_url(start)):
        terminal.line(f"The service running at {url} may keep it in memory until it is started again.")


def models_folder(start: Start) -> Path:
    """Where the weights are kept."""
    return start.settings.data_dir / MODELS_FOLDER


def _consents(terminal: Terminal, weights: Weights, folder: Path) -> bool:
    terminal.line(f"{weights.name}, {weights.size / 1e9:.1f} GB, {weights.licence}; to be kept in {folder}")
    if not sys.stdin.isatty():
        terminal.line("Nothing is downloaded without a yes; there is no terminal to ask at, so give --yes.")
        return False
    return confirmed(terminal, "Download it? [y/N] ")


@contextmanager
def _progress(terminal: Terminal) -> Iterator[Report]:
    """A bar on a terminal, else a line for every tenth."""
    if not terminal.live:
        yield _Lines(terminal).report
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True))
    with Bars(TextColumn("{task.description:<11}"), *columns, console=terminal.console) as bars:
        tasks = {stage: bars.add_task(word, total=None, visible=False) for stage, word in _STAGES.items()}

        def report(progress: Progress) -> None:
            if progress.note:
                bars.console.print(progress.note, style="dim")
            bars.update(tasks[progress.stage], completed=progress.done, total=progress.total, visible=True)

        yield report


class _Lines:
    """Progress for a log."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._said = ("", -1)

    def report(self, progress: Progress) -> None:
        if progress.note:
            self._terminal.line(progress.note)
        tenth = 10 * progress.done // max(1, progress.total)
        if self._said != (progress.stage, tenth):
            self._said = (progress.stage, tenth)
            self._terminal.line(
                f"{_STAGES[progress.stage]}: {10 * tenth} % of {progress.total / 1e6:,.0f} MB"
            )


async def _serve(start: Start, weights: Weights, file: Path) -> None:
    terminal, stopped = Terminal(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    engine = make_engine(weights, file, start.settings.data_dir, start.environ)
    try:
        async with engine.use() as endpoint:
            terminal.line((weights.name, "bold"), " answers in OpenAI's protocol until Ctrl-C")
            terminal.line(("  base URL  ", "dim"), endpoint.base_url)
            terminal.line(("  API key   ", "dim"), endpoint.api_key)
            await stopped.wait()
    finally:
        await engine.aclose()
