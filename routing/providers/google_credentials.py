"""Google Cloud's credentials in the forms that people have them, and the access tokens they are good for.

The text is a credentials file (a service account's, or that of `gcloud auth application-default login`), by
its path or its content; an access token; or an API key. Tokens are had as in RFC 7523 (a signed claim) and
RFC 6749 section 6 (a refresh token), from the address that the file names.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import httpx
import orjson

from routing.errors import KeyRefused
from routing.faults import from_status
from routing.transport import Patience, pieces

TOKEN_URI = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
CLAIM_SECONDS = 3600
"""How long a claim is good; the longest that Google allows."""
SPARE_SECONDS = 240.0
"""A token is renewed so long before its end, so that it does not end on the way."""
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_PREFIX = "ya29."
_PATHS = ("/", "~/", "./")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

Kind = Literal["service_account", "authorized_user", "access_token", "api_key"]


class GoogleCredentials:
    """Implements `Credentials`."""

    def __init__(
        self, provider: str, text: str, *, paths: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        """`paths`: whether the text may name a file of this machine."""
        self._provider, self._paths, self._clock = provider, paths, clock
        self._text = text.strip()
        self._token, self._good_until = "", 0.0
        self._renewing = asyncio.Lock()

    @property
    def _file(self) -> Mapping[str, Any] | None:
        """The content of the credentials file; None if these are no file. Raises KeyRefused."""
        is_path = self._text.startswith(_PATHS)
        if is_path and not self._paths:
            raise KeyRefused(
                self._provider,
                f"{self._provider}: a credentials file may be named by its path for Google's own addresses "
                "only; give its content instead",
            )
        try:
            return _read(self._text) if is_path else _object(self._text)
        except (OSError, ValueError) as error:
            reason = f"the credentials file {self._text[:200]} cannot be read ({type(error).__name__})"
            raise KeyRefused(self._provider, f"{self._provider}: {reason}") from None

    @property
    def kind(self) -> Kind:
        """What sort of credentials these are. Raises KeyRefused for a file of another sort, or none."""
        file = self._file
        if file is None:
            return "access_token" if self._text.startswith(_TOKEN_PREFIX) else "api_key"
        match file.get("type"):
            case "service_account":
                return "service_account"
            case "authorized_user":
                return "authorized_user"
        raise KeyRefused(
            self._provider,
            f"{self._provider}: the credentials file is of a sort that is not known here; use that of a "
            "service account, or that of `gcloud auth application-default login`",
        )

    @property
    def project(self) -> str | None:
        """The project that the file names."""
        named = (self._file or {}).get("project_id") or (self._file or {}).get("quota_project_id")
        return named if isinstance(named, str) and named else None

    @property
    def secrets(self) -> tuple[str, ...]:
        try:
            file = self._file or {}
        except KeyRefused:
            file = {}
        parts = (file.get(name) for name in ("private_key", "refresh_token", "client_secret"))
        return tuple(each for each in (self._text, self._token, *parts) if isinstance(each, str) and each)

    async def headers(self, client: httpx.AsyncClient, patience: Patience) -> dict[str, str]:
        kind = self.kind
        if kind == "api_key":
            return {"x-goog-api-key": self._text}
        token = self._text if kind == "access_token" else await self._fresh(client, patience)
        return {"Authorization": f"Bearer {token}"}

    async def _fresh(self, client: httpx.AsyncClient, patience: Patience) -> str:
        if self._clock() >= self._good_until - SPARE_SECONDS:
            await patience.wait(self._renewing.acquire())
            try:
                if self._clock() >= self._good_until - SPARE_SECONDS:
                    await self._renew(client, patience)
            finally:
                self._renewing.release()
        return self._token

    async def _renew(self, client: httpx.AsyncClient, patience: Patience) -> None:
        asked_at = self._clock()
        request = client.build_request(
            "POST",
            self._address(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            content=urlencode(self._grant(asked_at)).encode(),
        )
        response = await patience.wait(client.send(request, stream=True))
        try:
            body = _object(b"".join([piece async for piece in pieces(response, patience)])) or {}
        finally:
            await response.aclose()
        if response.status_code in (400, 401):  # what the service says of wrong credentials (RFC 6749, 5.2)
            said = body.get("error_description") or body.get("error") or "no reason given"
            raise from_status(self._provider, 401, response.headers, {"error": str(said)}, self.secrets)
        if not response.is_success:
            raise from_status(self._provider, response.status_code, response.headers, body, self.secrets)
        token, seconds = body.get("access_token"), body.get("expires_in")
        if not isinstance(token, str) or not token or type(seconds) is not int:
            raise ValueError("its token service gave no token")
        self._token, self._good_until = token, asked_at + seconds

    def _address(self) -> str:
        """Where tokens are had. Raises KeyRefused for an address where the claim could be overheard."""
        address = (self._file or {}).get("token_uri") or TOKEN_URI
        parts = urlsplit(address) if isinstance(address, str) else urlsplit("")
        if parts.scheme != "https" and parts.hostname not in _LOCAL:
            raise KeyRefused(self._provider, f"{self._provider}: the credentials' token_uri must be https")
        return str(address)

    def _grant(self, now: float) -> dict[str, str]:
        file = self._file or {}
        try:
            if self.kind == "service_account":
                return {"grant_type": _GRANT, "assertion": signed_claim(file, self._address(), int(now))}
            names = ("client_id", "client_secret", "refresh_token")
            return {"grant_type": "refresh_token", **{name: file[name] for name in names}}
        except (KeyError, ValueError, TypeError) as error:
            reason = f"the credentials file is damaged or incomplete ({type(error).__name__})"
            raise KeyRefused(self._provider, f"{self._provider}: {reason}") from None


def signed_claim(file: Mapping[str, Any], audience: str, now: int) -> str:
    """The JSON web token (RS256) that a service account shows for an access token.

    Raises KeyError, ValueError or TypeError when its file does not hold what is needed.
    """
    # Imported late: it takes long, and hardly anybody needs it.
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = serialization.load_pem_private_key(file["private_key"].encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the private key is not of RSA")
    header = {"alg": "RS256", "typ": "JWT", "kid": file.get("private_key_id")}
    claim = {
        "iss": file["client_email"],
        "scope": SCOPE,
        "aud": audience,
        "iat": now,
        "exp": now + CLAIM_SECONDS,
    }
    text = b".".join(_encoded(orjson.dumps(part)) for part in (header, claim))
    return (text + b"." + _encoded(key.sign(text, padding.PKCS1v15(), hashes.SHA256()))).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@functools.lru_cache(maxsize=64)
def _read(path: str) -> Mapping[str, Any]:
    """The object in that file. Raises OSError or ValueError when there is none."""
    if (found := _object(Path(path).expanduser().read_bytes())) is None:
        raise ValueError("it holds no JSON object")
    return found


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
