"""One account at one provider, over HTTP: time-outs, size limits and faults are the same in any format."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import orjson

from routing.allowance import Heard, allowance_left
from routing.answers import (
    as_chunks,
    checked,
    decode,
    refuse_bad_ending,
    wanted_choices,
    without_secrets,
)
from routing.config import ModelCard, ProviderSpec
from routing.errors import ProviderError, ProviderUnavailable, RequestRejected
from routing.faults import from_error_object, from_status
from routing.providers import telling
from routing.providers.credentials import Credentials
from routing.providers.wire_format import MALFORMED, WireFormat
from routing.transport import MAX_ANSWER_BYTES, Patience, body_of, faults_of, pieces, too_large, was_hung_up
from routing.types import ChatChunk

_LOCAL_FIRST_SECONDS = 120.0
"""Longest wait for the first content of a server on this machine, which may have to load the model."""
_ERROR_SECONDS = 2.0
"""Longest wait for the words of a refusal, whose status is known already."""
_LOOKUP_SECONDS = 10.0
_MAX_ERROR_BYTES = 64 << 10


class HttpProvider:
    """One account at one provider. Implements `Provider`; owns the client it is given."""

    def __init__(self, spec: ProviderSpec, client: httpx.AsyncClient, wire: WireFormat) -> None:
        self._spec, self._client, self._wire = spec, client, wire
        self._headers = client.headers.copy()
        self._headers.update(wire.headers(spec))
        self._headers.update(spec.headers)
        self._headers["Content-Type"] = "application/json"
        self._extensions = {"timeout": client.timeout.as_dict()}
        self._fixed_secrets = tuple(value for name, value in spec.headers.items() if _is_secret(name))
        self.heard: Heard | None = None
        """Told after each answer that says so what is left of our allowance."""
        self._renewed: Credentials | None = None
        if spec.api_key is not None:
            key = spec.api_key.get_secret_value()
            given = wire.credentials(spec, key)
            if isinstance(given, dict):
                self._headers.update(given)
            else:
                self._renewed = given
            self._fixed_secrets += (key,)

    @property
    def spec(self) -> ProviderSpec:
        return self._spec

    @property
    def _secrets(self) -> tuple[str, ...]:
        """What must not be shown of what a provider says."""
        return self._fixed_secrets + (self._renewed.secrets if self._renewed else ())

    async def complete(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """A checked OpenAI chat completion object. Raises ProviderError."""
        # It comes when its last word is written: how long others are kept waiting is the deadline's to say.
        left = deadline - asyncio.get_running_loop().time()
        with faults_of(self._spec.name), contextlib.closing(Patience(deadline, left)) as patience:
            async with self._post(card, body, patience, stream=False) as response:
                return await self._read_whole(response, card, patience)

    async def stream(
        self, card: ModelCard, body: Mapping[str, Any], deadline: float
    ) -> AsyncIterator[ChatChunk]:
        """The chunks of a streamed answer, and its usage if the provider tells it. Raises ProviderError."""
        name = self._spec.name
        first = _LOCAL_FIRST_SECONDS if self._spec.is_local else telling.SILENCE_SECONDS
        with faults_of(name), contextlib.closing(Patience(deadline, first)) as patience:
            async with self._post(card, body, patience, stream=True) as response:
                if "json" in response.headers.get("content-type", ""):
                    # Some providers answer whole although a stream was asked for.
                    for chunk in as_chunks(await self._read_whole(response, card, patience)):
                        yield chunk
                    return
                reader = self._wire.reader(name, card)
                answer = telling.Telling(
                    reader, wanted_choices(body), self._wire.error, self._fault, self._secrets
                )
                async with contextlib.aclosing(body_of(response)) as arriving:
                    size = 0
                    try:
                        while not answer.pause(patience):
                            with patience:  # not `pieces`: each would pass through one more generator
                                piece = await anext(arriving, None)
                            if piece is None:
                                break
                            size += len(piece)
                            if size > MAX_ANSWER_BYTES:
                                raise too_large()
                            for chunk in answer.hear(piece):
                                yield chunk
                    except (TimeoutError, httpx.HTTPError, OSError):
                        if not answer.is_told:  # else only the usage is missing
                            raise
                for chunk in answer.hear(None):
                    yield chunk
                answer.pause(patience)
                refuse_bad_ending(name, answer.finish, said=answer.said)

    async def list_models(self) -> list[ModelCard]:
        """The chat models that the provider offers now. Raises ProviderError."""
        until = asyncio.get_running_loop().time() + _LOOKUP_SECONDS
        request = self._request("GET", self._wire.models_url(self._spec))
        with faults_of(self._spec.name), contextlib.closing(Patience(until, _LOOKUP_SECONDS)) as patience:
            async with self._send(request, patience) as response:
                answer = orjson.loads(b"".join([piece async for piece in pieces(response, patience)]))
        try:
            cards = self._wire.cards(answer)
        except MALFORMED:
            cards = None
        if cards is None:
            raise ProviderUnavailable(self._spec.name, f"{self._spec.name} sent no list of models")
        return cards

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _post(
        self, card: ModelCard, body: Mapping[str, Any], patience: Patience, *, stream: bool
    ) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        taken = {key: value for key, value in body.items() if key not in self._spec.unsupported}
        try:
            content = self._wire.request(self._spec, card, taken, stream=stream)
            encoded = _as_json(content)
        except (orjson.JSONEncodeError, UnicodeEncodeError) as error:
            raise RequestRejected(self._spec.name, f"the request cannot be sent as JSON: {error}") from None
        except MALFORMED as error:
            reason = f"a message or tool lacks what it needs ({type(error).__name__}: {error})"
            raise RequestRejected(self._spec.name, f"the request is malformed: {reason}") from None
        url = self._wire.url(self._spec, card, stream=stream)
        return self._send(self._request("POST", url, encoded), patience, card.id)

    def _request(self, method: str, url: str, content: bytes | None = None) -> httpx.Request:
        """Built without what the client would do each time: its headers are merged, addresses parsed once.

        `Host` and `Content-Length` are left to aiohttp, which sets them where they are missing.
        """
        stream = httpx.ByteStream(content or b"")
        request = httpx.Request(
            method, _parsed(url), headers=self._headers, stream=stream, extensions=self._extensions
        )
        request.read()  # or the transport would take its content for a stream
        return request

    @contextlib.asynccontextmanager
    async def _send(
        self, request: httpx.Request, patience: Patience, model: str | None = None
    ) -> AsyncIterator[httpx.Response]:
        """The response, its body not yet read. Raises ProviderError unless its status is 2xx."""
        if self._renewed is not None:
            request.headers.update(await self._renewed.headers(self._client, patience))
        try:
            response = await patience.wait(self._client.send(request, stream=True))
        except httpx.HTTPError as error:
            if not was_hung_up(error):
                raise
            response = await patience.wait(self._client.send(request, stream=True))
        try:
            if model and self.heard and (told := allowance_left(response.headers.raw, time.time())):
                self.heard(model, *told)
            if not response.is_success:
                body = await self._error_body(response, patience)
                status = self._wire.status(response.status_code, body)
                raise from_status(self._spec.name, status, response.headers, body, self._secrets)
            yield response
        finally:
            await response.aclose()

    async def _error_body(self, response: httpx.Response, patience: Patience) -> Any:
        """Its JSON or text as far as it can be had soon; what matters, the status, is known already."""
        text = b""
        patience.renew(_ERROR_SECONDS)
        with contextlib.suppress(httpx.HTTPError, ValueError, OSError):
            async for piece in pieces(response, patience):
                text += piece
                if len(text) > _MAX_ERROR_BYTES:
                    break
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text.decode("utf-8", "replace")

    async def _read_whole(
        self, response: httpx.Response, card: ModelCard, patience: Patience
    ) -> dict[str, Any]:
        name = self._spec.name
        data = await self._whole_data(response, patience)
        if error := self._wire.error(data):
            raise self._fault(error)
        try:
            completion = self._wire.answer(name, card, data)
        except MALFORMED as error:
            raise ValueError(f"its answer has not the form it should have ({error})") from None
        return without_secrets(checked(name, completion), self._secrets)

    async def _whole_data(self, response: httpx.Response, patience: Patience) -> dict[str, Any]:
        """The object that the body holds."""
        text = bytearray()
        async for piece in pieces(response, patience):
            text += piece
            if not piece.isspace():  # blanks keep a connection open, they are no answer
                patience.renew(telling.SILENCE_SECONDS)
        answer = decode(bytes(text))
        if answer is None:
            raise ProviderUnavailable(self._spec.name, f"{self._spec.name} sent no JSON object")
        return answer.data

    def _fault(self, error: Any) -> ProviderError:
        return from_error_object(self._spec.name, error, self._secrets)


def _as_json(content: Mapping[str, Any]) -> bytes:
    """Raises TypeError, ValueError or UnicodeEncodeError for what JSON does not know."""
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError:  # integers of more than 64 bits, for example in the arguments of a call
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


@functools.lru_cache(maxsize=512)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


def _is_secret(header: str) -> bool:
    return bool(re.search(r"(?i)key|token|auth|secret|cookie", header))
