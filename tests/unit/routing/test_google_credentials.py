"""Access tokens for Google Cloud, from a token service on a real socket that checks what it is shown."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import SecretStr

from routing.config import ModelCard
from routing.errors import KeyRefused, ProviderUnavailable
from routing.providers.formats import http_provider
from routing.providers.google_credentials import CLAIM_SECONDS, SCOPE, SPARE_SECONDS, GoogleCredentials
from routing.transport import Patience, faults_of, open_client
from tests.dialects import VERTEX
from tests.wire_upstream import WireUpstream

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


def service_account(token_uri: str) -> dict[str, Any]:
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "k1",
        "private_key": PEM,
        "client_email": "me@my-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }


class Tokens:
    """The token service."""

    def __init__(self) -> None:
        self.forms: list[dict[str, str]] = []
        self.answer: Callable[[], web.Response] = self.good

    def good(self) -> web.Response:
        return web.json_response({"access_token": f"ya29.{len(self.forms)}", "expires_in": 3599})

    async def serve(self, request: web.Request) -> web.Response:
        form = parse_qs(await request.text())
        self.forms.append({name: values[0] for name, values in form.items()})
        return self.answer()


def ask(work: Callable[[Tokens, str, httpx.AsyncClient], Any]) -> None:
    async def scenario() -> None:
        tokens = Tokens()
        app = web.Application()
        app.router.add_post("/token", tokens.serve)
        async with TestServer(app) as server, open_client() as client:
            await work(tokens, str(server.make_url("/token")), client)

    asyncio.run(scenario())


async def headers(credentials: GoogleCredentials, client: httpx.AsyncClient) -> dict[str, str]:
    with faults_of("vertex_ai"), closing(Patience(asyncio.get_running_loop().time() + 5, 5)) as patience:
        return await credentials.headers(client, patience)


def decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_service_account_shows_a_claim_that_it_signed() -> None:
    async def work(tokens: Tokens, uri: str, client: httpx.AsyncClient) -> None:
        account = service_account(uri)
        credentials = GoogleCredentials("vertex_ai", json.dumps(account), clock=lambda: 1_800_000_000.5)
        assert credentials.project == "my-project"
        assert await headers(credentials, client) == {"Authorization": "Bearer ya29.1"}
        (form,) = tokens.forms
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        head, claim, signature = form["assertion"].split(".")
        assert decoded(head) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
        assert decoded(claim) == {
            "iss": account["client_email"],
            "scope": SCOPE,
            "aud": uri,
            "iat": 1_800_000_000,
            "exp": 1_800_000_000 + CLAIM_SECONDS,
        }
        proof = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        public = KEY.public_key()
        public.verify(proof, f"{head}.{claim}".encode(), padding.PKCS1v15(), hashes.SHA256())
        with pytest.raises(InvalidSignature):
            public.verify(proof, f"{head}.{claim}x".encode(), padding.PKCS1v15(), hashes.SHA256())
        assert {PEM, "ya29.1"} <= set(credentials.secrets)

    ask(work)


def test_a_token_is_kept_and_renewed_before_its_end_once_for_all() -> None:
    async def work(tokens: Tokens, uri: str, client: httpx.AsyncClient) -> None:
        now = 0.0
        credentials = GoogleCredentials("v", json.dumps(service_account(uri)), clock=lambda: now)
        found = await asyncio.gather(*(headers(credentials, client) for _ in range(8)))
        assert {each["Authorization"] for each in found} == {"Bearer ya29.1"}
        now = 3599 - SPARE_SECONDS - 1
        assert (await headers(credentials, client))["Authorization"] == "Bearer ya29.1"
        now += 1
        found = await asyncio.gather(*(headers(credentials, client) for _ in range(8)))
        assert {each["Authorization"] for each in found} == {"Bearer ya29.2"}
        assert len(tokens.forms) == 2

    ask(work)


def test_the_login_of_a_developer_is_refreshed(tmp_path: Path) -> None:
    async def work(tokens: Tokens, uri: str, client: httpx.AsyncClient) -> None:
        login = {"client_id": "i", "client_secret": "s", "refresh_token": "r"}
        file = tmp_path / "application_default_credentials.json"
        file.write_text(
            json.dumps({"type": "authorized_user", "quota_project_id": "q", "token_uri": uri, **login})
        )
        credentials = GoogleCredentials("v", str(file))
        assert credentials.project == "q"
        assert await headers(credentials, client) == {"Authorization": "Bearer ya29.1"}
        assert tokens.forms == [{"grant_type": "refresh_token", **login}]

    ask(work)


def test_keys_and_tokens_go_as_they_are() -> None:
    async def work(tokens: Tokens, uri: str, client: httpx.AsyncClient) -> None:
        assert await headers(GoogleCredentials("v", "AQ.key"), client) == {"x-goog-api-key": "AQ.key"}
        token = {"Authorization": "Bearer ya29.given"}
        assert await headers(GoogleCredentials("v", " ya29.given\n"), client) == token
        assert not tokens.forms

    ask(work)


def test_what_the_token_service_refuses_is_our_keys_fault() -> None:
    async def work(tokens: Tokens, uri: str, client: httpx.AsyncClient) -> None:
        tokens.answer = lambda: web.json_response(
            {"error": "invalid_grant", "error_description": f"Invalid JWT Signature. {PEM}"}, status=400
        )
        with pytest.raises(KeyRefused, match="Invalid JWT Signature") as raised:
            await headers(GoogleCredentials("v", json.dumps(service_account(uri))), client)
        assert raised.value.status == 401 and "PRIVATE KEY" not in str(raised.value)

    ask(work)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=503, text="<html>busy</html>"),
        web.Response(text="<html>hello</html>"),
        web.Response(text='{"access_token": 5, "expires_in": "x"}'),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
    ],
    ids=["down", "html", "nonsense", "redirect"],
)
def test_a_token_service_that_is_down_is_no_fault_of_the_key(answer: web.Response) -> None:
    async def work(tokens: Tokens, uri: str, client: httpx.AsyncClient) -> None:
        tokens.answer = lambda: answer
        with pytest.raises(ProviderUnavailable):
            await headers(GoogleCredentials("v", json.dumps(service_account(uri))), client)

    ask(work)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/nowhere/at/all.json", "cannot be read"),
        ('{"type": "external_account"}', "of a sort that is not known"),
        ('{"type": "service_account"}', "damaged or incomplete"),
        (json.dumps(service_account("x") | {"token_uri": "http://evil.example/token"}), "must be https"),
        (json.dumps(service_account("https://e.com") | {"private_key": "none"}), "damaged or incomplete"),
    ],
)
def test_credentials_that_are_none_say_so(text: str, words: str) -> None:
    async def work(tokens: Tokens, uri: str, client: httpx.AsyncClient) -> None:
        with pytest.raises(KeyRefused, match=words) as raised:
            await headers(GoogleCredentials("vertex_ai", text), client)
        assert "PRIVATE" not in str(raised.value)

    ask(work)


def test_a_provider_gets_its_tokens_by_itself() -> None:
    """Two answers, one token; the claim goes to the token service alone."""

    async def work(tokens: Tokens, uri: str, client: httpx.AsyncClient) -> None:
        with WireUpstream([VERTEX.says("one"), VERTEX.says("two")], judge=VERTEX.judge) as upstream:
            key = SecretStr(json.dumps(service_account(uri)))
            spec = VERTEX.spec(upstream, api_key=key, base_url=f"{upstream.origin}/v1")
            provider = http_provider(spec, open_client())
            body = {"messages": [{"role": "user", "content": "hi"}]}
            deadline = asyncio.get_running_loop().time() + 5
            for _ in range(2):
                await provider.complete(ModelCard(id="m"), body, deadline)
            await provider.aclose()
        sent = {request.headers["authorization"] for request in upstream.requests}
        assert sent == {"Bearer ya29.1"} and len(tokens.forms) == 1
        place = "/v1/projects/my-project/locations/global/publishers/google/models/m:generateContent"
        assert upstream.paths == [place] * 2

    ask(work)
