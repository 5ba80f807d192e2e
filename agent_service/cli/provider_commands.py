"""`agent-service providers ...`: the commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agent_service.cli.options import ConfigOption, DataDirOption, DeleteOption, JsonOption, quiet_start

Tier = Literal["free", "trial", "paid", "local"]

ProviderArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The provider.")]
AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="ACCOUNT", help="One of several accounts.")
]
NoVerifyOption = Annotated[bool, typer.Option("--no-verify", help="Store keys without trying them first.")]

providers = typer.Typer(help="Accounts at model providers, their keys encrypted.", no_args_is_help=True)


@providers.command("list")
def providers_list(
    everything: Annotated[bool, typer.Option("--all", help="Also those without an account.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the providers: tier, keys and where they come from, health."""
    from agent_service.cli.providers import list_providers

    list_providers(quiet_start(config, data_dir), everything=everything, as_json=json)


@providers.command("show")
def providers_show(
    name: ProviderArgument,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show a provider and its accounts."""
    from agent_service.cli.providers import show_provider

    show_provider(quiet_start(config, data_dir), name.lower(), as_json=json)


@providers.command("add")
def providers_add(
    name: ProviderArgument,
    account: Annotated[
        str,
        typer.Option(
            metavar="ACCOUNT",
            help="Tells accounts apart: separate projects, organisations or paid tiers of yours. They are no "
            "way around a provider's limits, which most forbid.",
        ),
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
        float | None,
        typer.Option(
            metavar="USD", min=0.0, help="The most to be spent in a day (UTC); 0 = only what is free."
        ),
    ] = None,
    tier: Annotated[
        Tier | None, typer.Option(help="What using it costs; `paid`: its models cost what they list.")
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
        "tier": tier,
        "verify": not no_verify,
    }
    start = quiet_start(config, data_dir)
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
    yes: DeleteOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete a provider's stored accounts, or one of them."""
    from agent_service.cli.providers import remove_account, remove_unreadable

    if (name is None) is not unreadable:
        raise typer.BadParameter("give either a provider or --unreadable", param_hint="NAME")
    start = quiet_start(config, data_dir)
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

    start = quiet_start(config, data_dir)
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

    raise typer.Exit(try_keys(quiet_start(config, data_dir), name and name.lower(), as_json=json))


@providers.command("rotate")
def providers_rotate(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Encrypt all stored keys anew, under a new master key."""
    from agent_service.cli.providers import rotate_master_key

    rotate_master_key(quiet_start(config, data_dir))


@providers.command("configure")
def providers_configure(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Set accounts up in a dialogue; each key is tried as it is entered."""
    from agent_service.cli.configure import configure

    raise typer.Exit(configure(quiet_start(config, data_dir)))
