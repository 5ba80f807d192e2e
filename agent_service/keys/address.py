"""Addresses of providers that the operator did not write down: from imports and the admin routes."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from agent_service.keys.errors import AccountInvalid, AddressNotPublic
from routing.transport import is_public

MAX_ADDRESS = 2048
"""Characters."""
_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal")


def checked_address(address: str, *, allow_private: bool) -> str:
    """The address without a slash at its end. Raises AccountInvalid, of it AddressNotPublic.

    It must be https without user, query or fragment. `allow_private` lets plain http and addresses of this
    machine and its network pass. What a name leads to is looked at when a connection is made
    (`routing.transport`, `public_only`).
    """
    if len(address) > MAX_ADDRESS or not address.isprintable() or address != "".join(address.split()):
        raise _invalid("is no web address")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _invalid("is no web address") from None
    if "{" in address or "\\" in address:
        raise _invalid("has a part in braces, or a backslash; fill the braces in")
    if "@" in parts.netloc:
        raise _invalid("must not hold a user or password; the key goes into api_key")
    if parts.query or parts.fragment or "?" in address or "#" in address:
        raise _invalid("must not have a query or a fragment")
    if parts.scheme not in ("https", "http") or not host:
        raise _invalid("must start with https://")
    if not allow_private:
        if parts.scheme != "https":
            raise _not_public("must start with https://; allow_private lets http to your own servers pass")
        if _is_private(host):
            raise _not_public("leads to this machine or its network; allow_private lets that pass")
    return address.rstrip("/")


def _is_private(host: str) -> bool:
    host = host.rstrip(".").lower()
    if host == _LOCAL_NAMES[0] or host.endswith(_LOCAL_NAMES[1:]):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return not is_public(host)


def _invalid(reason: str) -> AccountInvalid:
    return AccountInvalid("base_url", f"base_url: {reason}.")


def _not_public(reason: str) -> AddressNotPublic:
    return AddressNotPublic("base_url", f"base_url: {reason}.")
