"""The commands and their options. Each imports what it needs when it is called, and nothing before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from agent_service import __version__
from agent_service.cli.options import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    ResponseJsonOption,
    YesOption,
    overrides_of,
    quiet_start,
    read_options,
)
from agent_service.cli.provider_commands import providers
from agent_service.cli.thread_commands import threads
from routing.types import Quality

Grouping = Literal["day", "provider", "account", "model", "thread"]
Level = Literal["debug", "info", "warning", "error"]


class _Commands(TyperGroup):
    """Tells wrong usage without the words of the library that checks values."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


cli = typer.Typer(
    name="agent-service",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
local = typer.Typer(
    help="Manage the embedded model, which runs on this machine and needs no key.", no_args_is_help=True
)
cli.add_typer(providers, name="providers")
cli.add_typer(local, name="local")
cli.add_typer(threads, name="threads")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agent-service {__version__}")
        raise typer.Exit


@cli.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A self-hosted coding agent that asks when it has to, and never loses the thread."""


@cli.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Listen on this address, 127.0.0.1 unless configured otherwise.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Listen on this port, 8000 unless configured otherwise; 0 takes any free one."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Allow projects in this folder as well; repeat the option for several folders.",
        ),
    ] = None,
    log_level: Annotated[Level, typer.Option(help="Log messages of this level and above.")] = "info",
) -> None:
    """Start the HTTP service."""
    from agent_service.cli.serve import serve as serve_until_stopped

    roots = [root.expanduser().absolute() for root in allow_root or ()]
    overrides = {"server.host": host, "server.port": port}
    serve_until_stopped(read_options(config, data_dir, overrides), roots, log_level)


@cli.command()
def run(
    instruction: Annotated[
        str,
        typer.Argument(metavar="INSTRUCTION", show_default=False, help="What to do, in quotes."),
    ],
    project: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Work in this folder; without the option, in the current one, or in that of the thread.",
        ),
    ] = None,
    thread: Annotated[
        str | None,
        typer.Option(metavar="THREAD", help="Go on with this thread: its id, or the beginning of it."),
    ] = None,
    quality: Annotated[
        Quality | None, typer.Option(help="Choose the model by this; best_quality if omitted.")
    ] = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Use only this provider.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Use this model: an alias, provider/model, or the model's own id."
        ),
    ] = None,
    yes: YesOption = False,
    json: ResponseJsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Give the agent an instruction, watch it work, and answer its questions."""
    from agent_service.cli.conversation import faults_as_json
    from agent_service.cli.run import Wish
    from agent_service.cli.run import run as carry_out

    wish = Wish(instruction, project, thread, quality, provider, model, yes, json)
    with faults_as_json(json):
        code = carry_out(quiet_start(config, data_dir), wish)
    raise typer.Exit(code)


@cli.command()
def demo(
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Download the embedded model without asking.")
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Watch the agent change a small project after asking you a question. Needs no key."""
    from agent_service.cli.demo import demo as show

    raise typer.Exit(show(quiet_start(config, data_dir), yes=yes))


@cli.command()
def doctor(json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Check what is configured, reachable and writable, and say how to mend the rest."""
    from agent_service.cli.doctor import doctor as examine

    raise typer.Exit(examine(config, overrides_of(data_dir), as_json=json))


@cli.command()
def models(
    why: Annotated[
        str | None, typer.Option(metavar="TASK", help="Rank the models for this task, and give the reasons.")
    ] = None,
    quality: Annotated[
        Quality, typer.Option(help="Rank the models by this; the default is also that of `run`.")
    ] = "best_quality",
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the models in the order in which `run` would ask them."""
    from agent_service.cli.models import show_models

    show_models(quiet_start(config, data_dir), why, quality, as_json=json)


@cli.command()
def usage(
    by: Annotated[Grouping, typer.Option(help="Group by this.")] = "day",
    days: Annotated[
        int, typer.Option(metavar="N", min=1, max=3660, help="Cover the last N days, including today (UTC).")
    ] = 30,
    everybody: Annotated[bool, typer.Option("--all", help="Include all users (needs an admin key).")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what the models cost: calls, tokens and money."""
    from agent_service.cli.usage import show_usage

    show_usage(quiet_start(config, data_dir), by, days, everybody=everybody, as_json=json)


@local.command("install")
def local_install(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Download without asking.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Download the embedded model."""
    from agent_service.cli.local import install

    raise typer.Exit(0 if install(quiet_start(config, data_dir), yes=yes) else 1)


@local.command("serve")
def local_serve(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Run the embedded model for other tools, until Ctrl-C."""
    from agent_service.cli.local import serve as serve_model

    serve_model(quiet_start(config, data_dir))


@local.command("remove")
def local_remove(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Delete the embedded model."""
    from agent_service.cli.local import remove

    remove(quiet_start(config, data_dir))
