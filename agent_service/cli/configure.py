"""`agent-service providers configure`: accounts set up in a dialogue, each key tried as it is entered."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from typing import get_args

from agent_service.cli.client import Json, Refused, ServiceClient
from agent_service.cli.connection import connect
from agent_service.cli.fault import COMPLETED, FAILED, WRONG_USAGE, Fault
from agent_service.cli.start import Start
from agent_service.cli.terminal import Terminal
from agent_service.cli.wording import command_name
from agent_service.keys.address import checked_address
from agent_service.keys.errors import AccountInvalid, AddressNotPublic
from routing.catalogue import known_providers
from routing.types import Tier

_TIERS: tuple[str, ...] = get_args(Tier)


def configure(start: Start) -> int:
    """Ask for providers and keys until nothing is entered; the exit code says whether one was stored."""
    if not sys.stdin.isatty():
        raise Fault(f"This asks questions; in a script, use `{command_name()} providers add`.", WRONG_USAGE)
    with connect(start) as client:
        return _Dialogue(client, Terminal()).run()


class _Dialogue:
    def __init__(self, client: ServiceClient, terminal: Terminal) -> None:
        self._client, self._terminal = client, terminal

    def run(self) -> int:
        stored = 0
        try:
            self._introduce()
            while name := self._asked("Provider (Enter to end)"):
                stored += self._set_up(name.lower())
        except (EOFError, KeyboardInterrupt):
            self._terminal.gap()
        self._terminal.line(f"{stored} stored." if stored else "Nothing was stored.")
        return COMPLETED if stored else FAILED

    def _introduce(self) -> None:
        """The known providers by tier, those with an account marked."""
        known = self._client.providers(everything=True)
        for tier in _TIERS:
            names = [
                f"{each['name']}{'*' if each['accounts'] else ''}" for each in known if each["tier"] == tier
            ]
            self._terminal.line((f"  {tier:<6} ", "bold"), ", ".join(names))
        self._terminal.line(("  * has an account. Any other name is a server of your own.", "dim"))

    def _set_up(self, name: str) -> bool:
        """Whether an account was stored for that provider."""
        account: Json = {"provider": name}
        try:
            known = self._client.provider(name)
        except Refused as error:
            if error.code != "provider_not_found":
                self._terminal.line(("  ✗ ", "red"), str(error))
                return False
            self._terminal.line(("  · ", "yellow"), str(error))
            known = {"base_url": None, "tier": None, "accounts": []}
        if known["accounts"]:
            what = "Account, a project, organisation or paid tier of its own (Enter for `default`)"
            account["account"] = self._asked(what) or "default"
        for each in known["accounts"]:
            if each["source"] == "store" and each["account"] == account["account"]:
                return self._with_another_key(name, each)
        if known["base_url"] is None or "{" in known["base_url"]:
            usual = f", of the form {known['base_url']}" if known["base_url"] else ""
            account["base_url"] = self._asked(f"Its address{usual} (Enter to leave it)")
            if not account["base_url"]:
                return False
            account["allow_private"] = self._may_be_private(account["base_url"])
        elif name not in known_providers():
            beside = known["accounts"][0]
            account |= {"base_url": known["base_url"], "allow_private": beside["allow_private"]}

        def save(key: Json) -> Json:
            return self._client.save_account({**account, **key})

        return self._with_key(save, needed=known["tier"] != "local")

    def _with_another_key(self, name: str, stored: Json) -> bool:
        """Ask for another key of a stored account, whose address and options stay."""
        where = f" at {stored['base_url']}" if stored["base_url"] else ""
        kept = f"{name}/{stored['account']} is stored{where}; another key takes the place of the one it has."
        self._terminal.line(("  · ", "dim"), kept)

        def save(key: Json) -> Json:
            return self._client.change_account(name, stored["account"], key)

        return self._with_key(save, needed=True)

    def _may_be_private(self, address: str) -> bool:
        """Whether the address needs leave, and gets it; what else may be wrong is told when it is stored."""
        try:
            checked_address(address, allow_private=False)
        except AddressNotPublic:
            question = "Not public or not https: may it be on this machine or its network? [y/N]"
            return self._asked(question).lower() in ("y", "yes")
        except AccountInvalid:
            return False
        return False

    def _with_key(self, save: Callable[[Json], Json], *, needed: bool) -> bool:
        """Ask for keys until one is stored by `save`, or none is entered."""
        hint = "Enter to leave it" if needed else "Enter if it needs none"
        prompt = "Key"
        while True:
            key = getpass.getpass(f"  {prompt}, not shown ({hint}) › ").strip()
            prompt = "Another key"
            if not key and needed:
                return False
            try:
                saved = save({"api_key": key} if key else {})
            except Refused as error:
                self._terminal.line(("  ✗ ", "red"), str(error))
                if error.code == "key_not_accepted":
                    continue
                return False
            trial = saved["trial"]
            if trial["state"] == "accepted":
                self._terminal.line(("  ✓ ", "green"), f"stored: {trial['detail']}")
            else:
                self._terminal.line(("  ? ", "yellow"), f"stored, but not proven good: {trial['detail']}")
            return True

    def _asked(self, what: str) -> str:
        return input(f"  {what} › ").strip()
