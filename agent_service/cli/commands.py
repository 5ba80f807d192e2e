"""The commands and their options. Each imports what it needs when it is called, and nothing before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

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

Quality = Literal["fastest", "balanced", "best_quality"]
Grouping = Literal["day", "provider", "account", "model", "thread"]
Level = Literal["debug", "info", "warning", "error"]

cli = typer.Typer(
    name="agent-service",
    help="A self-hosted coding agent that asks when it has to, and never loses the thread.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
local = typer.Typer(help="The embedded model: runs on this machine, needs no key.", no_args_is_help=True)
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
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 = any free one.", show_default="8000")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="A further folder that projects may be in; may be given several times."
        ),
    ] = None,
    log_level: Annotated[Level, typer.Option(help="How much to log.")] = "info",
) -> None:
    """Start the HTTP service."""
    from agent_service.cli.serve import serve as serve_until_stopped

    roots = [root.expanduser().absolute() for root in allow_root or ()]
    overrides = {"server.host": host, "server.port": port}
    serve_until_stopped(read_options(config, data_dir, overrides), roots, log_level)


@cli.command()
def run(
    instruction: Annotated[str, typer.Argument(metavar="INSTRUCTION", show_default=False)],
    project: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The project to work in.", show_default="the current folder"),
    ] = None,
    thread: Annotated[str | None, typer.Option(metavar="ID", help="Go on with this thread.")] = None,
    quality: Annotated[Quality | None, typer.Option(help="How to choose the model.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="An alias, provider/model, or a model's own id.")] = None,
    yes: YesOption = False,
    json: ResponseJsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Give the agent an instruction, watch it work, answer its questions."""
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
    """See it work: a small project, a question, a changed file. Needs no key."""
    from agent_service.cli.demo import demo as show

    raise typer.Exit(show(quiet_start(config, data_dir), yes=yes))


@cli.command()
def doctor(json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Check what is configured, reachable and writable, and say what to do about the rest."""
    from agent_service.cli.doctor import doctor as examine

    raise typer.Exit(examine(config, overrides_of(data_dir), as_json=json))


@cli.command()
def models(
    why: Annotated[
        str | None, typer.Option(metavar="TASK", help="Rank them for this task, with the reasons.")
    ] = None,
    quality: Annotated[Quality, typer.Option(help="What to rank by.")] = "best_quality",
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the models, best first."""
    from agent_service.cli.models import show_models

    show_models(quiet_start(config, data_dir), why, quality, as_json=json)


@cli.command()
def usage(
    by: Annotated[Grouping, typer.Option(help="What to add up.")] = "day",
    days: Annotated[int, typer.Option(min=1, max=3660, help="Of so many days, today among them.")] = 30,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's; needs an admin key.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what models cost: calls, tokens, money."""
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
