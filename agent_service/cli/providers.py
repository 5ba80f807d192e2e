"""`agent-service providers`: accounts at model providers. Keys are read from standard input or a prompt."""

from __future__ import annotations

import asyncio
import getpass
import sys
from typing import Any

from rich.text import Text

from agent_service.cli.answers import confirmed
from agent_service.cli.client import Json
from agent_service.cli.connection import connect
from agent_service.cli.conversation import write_json
from agent_service.cli.fault import COMPLETED, FAILED, WRONG_USAGE, Fault
from agent_service.cli.start import Start
from agent_service.cli.table import print_table
from agent_service.cli.terminal import Terminal, printable
from agent_service.cli.wording import command_name
from agent_service.keys.reading import open_vault

_MAX_KEY_BYTES = 64 * 1024
_STATES = {"accepted": ("✓ ", "green"), "refused": ("✗ ", "red"), "unknown": ("? ", "yellow")}


def list_providers(start: Start, *, everything: bool, as_json: bool) -> None:
    """Show the providers, their tier, keys and health."""
    with connect(start, needs_keys=False) as client:
        providers = client.providers(everything=everything)
    if as_json:
        write_json({"data": providers})
        return
    terminal = Terminal()
    if not providers and terminal.live:
        terminal.line(f"There are no accounts; `{command_name()} providers configure` sets one up.")
        return
    rows = [row for provider in providers for row in _rows(provider)]
    print_table(terminal, ("provider", "tier", "account", "key", "from", "state"), rows)
    if terminal.live and not everything:
        terminal.gap()
        terminal.line((f"{command_name()} providers list --all shows all that are known", "dim"))


def show_provider(start: Start, name: str, *, as_json: bool) -> None:
    """Show a provider and its accounts."""
    with connect(start, needs_keys=False) as client:
        provider = client.provider(name)
    if as_json:
        write_json(provider)
        return
    terminal = Terminal()
    terminal.line((provider["display_name"], "bold"), (f"  {provider['name']}", "dim"))
    terminal.line(("  tier     ", "dim"), provider["tier"] or "not known")
    terminal.line(("  address  ", "dim"), provider["base_url"] or "not known")
    for title in ("retired", "note"):
        if provider[title]:
            terminal.line((f"  {title:<9}", "dim"), provider[title])
    if not provider["accounts"]:
        terminal.line(("  account  ", "dim"), f"none; {command_name()} providers add {name} adds one")
    for account in provider["accounts"]:
        terminal.line(("  account  ", "dim"), (account["account"], "bold"), f"  {_state(account)[0]}")
        for title, value in _details(account):
            terminal.line((f"    {title:<9}", "dim"), value)
    for title, value, origin in _terms(provider["terms"]):
        terminal.line((f"  {title:<9}", "dim"), value, (f"  {origin}" if origin else "", "dim"))


def add_account(start: Start, name: str, account: Json, *, key_from_stdin: bool, keyless: bool) -> int:
    """Store an account with a key from standard input or a prompt; returns the exit code."""
    terminal = Terminal()
    with connect(start) as client:
        if account.get("base_url") is None:
            client.provider(name)  # a name that is not known is told before a key is asked for
        if not keyless:
            account = {**account, "api_key": _key_from_stdin() if key_from_stdin else _asked_key(name)}
        saved = client.save_account({**account, "provider": name})
    tell_saved(terminal, saved, account.get("account", "default"))
    return COMPLETED


def remove_account(start: Start, name: str, account: str | None, *, yes: bool) -> int:
    """Delete stored accounts after asking; returns the exit code."""
    terminal = Terminal()
    with connect(start, needs_keys=False) as client:
        stored = [each for each in client.provider(name)["accounts"] if each["source"] == "store"]
        names = [each["account"] for each in stored if account in (None, each["account"])]
        what = ", ".join(f"{name}/{each}" for each in names)
        if names and not yes and not confirmed(terminal, f"Delete {what}? [y/N] "):
            terminal.line("Nothing was deleted; --yes deletes without asking.")
            return FAILED
        client.delete_accounts(name, account)  # says why, if there is none
    terminal.line(f"Deleted: {what}.")
    return COMPLETED


def remove_unreadable(start: Start, *, yes: bool) -> int:
    """Delete the stored accounts whose keys no master key opens; returns the exit code."""
    terminal = Terminal()
    question = "Delete the stored accounts whose keys cannot be read? They must be entered again. [y/N] "
    if not yes and not confirmed(terminal, question):
        terminal.line("Nothing was deleted; --yes deletes without asking.")
        return FAILED
    names = asyncio.run(_remove_unreadable(start))
    terminal.line(f"Deleted: {', '.join(names)}." if names else "All stored accounts can be read.")
    return COMPLETED


async def _remove_unreadable(start: Start) -> list[str]:
    async with open_vault(start.settings, start.environ) as vault:
        return await vault.remove_unreadable()


def try_keys(start: Start, name: str | None, *, as_json: bool) -> int:
    """Try the keys of one provider, or of all; the exit code says whether all were found good."""
    terminal = Terminal(to_stderr=as_json)
    results: dict[str, Any] = {}
    with connect(start) as client:
        names = [name] if name else [each["name"] for each in client.providers() if each["accounts"]]
        if not names:
            raise Fault(f"There are no accounts; `{command_name()} providers configure` sets one up.")
        for each in names:
            results[each] = client.try_keys(each)["trials"]
            for account, trial in results[each].items():
                terminal.line(_STATES[trial["state"]], f"{each}/{account}: {trial['detail']}")
    if as_json:
        write_json(results)
    good = all(trial["state"] == "accepted" for trials in results.values() for trial in trials.values())
    return COMPLETED if good else FAILED


def rotate_master_key(start: Start) -> None:
    """Encrypt all stored keys anew."""
    with connect(start, needs_keys=False) as client:
        rotated = client.rotate_master_key()
    terminal = Terminal()
    count = rotated["accounts"]
    keys = "1 key was" if count == 1 else f"{count} keys were"
    terminal.line(f"{keys} encrypted anew, under master key {rotated['version']}.")
    if rotated["advice"]:
        terminal.line(rotated["advice"])


def _rows(provider: Json) -> list[tuple[Text, ...]]:
    """A line for each account; one line for a provider without any."""
    name, tier = Text(printable(provider["name"])), Text(provider["tier"] or "?")
    if not provider["accounts"]:
        state = provider["retired"] or "no account"
        return [(name, tier, Text(""), Text(""), Text(""), Text(printable(state), "dim"))]
    rows = []
    for account in provider["accounts"]:
        source = account["key_from"] or account["source"]
        state, style = _state(account)
        cells = (account["account"], account["key"] or "none", source)
        rows.append((name, tier, *(Text(printable(cell)) for cell in cells), Text(printable(state), style)))
    return rows


def _state(account: Json) -> tuple[str, str]:
    """How the account is, and in which colour to say so."""
    if account["problem"]:
        return account["problem"], "red"
    if not account["enabled"]:
        return "disabled", "dim"
    if account["rests"]:
        return account["rests"], "yellow"
    return ("ready", "green") if account["proven"] else ("not proven", "yellow")


def _details(account: Json) -> list[tuple[str, str]]:
    """What there is to know of an account, by title."""
    key = account["key"] or "none"
    details = [("key", f"{key} (from {account['key_from'] or account['source']})")]
    if account["base_url"]:
        private = (
            ", may be on this network" if account["source"] == "store" and account["allow_private"] else ""
        )
        details.append(("address", f"{account['base_url']}{private}"))
    if account["models"]:
        details.append(("models", ", ".join(account["models"])))
    if account["cap_usd_per_day"] is not None:
        spent = account["spent_usd_today"]
        so_far = "" if spent is None else f", {spent:.4g} of them spent today (UTC)"
        details.append(("cap", f"{account['cap_usd_per_day']:g} US dollars a day{so_far}"))
    own = {name: most for name, most in (account["limits"] or {}).items() if most is not None}
    if own:
        words = (f"{most:,} {name.replace('_', ' ')}" for name, most in own.items())
        details.append(("limits", f"yours: {', '.join(words)}"))
    return details


def _terms(terms: Json) -> list[tuple[str, str, str]]:
    """On what terms a provider serves: title, value and who says so."""
    found = []
    for number, limit in enumerate(terms["limits"]):
        note = f"; {limit['note']}" if limit["note"] else ""
        found.append(("limits" if number == 0 else "", f"{limit['words']}{note}", limit["source"]))
    if not found:
        found.append(("limits", "not known", ""))
    if terms["credit"]:
        found.append(("credit", terms["credit"], terms["credit_source"]))
    found.append(("training", f"on prompts: {terms['training'] or 'not known'}", ""))
    found.append(("forbids", terms["restriction"] or "not known", ""))
    named = (("account", "signup"), ("sign up", "signup_url"))
    found += [(title, terms[name], "") for title, name in named if terms[name]]
    return found


def tell_saved(terminal: Terminal, saved: Json, account: str) -> None:
    """Say what became of an account that was to be stored."""
    name, trial = f"{saved['name']}/{account}", saved["trial"]
    if trial is None:
        terminal.line(("· ", "dim"), f"{name} is stored; its key was not tried.")
    elif trial["state"] == "accepted":
        terminal.line(("✓ ", "green"), f"{name} is stored: {trial['detail']}.")
    else:
        terminal.line(("? ", "yellow"), f"{name} is stored, but not proven good: {trial['detail']}.")


def _key_from_stdin() -> str:
    raw = sys.stdin.buffer.read(_MAX_KEY_BYTES + 1)
    key = raw.decode("utf-8", "replace").strip()
    if not key or len(raw) > _MAX_KEY_BYTES:
        raise Fault(
            "Standard input holds no key; pipe it in, or leave --api-key-stdin out to be asked for it.",
            WRONG_USAGE,
        )
    return key


def _asked_key(name: str) -> str:
    """The key that a person types, unseen."""
    if not sys.stdin.isatty():
        raise Fault(
            "Give the key on standard input with --api-key-stdin, or run this in a terminal.", WRONG_USAGE
        )
    try:
        return getpass.getpass(f"  Key for {name} (not shown): ").strip()
    except (EOFError, KeyboardInterrupt):
        raise Fault("No key was given, so nothing was stored.") from None
