"""Keys encrypted for storage: AES-256-GCM, bound to the row they belong to.

A random nonce of 96 bits for each sealing (NIST SP 800-38D, 8.2.2). The associated data are table, row id,
provider and key version, so that a ciphertext copied into another row does not open there.
`cryptography` is imported when there is a key to seal or open: it takes 35 ms.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

import orjson
from pydantic import SecretStr

KEY_BYTES = 32
NONCE_BYTES = 12
_TABLE = "provider_accounts"


class SealBroken(Exception):
    """The ciphertext, its row or its key is not what it was when it was sealed."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A key that keys are encrypted with."""

    secret: bytes = field(repr=False)

    @property
    def version(self) -> str:
        """Tells master keys apart, and nothing about them: 16 hexadecimal digits of a hash."""
        return hashlib.sha256(b"agent-service master key\0" + self.secret).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted key."""

    version: str
    """Of the master key."""
    nonce: bytes
    ciphertext: bytes


def seal(key: SecretStr, master: MasterKey, *, row_id: str, provider: str) -> Sealed:
    """The key encrypted for that row."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(NONCE_BYTES)
    bound = _bound_to(row_id, provider, master.version)
    ciphertext = AESGCM(master.secret).encrypt(nonce, key.get_secret_value().encode(), bound)
    return Sealed(master.version, nonce, ciphertext)


def unseal(sealed: Sealed, master: MasterKey, *, row_id: str, provider: str) -> SecretStr:
    """The key again. Raises SealBroken."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    bound = _bound_to(row_id, provider, sealed.version)
    try:
        return SecretStr(AESGCM(master.secret).decrypt(sealed.nonce, sealed.ciphertext, bound).decode())
    except (InvalidTag, ValueError):
        raise SealBroken(f"the stored key of {provider} was damaged or moved") from None


def _bound_to(row_id: str, provider: str, version: str) -> bytes:
    return orjson.dumps([_TABLE, row_id, provider, version])
