"""The options that many commands have, and what a command starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent_service.cli.start import Start

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Read the configuration from this file instead of ~/.config/agent-service/config.yaml.",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Keep the state in this folder instead of ~/.local/share/agent-service.",
    ),
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Say yes to every approval; questions are still asked.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ResponseJsonOption = Annotated[
    bool, typer.Option("--json", help="Print the response as JSON, and the progress to standard error.")
]
DeleteOption = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]


def read_options(
    config: Path | None, data_dir: Path | None, overrides: Mapping[str, object] | None = None
) -> Start:
    """The configuration that these options lead to; `overrides` come from further ones."""
    from agent_service.cli.start import read_start

    return read_start(config, {**overrides_of(data_dir), **(overrides or {})})


def quiet_start(config: Path | None, data_dir: Path | None) -> Start:
    """The same for commands that speak for themselves: only what goes wrong is logged."""
    from agent_service.cli.logs import configure_logging

    start = read_options(config, data_dir)
    configure_logging("warning", start.secrets())
    return start


def overrides_of(data_dir: Path | None) -> dict[str, object]:
    """What --data-dir says of the settings."""
    return {"state.data_dir": str(data_dir.expanduser().absolute()) if data_dir else None}
