"""The routes about providers, their accounts and the master key. For admin principals only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import SecretStr

from agent_service.api.documentation import BODY, SENT, errors
from agent_service.api.error_codes import ErrorCode
from agent_service.api.gates import Refusal
from agent_service.api.json_route import StrictJsonRoute
from agent_service.api.provider_import import ImportReport, ImportRequest, imported
from agent_service.api.provider_schemas import (
    AccountChange,
    AccountList,
    AccountSaved,
    Deleted,
    KeyTrial,
    NamedAccount,
    NewAccount,
    Provider,
    ProviderList,
    Rotated,
    TestRequest,
    TestResult,
)
from agent_service.api.services import PrincipalOf, ServicesOf
from agent_service.api.validation import only_known_parameters
from agent_service.keys.account import ACCOUNT_PATTERN, Account
from agent_service.keys.account import NAME_PATTERN as PROVIDER_PATTERN
from routing.config import DEFAULT_ACCOUNT


def _admin(principal: PrincipalOf) -> None:
    """Once more what the edge sees to, for whoever mounts these routes elsewhere."""
    if not principal.admin:
        raise Refusal(ErrorCode.ADMIN_REQUIRED, "This needs an admin key.")


router = APIRouter(
    route_class=StrictJsonRoute,
    dependencies=[Depends(_admin), Depends(only_known_parameters)],
    tags=["admin"],
)

ProviderName = Annotated[
    str, Path(max_length=64, pattern=PROVIDER_PATTERN, description="The provider.", examples=["groq"])
]
AccountPath = Annotated[
    str,
    Path(
        max_length=64,
        pattern=ACCOUNT_PATTERN,
        description="The account's name among those of the provider.",
        examples=[DEFAULT_ACCOUNT],
    ),
]
_ADMIN = (
    ErrorCode.ADMIN_REQUIRED,
    ErrorCode.DATABASE_UNAVAILABLE,
    ErrorCode.MASTER_KEY_UNUSABLE,
    ErrorCode.MISCONFIGURED,
)
_SHOW = (*_ADMIN, ErrorCode.INVALID, ErrorCode.PROVIDER_NOT_FOUND, ErrorCode.ACCOUNT_NOT_FOUND)
_SAVE = (*_ADMIN, *BODY, ErrorCode.ACCOUNT_CONFIGURED, ErrorCode.KEY_NOT_ACCEPTED)
_DELETE = (*_ADMIN, ErrorCode.INVALID, ErrorCode.ACCOUNT_NOT_FOUND, ErrorCode.ACCOUNT_CONFIGURED)


@router.get("/providers", summary="List providers", responses=errors(*_ADMIN, ErrorCode.INVALID))
async def list_providers(
    services: ServicesOf,
    everything: Annotated[bool, Query(alias="all", description="Also those without an account.")] = False,
) -> ProviderList:
    """Those that have an account; with `all` also those that could have one."""
    views = await services.accounts.providers(everything=everything)
    return ProviderList(data=[Provider.of(view) for view in views])


@router.post(
    "/providers",
    status_code=201,
    summary="Add or replace an account",
    responses=errors(*_SAVE),
)
async def add_account(body: NewAccount, services: ServicesOf) -> AccountSaved:
    """Keep an account, its key encrypted, and use it from now on."""
    return await _save(services, body.provider, body)


@router.post(
    "/providers/import",
    summary="Import accounts from a file",
    responses=errors(*_ADMIN, *BODY),
)
async def import_accounts(body: ImportRequest, services: ServicesOf) -> ImportReport:
    """Keep the accounts that a file of another program holds, each as if it were added alone."""
    return await imported(body, services.accounts)


@router.get("/providers/{name}", summary="Show a provider", responses=errors(*_SHOW))
async def show_provider(name: ProviderName, services: ServicesOf) -> Provider:
    """A provider and its accounts."""
    return Provider.of(await services.accounts.provider(name))


@router.patch(
    "/providers/{name}",
    summary="Change a provider's default account",
    responses=errors(*_SAVE, ErrorCode.ACCOUNT_NOT_FOUND),
)
async def change_provider(name: ProviderName, body: AccountChange, services: ServicesOf) -> AccountSaved:
    """Change what is given of the account named `default`."""
    return await change_account(name, DEFAULT_ACCOUNT, body, services)


@router.delete(
    "/providers/{name}",
    summary="Delete a provider's accounts",
    responses=errors(*_DELETE),
)
async def delete_provider(name: ProviderName, services: ServicesOf) -> Deleted:
    """Delete all stored accounts of the provider."""
    return Deleted(deleted=name, accounts=await services.accounts.remove(name))


@router.get(
    "/providers/{name}/accounts",
    summary="List a provider's accounts",
    responses=errors(*_SHOW),
)
async def list_accounts(name: ProviderName, services: ServicesOf) -> AccountList:
    """The accounts of the provider, wherever they come from."""
    return AccountList(data=Provider.of(await services.accounts.provider(name)).accounts)


@router.post(
    "/providers/{name}/accounts",
    status_code=201,
    summary="Add or replace an account of a provider",
    responses=errors(*_SAVE),
)
async def add_account_of(name: ProviderName, body: NamedAccount, services: ServicesOf) -> AccountSaved:
    """Keep an account, its key encrypted, and use it from now on."""
    return await _save(services, name, body)


@router.patch(
    "/providers/{name}/accounts/{account}",
    summary="Change an account",
    responses=errors(*_SAVE, ErrorCode.ACCOUNT_NOT_FOUND),
)
async def change_account(
    name: ProviderName, account: AccountPath, body: AccountChange, services: ServicesOf
) -> AccountSaved:
    """Change what is given. Another address needs the key again."""
    return AccountSaved.of_saved(
        await services.accounts.change(name, account, body.changes(), verify=body.verify)
    )


@router.delete(
    "/providers/{name}/accounts/{account}",
    summary="Delete an account",
    responses=errors(*_DELETE),
)
async def delete_account(name: ProviderName, account: AccountPath, services: ServicesOf) -> Deleted:
    """Delete a stored account."""
    count = await services.accounts.remove(name, account)
    return Deleted(deleted=f"{name}/{account}", accounts=count)


@router.post(
    "/providers/{name}/test",
    summary="Try a provider's keys",
    responses=errors(*_SHOW, *BODY),
)
async def try_keys(name: ProviderName, services: ServicesOf, body: TestRequest | None = None) -> TestResult:
    """List its models and send a tiny request with each account's key."""
    trials = await services.accounts.test(name, body.account if body else None)
    return TestResult(trials={account: KeyTrial.of(trial) for account, trial in trials.items()})


@router.post(
    "/master-key/rotate",
    summary="Rotate the master key",
    responses=errors(*_ADMIN, *SENT, ErrorCode.INVALID, ErrorCode.OVERLOADED),
)
async def rotate_master_key(services: ServicesOf) -> Rotated:
    """Encrypt all stored keys anew, under a new master key."""
    return Rotated.of(await services.accounts.rotate())


async def _save(services: ServicesOf, name: str, body: NamedAccount) -> AccountSaved:
    key: SecretStr | None = body.api_key
    account = Account(name, body.account, key, body.base_url, body.options())
    return AccountSaved.of_saved(await services.accounts.save(account, verify=body.verify))
