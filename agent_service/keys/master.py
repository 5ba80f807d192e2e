"""The master key: in the environment, else in the system's keyring, else in a file of the data folder that
nobody else can read.

Each may hold several keys, the one in use first: those after it still open what they sealed, until
everything is sealed anew.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent_service.config_file import ConfigError
from agent_service.keys.sealing import KEY_BYTES, MasterKey
from agent_service.keys.system_keyring import HOW_TO_SET, read_keyring
from agent_service.layers import MASTER_KEY_VARIABLE

FILE = "master.key"
_HOW_TO_MAKE = "`openssl rand -hex 32` makes one"
_MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """The master keys at hand."""

    keys: tuple[MasterKey, ...]
    """Never empty; the first one seals."""
    where: str
    """Where they stand, for people."""
    how_to_set: str = ""
    """How the operator puts others there; empty = that is left to us."""

    @property
    def current(self) -> MasterKey:
        return self.keys[0]

    @property
    def by_version(self) -> dict[str, MasterKey]:
        return {key.version: key for key in self.keys}


class MasterKeySource:
    """Where the master keys are read, each time anew: another process may have replaced them."""

    def __init__(self, data_dir: Path, environ: Mapping[str, str]) -> None:
        self.file = data_dir / FILE
        self._given = environ.get(MASTER_KEY_VARIABLE, "").strip()

    def given(self) -> MasterKeys | None:
        """The keys that the operator keeps; None when that is left to us. Raises ConfigError."""
        if self._given:
            where = f"environment variable {MASTER_KEY_VARIABLE}"
            return MasterKeys(_parsed(self._given, where), where, f"{MASTER_KEY_VARIABLE}=NEW,OLD")
        try:
            kept = read_keyring()
        except ConfigError:
            if self.file.exists():  # who relies on the file need not unlock anything
                return None
            raise
        where = "system's keyring"
        return None if kept is None else MasterKeys(_parsed(kept, where), where, f"{HOW_TO_SET}, as NEW,OLD")

    def read(self) -> MasterKeys | None:
        """The keys; None when there are none yet. Raises ConfigError."""
        if given := self.given():
            return given
        text = _read_private(self.file)
        return None if text is None else MasterKeys(_parsed(text, str(self.file)), str(self.file))

    def read_or_make(self) -> MasterKeys:
        """The keys; at first use a new one is put into the file. Raises ConfigError."""
        found = self.read()
        if found is None:
            self._write([MasterKey(secrets.token_bytes(KEY_BYTES))], new=True)
            found = self.read()
            assert found is not None
        return found

    def add_new(self) -> MasterKeys:
        """Put a new key in front of those in the file. Raises ConfigError."""
        known = self.read_or_make()
        self._write([MasterKey(secrets.token_bytes(KEY_BYTES)), *known.keys])
        return self.read_or_make()

    def keep_only(self, versions: Sequence[str]) -> None:
        """Take the other keys out of the file. Raises ConfigError."""
        known = self.read_or_make()
        self._write([key for key in known.keys if key.version in versions])

    def _write(self, keys: Sequence[MasterKey], *, new: bool = False) -> None:
        """Replace the file whole; with `new` one that appeared meanwhile stays as it is."""
        draft = self.file.with_name(f"{FILE}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.writelines(f"{key.secret.hex()}\n" for key in keys)
                    file.flush()
                    os.fsync(file.fileno())
                if new:
                    with suppress(FileExistsError):
                        os.link(draft, self.file)
                else:
                    draft.replace(self.file)
            finally:
                draft.unlink(missing_ok=True)
            folder = os.open(self.file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise ConfigError(f"{self.file}: it cannot be written: {error.strerror}") from None


def _read_private(path: Path) -> str | None:
    """The file's text, None without a file. Raises ConfigError when others could have read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read: {error.strerror}") from None
    try:
        _require_private(path, os.fstat(descriptor))
        return os.read(descriptor, _MAX_FILE_BYTES).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _require_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigError(f"{path}: it must be a file of the user that runs the service")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(
            f"{path}: other users may read it (mode {stat.S_IMODE(found.st_mode):03o}); run "
            f"`chmod 600 {path}`, and then `agent-service providers rotate` if somebody may have"
        )


def _parsed(text: str, where: str) -> tuple[MasterKey, ...]:
    words = text.replace(",", " ").split()
    if not words:
        raise ConfigError(f"{where}: there is no master key in it; {_HOW_TO_MAKE}")
    keys = [_key(word, number, where) for number, word in enumerate(words, 1)]
    return tuple(dict.fromkeys(keys))


def _key(word: str, number: int, where: str) -> MasterKey:
    """A key written as 64 hexadecimal digits or in base64."""
    for decode in (bytes.fromhex, lambda word: base64.b64decode(word, validate=True)):
        with suppress(ValueError, binascii.Error):
            if len(secret := decode(word)) == KEY_BYTES:
                return MasterKey(secret)
    raise ConfigError(f"{where}: key {number} is not {KEY_BYTES} bytes in hexadecimal digits; {_HOW_TO_MAKE}")
