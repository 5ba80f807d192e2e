"""Where the master key stands, and when it is refused."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from agent_service.config_file import ConfigError
from agent_service.keys.master import FILE, MasterKeySource
from agent_service.layers import MASTER_KEY_VARIABLE as VARIABLE

HEX, BASE64 = "ab" * 32, base64.b64encode(b"\xab" * 32).decode()


def test_there_is_none_until_it_is_needed(tmp_path: Path) -> None:
    source = MasterKeySource(tmp_path, {})
    assert source.read() is None
    assert list(tmp_path.iterdir()) == []
    made = source.read_or_make()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert MasterKeySource(tmp_path, {}).read() == made
    assert [each.name for each in tmp_path.iterdir()] == [FILE]


def test_several_that_make_one_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: MasterKeySource(tmp_path, {}).read_or_make(), range(32)))
    assert len({each.current.version for each in made}) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    source = MasterKeySource(tmp_path, {})
    source.read_or_make()
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(ConfigError, match=r"other users may read it.*chmod 600"):
        source.read()


def test_a_link_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(HEX)
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        MasterKeySource(tmp_path, {}).read()
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="must be a file"):
        MasterKeySource(tmp_path, {}).read()


def test_a_pipe_does_not_keep_the_start_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE, 0o600)
    with pytest.raises(ConfigError, match="must be a file"):
        MasterKeySource(tmp_path, {}).read()


@pytest.mark.parametrize("text", [HEX, HEX.upper(), BASE64, f"{HEX},{'cd' * 32}", f" {HEX}\n{'cd' * 32}\n"])
def test_the_environment_goes_before_the_file(tmp_path: Path, text: str) -> None:
    in_file = MasterKeySource(tmp_path, {}).read_or_make()
    given = MasterKeySource(tmp_path, {VARIABLE: text}).read()
    assert given is not None
    assert given.current.secret == b"\xab" * 32
    assert given.current != in_file.current
    assert VARIABLE in given.where


@pytest.mark.parametrize("text", ["secret-passphrase", "ab" * 31, "ab" * 33, f"{HEX},xyz", ","])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="openssl rand -hex 32") as raised:
        MasterKeySource(tmp_path, {VARIABLE: text}).read()
    assert len(text) < 2 or text not in str(raised.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).touch(0o600)
    with pytest.raises(ConfigError, match="no master key in it"):
        MasterKeySource(tmp_path, {}).read_or_make()
    assert (tmp_path / FILE).read_text() == ""


def test_a_new_key_goes_in_front_and_the_old_one_can_be_dropped(tmp_path: Path) -> None:
    source = MasterKeySource(tmp_path, {})
    old = source.read_or_make().current
    both = source.add_new()
    assert both.keys[1:] == (old,) and both.current != old
    source.keep_only([both.current.version])
    assert source.read_or_make().keys == (both.current,)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


class Ring(KeyringBackend):
    """A keyring in memory; None = it is locked."""

    priority = 5

    def __init__(self, entries: dict[tuple[str, str], str] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries = entries

    def get_password(self, service: str, username: str) -> str | None:
        if self.entries is None:
            raise KeyringLocked("locked")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError("it is only read")


@pytest.fixture
def put_in() -> Iterator[Callable[[Ring], None]]:
    """Puts a keyring into the place of the system's."""
    former = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(former)


def test_the_keyring_goes_between_the_environment_and_the_file(
    tmp_path: Path, put_in: Callable[[Ring], None]
) -> None:
    in_file = MasterKeySource(tmp_path, {}).read_or_make()
    put_in(Ring({("agent-service", "master-key"): f"{HEX}\n"}))
    kept = MasterKeySource(tmp_path, {}).read()
    assert kept is not None and kept.current.secret == b"\xab" * 32 and "keyring" in kept.where
    given = MasterKeySource(tmp_path, {VARIABLE: "cd" * 32}).read()
    assert given is not None and given.current.secret == b"\xcd" * 32
    put_in(Ring({}))
    assert MasterKeySource(tmp_path, {}).read() == in_file


def test_a_locked_keyring_stops_only_who_has_no_file(tmp_path: Path, put_in: Callable[[Ring], None]) -> None:
    put_in(Ring(None))
    with pytest.raises(ConfigError, match=r"keyring does not open.*unlock it"):
        MasterKeySource(tmp_path, {}).read_or_make()
    put_in(Ring({}))
    in_file = MasterKeySource(tmp_path, {}).read_or_make()
    put_in(Ring(None))
    assert MasterKeySource(tmp_path, {}).read() == in_file


def test_a_keyring_that_nobody_recommends_is_none(tmp_path: Path, put_in: Callable[[Ring], None]) -> None:
    plain = Ring({("agent-service", "master-key"): HEX})
    plain.priority = 0.5  # type: ignore[assignment]
    put_in(plain)
    assert MasterKeySource(tmp_path, {}).read() is None
