"""Accounts imported over HTTP: from the text of a file to a report of what became of each."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, SecretStr

from agent_service.api.provider_schemas import KeyTrial
from agent_service.documented import Documented
from agent_service.keys.account import Account, last4, masked
from agent_service.keys.directory import ProviderAccounts
from agent_service.keys.errors import AccountError
from agent_service.keys.imports import MAX_IMPORT_BYTES, Note, read_accounts
from agent_service.keys.trial import Trial


class ImportRequest(Documented):
    """Accounts, as a file of another program has them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    text: Annotated[SecretStr, Field(max_length=MAX_IMPORT_BYTES)]
    """The file's text: YAML, JSON, `.env`, `.lenv` or indented Links notation. Write-only. What names an
    environment variable is not taken: those of the service are its own."""
    name: Annotated[str, Field(max_length=255)] = ""
    """The file's name: if it ends in `.yaml`, `.yml`, `.json`, `.env` or `.lino`, the text must be that."""
    dry_run: bool = False
    """Only say what would be taken."""
    verify: bool = True
    """Ask the providers first; a key that is refused is not stored."""


class ImportedAccount(Documented):
    """An account of the file, and what became of it."""

    provider: str
    """Its name, as in `/api/providers`."""
    account: str
    """Its name among those of the provider."""
    key: str | None
    """`...` and the last four characters; null without a key."""
    stored: bool
    """Whether it is kept and used from now on."""
    trial: KeyTrial | None
    """What the provider said of the key; null if it was not asked, or the account was not stored."""
    problem: str | None
    """Why it was not stored, or in a dry run would not be, as far as that is known without asking."""

    @classmethod
    def of(cls, account: Account, *, stored: bool, trial: Trial | None, problem: str | None) -> Self:
        return cls(
            provider=account.provider,
            account=account.account,
            key=masked(last4(account.api_key)),
            stored=stored,
            trial=KeyTrial.of(trial) if trial else None,
            problem=problem,
        )


class ImportNote(Documented):
    """Something of the file that was passed over."""

    where: str
    """A provider's name, `record 3` or `line 7`."""
    reason: str
    """Why."""
    lost: Literal["part", "account", "file"]
    """What was not taken because of it: something of an account, an account, or all that the file holds."""

    @classmethod
    def of(cls, note: Note) -> Self:
        return cls(where=note.where, reason=note.reason, lost=note.lost)


class ImportReport(Documented):
    """What was found in the file, and what became of it."""

    form: str
    """What the file was read as."""
    accounts: list[ImportedAccount]
    """Those that could be read, in their order."""
    notes: list[ImportNote]
    """What could not."""


async def imported(body: ImportRequest, accounts: ProviderAccounts) -> ImportReport:
    """Take the accounts one after the other. Raises ConfigError when the master key does not do."""
    # Without an environment: else whoever may add accounts, but read no variables of the service, could have
    # one sent to an address of his own.
    found = await asyncio.to_thread(read_accounts, body.text.get_secret_value(), {}, body.name)
    return ImportReport(
        form=found.form,
        accounts=[await _taken(account, body, accounts) for account in found.accounts],
        notes=[ImportNote.of(note) for note in found.skipped],
    )


async def _taken(account: Account, body: ImportRequest, accounts: ProviderAccounts) -> ImportedAccount:
    try:
        if body.dry_run:
            await accounts.check(account)
            return ImportedAccount.of(account, stored=False, trial=None, problem=None)
        saved = await accounts.save(account, verify=body.verify)
    except AccountError as error:
        return ImportedAccount.of(account, stored=False, trial=None, problem=str(error))
    return ImportedAccount.of(account, stored=True, trial=saved.trial, problem=None)
