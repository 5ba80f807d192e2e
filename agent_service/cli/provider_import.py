"""`agent-service providers import`: accounts from a file of another program."""

from __future__ import annotations

from pathlib import Path

from agent_service.cli.answers import confirmed
from agent_service.cli.client import Refused, ServiceClient
from agent_service.cli.connection import connect
from agent_service.cli.fault import COMPLETED, FAILED, WRONG_USAGE, Fault
from agent_service.cli.providers import tell_saved
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal
from agent_service.keys.account import Account, checked_account
from agent_service.keys.errors import AccountError
from agent_service.keys.imports import (
    MAX_IMPORT_BYTES,
    address_of,
    described,
    gives_away,
    read_accounts,
)


def import_accounts(start: Start, file: Path, *, verify: bool, dry_run: bool, allow_env_keys: bool) -> int:
    """Store the accounts that a file holds, and say what was taken and what was not; the exit code.

    It is FAILED unless all of them were taken. Raises Fault if the file is not of its form; then nothing is
    stored.

    A variable of the environment that the file sends to an address of its own, or to another provider than
    it is meant for, goes there only with `allow_env_keys`, or after somebody at the terminal said yes.
    """
    terminal = Terminal()
    found = read_accounts(_text_of(file), start.environ, file.name)
    for note in found.skipped:
        if note.lost == "file":
            raise Fault(
                f"{file} ({found.form}), {note.where}: {note.reason}. Nothing was stored.", WRONG_USAGE
            )
    terminal.line(f"{file} was read as {found.form}.")
    if dry_run:
        taken = sum(_would_take(terminal, start, account) for account in found.accounts)
    elif found.accounts:
        with connect(start) as client:
            taken = sum(
                _take(terminal, client, account, verify=verify, allow_env_keys=allow_env_keys)
                for account in found.accounts
            )
    else:
        taken = 0
    for note in found.skipped:
        terminal.line(("- ", "yellow"), f"{note.where}: {note.reason}")
    refused, skipped = len(found.accounts) - taken, len(found.skipped)
    terminal.gap()
    verb = "would be taken" if dry_run else "taken"
    terminal.line(f"{taken} {verb}, {refused} refused, {skipped} {'note' if skipped == 1 else 'notes'}.")
    lost = refused or any(note.lost == "account" for note in found.skipped)
    return COMPLETED if taken and not lost else FAILED


def _would_take(terminal: Terminal, start: Start, account: Account) -> bool:
    """Say whether the account could be stored, as far as it is known without asking anybody."""
    try:
        checked_account(account, start.environ)
    except AccountError as error:
        terminal.line(("✗ ", "red"), f"{account.provider}/{account.account}: {error}")
        return False
    needs = "; needs your consent" if gives_away(account) else ""
    terminal.line(("· ", "dim"), f"{described(account)}{needs}")
    return True


def _take(
    terminal: Terminal, client: ServiceClient, account: Account, *, verify: bool, allow_env_keys: bool
) -> bool:
    """Store the account and say what became of it; whether it was taken."""
    name = f"{account.provider}/{account.account}"
    terminal.line(("· ", "dim"), described(account))
    if gives_away(account) and not (allow_env_keys or _consents(terminal, account)):
        reason = "not sent, because nobody agreed to that; --allow-env-keys does"
        terminal.line(("✗ ", "red"), f"{name}: {_named(account)}: {reason}.")
        return False
    options = account.options.model_dump(mode="json", exclude_defaults=True)
    key = account.api_key.get_secret_value() if account.api_key else None
    body = {**options, "provider": account.provider, "account": account.account, "api_key": key}
    try:
        saved = client.save_account({**body, "base_url": account.base_url, "verify": verify})
    except Refused as error:
        terminal.line(("✗ ", "red"), f"{name}: {error}")
        return False
    tell_saved(terminal, saved, account.account)
    return True


def _consents(terminal: Terminal, account: Account) -> bool:
    question = f"Send what {_named(account)} holds to {account.provider}, {address_of(account)}? [y/N] "
    return confirmed(terminal, question)


def _named(account: Account) -> str:
    return " and ".join(account.variables)


def _text_of(file: Path) -> str:
    try:
        with file.expanduser().open("rb") as opened:
            raw = opened.read(MAX_IMPORT_BYTES + 1)
    except OSError as error:
        raise Fault(f"{file} cannot be read: {error.strerror}.", WRONG_USAGE) from None
    if len(raw) > MAX_IMPORT_BYTES:
        raise Fault(
            f"{file} is larger than {MAX_IMPORT_BYTES // 1024} KiB, so it is no list of keys.", WRONG_USAGE
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Fault(f"{file} is no text, or not in UTF-8; save it as UTF-8.", WRONG_USAGE) from None
