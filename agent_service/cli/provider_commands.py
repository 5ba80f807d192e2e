"""`agent-service providers ...`: the commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent_service.cli.options import ConfigOption, DataDirOption, DeleteOption, JsonOption, quiet_start
from routing.types import Tier

ProviderArgument = Annotated[
    str, typer.Argument(metavar="NAME", show_default=False, help="The provider's name.")
]
NoVerifyOption = Annotated[bool, typer.Option("--no-verify", help="Store keys without trying them first.")]

providers = typer.Typer(
    help="Manage accounts at model providers, whose keys are stored encrypted.", no_args_is_help=True
)


@providers.command("list")
def providers_list(
    everything: Annotated[bool, typer.Option("--all", help="Include providers without an account.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the providers with their tier, keys, where these come from, and their state."""
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
            help="Name the account, to tell separate projects, organisations or paid tiers of yours apart. "
            "Most providers forbid several accounts as a way around their limits.",
        ),
    ] = "default",
    api_key_stdin: Annotated[
        bool,
        typer.Option("--api-key-stdin", help="Read the key from standard input instead of asking for it."),
    ] = False,
    no_key: Annotated[bool, typer.Option("--no-key", help="The provider needs no key.")] = False,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The provider's address, if it is not the usual one.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Use only this model; repeat the option for several."),
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option("--allow-private", help="Let the address be http, or on this machine or its network."),
    ] = False,
    cap: Annotated[
        float | None,
        typer.Option(
            metavar="USD", min=0, help="Spend at most this much in a day (UTC); 0 allows only what is free."
        ),
    ] = None,
    tier: Annotated[
        Tier | None, typer.Option(help="What using the provider costs; `paid` means its list prices.")
    ] = None,
    no_verify: NoVerifyOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Store an account and its key, replacing one of the same name."""
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
        str | None, typer.Argument(metavar="NAME", show_default=False, help="The provider's name.")
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Delete only this account of the provider.")
    ] = None,
    unreadable: Annotated[
        bool,
        typer.Option(
            "--unreadable",
            help="Delete all accounts whose keys cannot be read because the master key is lost.",
        ),
    ] = False,
    yes: DeleteOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete a provider's stored accounts, or one of them."""
    from agent_service.cli.providers import remove_account, remove_unreadable

    if (name is None) is not unreadable:
        raise typer.BadParameter("Give either a provider or --unreadable.", param_hint="NAME")
    start = quiet_start(config, data_dir)
    if name is None:
        raise typer.Exit(remove_unreadable(start, yes=yes))
    raise typer.Exit(remove_account(start, name.lower(), account, yes=yes))


@providers.command("import")
def providers_import(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="YAML, JSON, .env, .lenv or indented Links notation with providers and keys.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be stored.")] = False,
    allow_env_keys: Annotated[
        bool,
        typer.Option(
            "--allow-env-keys",
            help="Send variables of your environment to where the file says, without asking.",
        ),
    ] = False,
    no_verify: NoVerifyOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Store the accounts that a file holds."""
    from agent_service.cli.provider_import import import_accounts

    start = quiet_start(config, data_dir)
    how = {"verify": not no_verify, "dry_run": dry_run, "allow_env_keys": allow_env_keys}
    raise typer.Exit(import_accounts(start, file, **how))


@providers.command("test")
def providers_test(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, help="Try only this provider's keys.")
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Try the keys: list the models, and send a tiny request."""
    from agent_service.cli.providers import try_keys

    raise typer.Exit(try_keys(quiet_start(config, data_dir), name and name.lower(), as_json=json))


@providers.command("rotate")
def providers_rotate(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Encrypt all stored keys anew, under a new master key."""
    from agent_service.cli.providers import rotate_master_key

    rotate_master_key(quiet_start(config, data_dir))


@providers.command("configure")
def providers_configure(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Set up accounts in a dialogue that tries each key as it is entered."""
    from agent_service.cli.configure import configure

    raise typer.Exit(configure(quiet_start(config, data_dir)))
