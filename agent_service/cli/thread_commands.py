"""`agent-service threads ...`: the commands and their options."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from agent_service.cli.options import (
    ConfigOption,
    DataDirOption,
    DeleteOption,
    JsonOption,
    ResponseJsonOption,
    YesOption,
    quiet_start,
)

Status = Literal["idle", "running", "requires_human_input", "error"]

ThreadArgument = Annotated[
    str, typer.Argument(metavar="THREAD", show_default=False, help="The thread's id, or the beginning of it.")
]

threads = typer.Typer(help="See what was worked on, and answer what waits.", no_args_is_help=True)


@threads.command("list")
def threads_list(
    status: Annotated[Status | None, typer.Option(help="Show only threads in this state.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="Show at most this many.")] = 20,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the latest threads."""
    from agent_service.cli.threads import list_threads

    list_threads(quiet_start(config, data_dir), status=status, limit=limit, as_json=json)


@threads.command("show")
def threads_show(
    thread: ThreadArgument,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show a thread and its open questions."""
    from agent_service.cli.threads import show_thread

    show_thread(quiet_start(config, data_dir), thread, as_json=json)


@threads.command("answer")
def threads_answer(
    thread: ThreadArgument,
    answer: Annotated[
        list[str],
        typer.Argument(
            metavar="ANSWER",
            show_default=False,
            help="The answer, in quotes, or the number of an option. If several questions are open, put the "
            "id of one before it.",
        ),
    ],
    yes: YesOption = False,
    json: ResponseJsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Answer a question, and watch the run go on."""
    from agent_service.cli.conversation import faults_as_json
    from agent_service.cli.threads import answer_thread

    if len(answer) > 2:
        raise typer.BadParameter("Put the answer in quotes.", param_hint="ANSWER")
    with faults_as_json(json):
        code = answer_thread(quiet_start(config, data_dir), thread, answer, yes=yes, as_json=json)
    raise typer.Exit(code)


@threads.command("follow")
def threads_follow(
    thread: ThreadArgument,
    yes: YesOption = False,
    json: ResponseJsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show a thread's latest run from its beginning, and follow it to its end."""
    from agent_service.cli.conversation import faults_as_json
    from agent_service.cli.threads import follow_thread

    with faults_as_json(json):
        code = follow_thread(quiet_start(config, data_dir), thread, yes=yes, as_json=json)
    raise typer.Exit(code)


@threads.command("diff")
def threads_diff(thread: ThreadArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Show what a thread changed, as one unified diff."""
    from agent_service.cli.threads import show_diff

    show_diff(quiet_start(config, data_dir), thread)


@threads.command("cancel")
def threads_cancel(
    thread: ThreadArgument, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """Stop a thread's run, or withdraw its open questions."""
    from agent_service.cli.threads import cancel_thread

    cancel_thread(quiet_start(config, data_dir), thread)


@threads.command("history")
def threads_history(
    thread: ThreadArgument,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="Show at most this many.")] = 20,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the moments to which a thread can go back."""
    from agent_service.cli.timeline import show_history

    show_history(quiet_start(config, data_dir), thread, limit=limit, as_json=json)


@threads.command("fork")
def threads_fork(
    thread: ThreadArgument,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="MOMENT",
            help="Fork at this number of `history`, or at the checkpoint whose id begins so; without the "
            "option, at the present.",
        ),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a new thread that goes on from a moment of this one."""
    from agent_service.cli.timeline import fork_thread

    fork_thread(quiet_start(config, data_dir), thread, at, as_json=json)


@threads.command("rewind")
def threads_rewind(
    thread: ThreadArgument,
    moment: Annotated[
        str,
        typer.Argument(
            metavar="MOMENT",
            show_default=False,
            help="A number of `history`, or a checkpoint's id or the beginning of it.",
        ),
    ],
    files: Annotated[
        bool, typer.Option("--files", help="Undo what the thread changed in the project, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Undo the changes without asking.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Take a thread back to an earlier moment.

    Its open questions are withdrawn. Files that somebody else changed since are left alone.
    """
    from agent_service.cli.timeline import rewind_thread

    start = quiet_start(config, data_dir)
    raise typer.Exit(rewind_thread(start, thread, moment, files=files, yes=yes, as_json=json))


@threads.command("prune")
def threads_prune(
    keep: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Keep the newest N checkpoints of each thread.")
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="Clear only threads unchanged for this many days."),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete whole threads; needs --older-than.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    yes: DeleteOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete old checkpoints of finished threads, or whole threads."""
    from agent_service.cli.timeline import Clearing, prune_threads

    start, wanted = quiet_start(config, data_dir), Clearing(keep, older_than, delete)
    raise typer.Exit(prune_threads(start, wanted, yes=yes, dry_run=dry_run, as_json=json))


@threads.command("delete")
def threads_delete(
    thread: ThreadArgument,
    yes: DeleteOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete a thread and all that is stored of it; files in the project stay."""
    from agent_service.cli.threads import delete_thread

    raise typer.Exit(delete_thread(quiet_start(config, data_dir), thread, yes=yes))
