"""The commands and their options. Each imports what it needs when it is called, and nothing before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent_service import __version__

if TYPE_CHECKING:
    from agent_service.cli.start import Start

Quality = Literal["fastest", "balanced", "best_quality"]
Grouping = Literal["day", "provider", "model", "thread"]
Level = Literal["debug", "info", "warning", "error"]
Status = Literal["idle", "running", "requires_human_input", "error"]

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration file.")]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Where the state is kept.")
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Say yes to approvals. Questions are still asked.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
ProviderArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The provider.")]
AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="ACCOUNT", help="One of several accounts.")
]
NoVerifyOption = Annotated[bool, typer.Option("--no-verify", help="Store keys without trying them first.")]
ThreadArgument = Annotated[
    str, typer.Argument(metavar="THREAD", show_default=False, help="Its id, or the beginning of it.")
]

cli = typer.Typer(
    name="agent-service",
    help="A self-hosted coding agent that asks when it has to, and never loses the thread.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
local = typer.Typer(help="The embedded model: runs on this machine, needs no key.", no_args_is_help=True)
threads = typer.Typer(help="What was worked on, and what waits for an answer.", no_args_is_help=True)
providers = typer.Typer(help="Accounts at model providers, their keys encrypted.", no_args_is_help=True)
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
        typer.Option(metavar="DIR", help="A folder that projects may be in; may be given several times."),
    ] = None,
    log_level: Annotated[Level, typer.Option(help="How much to log.")] = "info",
) -> None:
    """Start the HTTP service."""
    from agent_service.cli.serve import serve as serve_until_stopped

    roots = [str(root.expanduser().absolute()) for root in allow_root or ()]
    overrides = {"server.host": host, "server.port": port, "agent.allowed_roots": roots or None}
    serve_until_stopped(_start(config, data_dir, overrides), log_level)


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
    json: Annotated[
        bool, typer.Option("--json", help="Print the response as JSON, progress to stderr.")
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Give the agent an instruction, watch it work, answer its questions."""
    from agent_service.cli.conversation import faults_as_json
    from agent_service.cli.run import Wish
    from agent_service.cli.run import run as carry_out

    wish = Wish(instruction, project, thread, quality, provider, model, yes, json)
    with faults_as_json(json):
        code = carry_out(_quiet_start(config, data_dir), wish)
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

    raise typer.Exit(show(_quiet_start(config, data_dir), yes=yes))


@cli.command()
def doctor(json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Check what is configured, reachable and writable, and say what to do about the rest."""
    from agent_service.cli.doctor import doctor as examine

    raise typer.Exit(examine(config, _overrides(data_dir), as_json=json))


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

    show_models(_quiet_start(config, data_dir), why, quality, as_json=json)


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

    show_usage(_quiet_start(config, data_dir), by, days, everybody=everybody, as_json=json)


@local.command("install")
def local_install(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Download without asking.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Download the embedded model."""
    from agent_service.cli.local import install

    raise typer.Exit(0 if install(_quiet_start(config, data_dir), yes=yes) else 1)


@local.command("serve")
def local_serve(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Run the embedded model for other tools, until Ctrl-C."""
    from agent_service.cli.local import serve as serve_model

    serve_model(_quiet_start(config, data_dir))


@local.command("remove")
def local_remove(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Delete the embedded model."""
    from agent_service.cli.local import remove

    remove(_quiet_start(config, data_dir))


@providers.command("list")
def providers_list(
    everything: Annotated[bool, typer.Option("--all", help="Also those without an account.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the providers: tier, keys and where they come from, health."""
    from agent_service.cli.providers import list_providers

    list_providers(_quiet_start(config, data_dir), everything=everything, as_json=json)


@providers.command("show")
def providers_show(
    name: ProviderArgument,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show a provider and its accounts."""
    from agent_service.cli.providers import show_provider

    show_provider(_quiet_start(config, data_dir), name.lower(), as_json=json)


@providers.command("add")
def providers_add(
    name: ProviderArgument,
    account: Annotated[
        str, typer.Option(metavar="ACCOUNT", help="Tells several accounts apart.")
    ] = "default",
    api_key_stdin: Annotated[
        bool, typer.Option("--api-key-stdin", help="Read the key from standard input, else it is asked for.")
    ] = False,
    no_key: Annotated[bool, typer.Option("--no-key", help="It takes requests without a key.")] = False,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Its address, if it is not the usual one.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this model; may be given several times.")
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="The address may be http, on this machine or network.")
    ] = False,
    cap: Annotated[
        float | None, typer.Option(metavar="USD", min=0.0, help="The most to be spent in a day.")
    ] = None,
    no_verify: NoVerifyOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Store an account and its key; one of the same name is replaced."""
    from agent_service.cli.providers import add_account

    wanted = {
        "account": account,
        "base_url": base_url,
        "models": model or None,
        "allow_private": allow_private,
        "cap_usd_per_day": cap,
        "verify": not no_verify,
    }
    start = _quiet_start(config, data_dir)
    raise typer.Exit(add_account(start, name.lower(), wanted, key_from_stdin=api_key_stdin, keyless=no_key))


@providers.command("remove")
def providers_remove(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="The provider.")
    ] = None,
    account: AccountOption = None,
    unreadable: Annotated[
        bool, typer.Option("--unreadable", help="All whose keys cannot be read: the master key is lost.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete a provider's stored accounts, or one of them."""
    from agent_service.cli.providers import remove_account, remove_unreadable

    if (name is None) is not unreadable:
        raise typer.BadParameter("give either a provider or --unreadable", param_hint="NAME")
    start = _quiet_start(config, data_dir)
    if name is None:
        raise typer.Exit(remove_unreadable(start, yes=yes))
    raise typer.Exit(remove_account(start, name.lower(), account, yes=yes))


@providers.command("import")
def providers_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be taken.")] = False,
    no_verify: NoVerifyOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Store the accounts of a file: YAML, JSON, .env, .lenv or indented Links notation."""
    from agent_service.cli.providers import import_accounts

    start = _quiet_start(config, data_dir)
    raise typer.Exit(import_accounts(start, file, verify=not no_verify, dry_run=dry_run))


@providers.command("test")
def providers_test(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", show_default=False, help="Only this provider.")
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Try the keys: list the models, send a tiny request."""
    from agent_service.cli.providers import try_keys

    raise typer.Exit(try_keys(_quiet_start(config, data_dir), name and name.lower(), as_json=json))


@providers.command("rotate")
def providers_rotate(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Encrypt all stored keys anew, under a new master key."""
    from agent_service.cli.providers import rotate_master_key

    rotate_master_key(_quiet_start(config, data_dir))


@providers.command("configure")
def providers_configure(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Set accounts up in a dialogue; each key is tried as it is entered."""
    from agent_service.cli.configure import configure

    raise typer.Exit(configure(_quiet_start(config, data_dir)))


@threads.command("list")
def threads_list(
    status: Annotated[Status | None, typer.Option(help="Only those.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the latest threads."""
    from agent_service.cli.threads import list_threads

    list_threads(_quiet_start(config, data_dir), status=status, limit=limit, as_json=json)


@threads.command("show")
def threads_show(
    thread: ThreadArgument,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show a thread and its open questions."""
    from agent_service.cli.threads import show_thread

    show_thread(_quiet_start(config, data_dir), thread, as_json=json)


@threads.command("answer")
def threads_answer(
    thread: ThreadArgument,
    answer: Annotated[
        list[str],
        typer.Argument(metavar='[CALL_ID] "ANSWER"', show_default=False, help="CALL_ID if several are open."),
    ],
    yes: YesOption = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the response as JSON, progress to stderr.")
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Answer a question, and watch the run go on."""
    from agent_service.cli.conversation import faults_as_json
    from agent_service.cli.threads import answer_thread

    if len(answer) > 2:
        raise typer.BadParameter("put the answer in quotes", param_hint="ANSWER")
    with faults_as_json(json):
        code = answer_thread(_quiet_start(config, data_dir), thread, answer, yes=yes, as_json=json)
    raise typer.Exit(code)


@threads.command("follow")
def threads_follow(
    thread: ThreadArgument,
    yes: YesOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the latest run of a thread from its beginning, and go along to its end."""
    from agent_service.cli.conversation import faults_as_json
    from agent_service.cli.threads import follow_thread

    with faults_as_json(json):
        code = follow_thread(_quiet_start(config, data_dir), thread, yes=yes, as_json=json)
    raise typer.Exit(code)


@threads.command("diff")
def threads_diff(thread: ThreadArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Show what a thread changed, as one unified diff."""
    from agent_service.cli.threads import show_diff

    show_diff(_quiet_start(config, data_dir), thread)


@threads.command("cancel")
def threads_cancel(
    thread: ThreadArgument, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """Stop a thread's run, or withdraw its open questions."""
    from agent_service.cli.threads import cancel_thread

    cancel_thread(_quiet_start(config, data_dir), thread)


@threads.command("history")
def threads_history(
    thread: ThreadArgument,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the moments to which a thread can go back."""
    from agent_service.cli.timeline import show_history

    show_history(_quiet_start(config, data_dir), thread, limit=limit, as_json=json)


@threads.command("fork")
def threads_fork(
    thread: ThreadArgument,
    at: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="From there; see `history`.", show_default="the latest"),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a new thread that goes its own way from a moment of this one."""
    from agent_service.cli.timeline import fork_thread

    fork_thread(_quiet_start(config, data_dir), thread, at, as_json=json)


@threads.command("rewind")
def threads_rewind(
    thread: ThreadArgument,
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", show_default=False, help="As `history` shows it.")
    ],
    files: Annotated[bool, typer.Option("--files", help="Undo what it changed in the project, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Undo it without asking.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Take a thread back; files that somebody else changed stay, and open questions are withdrawn."""
    from agent_service.cli.timeline import rewind_thread

    start = _quiet_start(config, data_dir)
    raise typer.Exit(rewind_thread(start, thread, checkpoint, files=files, yes=yes, as_json=json))


@threads.command("prune")
def threads_prune(
    keep: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Keep so many of each thread's checkpoints.")
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="Only threads on which nothing happened for so long."),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete those threads as a whole.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Clear away what is no longer needed of finished threads."""
    from agent_service.cli.timeline import prune_threads

    start = _quiet_start(config, data_dir)
    raise typer.Exit(prune_threads(start, keep=keep, older_than=older_than, delete=delete, yes=yes))


@threads.command("delete")
def threads_delete(
    thread: ThreadArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete a thread and all that is kept of it; files in the project stay."""
    from agent_service.cli.threads import delete_thread

    raise typer.Exit(delete_thread(_quiet_start(config, data_dir), thread, yes=yes))


def _start(
    config: Path | None, data_dir: Path | None, overrides: Mapping[str, object] | None = None
) -> Start:
    from agent_service.cli.start import read_start

    return read_start(config, {**_overrides(data_dir), **(overrides or {})})


def _quiet_start(config: Path | None, data_dir: Path | None = None) -> Start:
    """For commands that speak for themselves: only what goes wrong is logged."""
    from agent_service.cli.logs import configure_logging

    start = _start(config, data_dir)
    configure_logging("warning", start.secrets())
    return start


def _overrides(data_dir: Path | None) -> dict[str, object]:
    return {"state.data_dir": str(data_dir.expanduser().absolute()) if data_dir else None}
