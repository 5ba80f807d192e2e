"""Keys at rest: what opens, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from agent_service.keys.sealing import MasterKey, SealBroken, Sealed, seal, unseal

MASTER, OTHER = MasterKey(b"m" * 32), MasterKey(b"o" * 32)
ROW = {"row_id": "row-1", "provider": "groq"}
KEY = "gsk_0123456789abcdef"


@given(st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable()))
def test_a_key_comes_back_as_it_was(key: str) -> None:
    assert unseal(seal(SecretStr(key), MASTER, **ROW), MASTER, **ROW).get_secret_value() == key


def test_every_sealing_has_a_nonce_of_its_own() -> None:
    sealed = [seal(SecretStr(KEY), MASTER, **ROW) for _ in range(2000)]
    assert {len(each.nonce) for each in sealed} == {12}
    assert len({each.nonce for each in sealed}) == len({each.ciphertext for each in sealed}) == 2000


def test_nothing_of_the_key_can_be_read_without_the_master_key() -> None:
    sealed = seal(SecretStr(KEY), MASTER, **ROW)
    assert KEY.encode() not in sealed.ciphertext
    assert KEY not in repr(sealed)
    assert "m" * 8 not in repr(MASTER) and "6d6d" not in repr(MASTER)
    with pytest.raises(SealBroken):
        unseal(sealed, OTHER, **ROW)


@pytest.mark.parametrize("place", range(len(KEY) + 16))
def test_a_changed_byte_is_noticed(place: int) -> None:
    sealed = seal(SecretStr(KEY), MASTER, **ROW)
    changed = bytearray(sealed.ciphertext)
    changed[place] ^= 1
    with pytest.raises(SealBroken) as raised:
        unseal(replace(sealed, ciphertext=bytes(changed)), MASTER, **ROW)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "moved",
    [{"row_id": "row-2", "provider": "groq"}, {"row_id": "row-1", "provider": "evil"}],
)
def test_a_key_does_not_open_in_another_row(moved: dict[str, str]) -> None:
    with pytest.raises(SealBroken):
        unseal(seal(SecretStr(KEY), MASTER, **ROW), MASTER, **moved)


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": OTHER.version},
        {"nonce": b"0" * 12},
        {"nonce": b""},
        {"ciphertext": b""},
        {"ciphertext": b"short"},
    ],
)
def test_what_is_no_sealed_key_is_refused(wrong: dict[str, object]) -> None:
    sealed: Sealed = replace(seal(SecretStr(KEY), MASTER, **ROW), **wrong)  # type: ignore[arg-type]
    with pytest.raises(SealBroken):
        unseal(sealed, MASTER, **ROW)
