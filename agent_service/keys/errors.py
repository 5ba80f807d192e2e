"""Errors of the account store, grouped by what the caller can do.

ConfigError
  MasterKeyUnusable      -> give the master key that the stored keys were encrypted with
AccountError
  AccountInvalid(param)  -> mend the field
    AddressNotPublic     -> the same with allow_private, if it is a server of one's own
  AccountNotFound        -> another name
  AccountConfigured      -> change the configuration file or the environment instead
  KeyNotAccepted         -> another key
"""

from __future__ import annotations

from agent_service.config_file import ConfigError


class MasterKeyUnusable(ConfigError):
    """Stored keys cannot be opened. Nothing is written while that is so."""


class AccountError(Exception):
    """An account cannot be kept or changed like that; the message says why and holds no key."""

    param: str | None = None
    """The field at fault."""


class AccountInvalid(AccountError):
    """A field of the account does not do."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class AddressNotPublic(AccountInvalid):
    """The address is plain http, or leads to this machine or its network; `allow_private` lets it pass."""


class AccountNotFound(AccountError):
    """There is no such account in the store."""


class AccountConfigured(AccountError):
    """The account comes from the configuration or the environment, which are not changed from here."""


class KeyNotAccepted(AccountError):
    """The provider refuses the key, so it was not stored."""

    param = "api_key"
