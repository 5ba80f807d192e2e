"""The adapter for every provider that speaks OpenAI's chat completions over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import httpx
import orjson

from routing.answers import as_chunks, checked, choices_of, decode, has_content, refuse_bad_ending
from routing.config import ModelCard, ProviderSpec
from routing.errors import ProviderUnavailable, RequestRejected
from routing.event_stream import EventLines
from routing.faults import from_error_object, from_status
from routing.transport import Patience, faults_of, pieces, was_hung_up
from routing.types import ChatChunk

_SILENCE_SECONDS = 30.0
"""Longest wait between two pieces of content."""
_LOCAL_FIRST_SECONDS = 120.0
"""Longest wait for the first content of a server on this machine, which may have to load the model."""
_TAIL_SECONDS = 5.0
"""Longest wait for the usage once the answer itself is finished."""
_LOOKUP_SECONDS = 10.0
_MAX_ERROR_BYTES = 64 << 10
_WINDOW_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")
_NOT_CHAT = re.compile(r"(?i)embed|rerank|whisper|moderation|\btts\b|dall-e|(?:^|[/_-])bge-")


class OpenAICompatibleProvider:
    """One account at one provider. Implements `Provider`; owns the client it is given."""

    def __init__(self, spec: ProviderSpec, client: httpx.AsyncClient) -> None:
        self._spec, self._client = spec, client
        self._base = spec.base_url.rstrip("/")
        self._headers = {**spec.headers, "Content-Type": "application/json"}
        self._secrets = tuple(value for name, value in spec.headers.items() if _is_secret(name))
        if spec.api_key is not None:
            key = spec.api_key.get_secret_value()
            self._headers["Authorization"] = f"Bearer {key}"
            self._secrets += (key,)

    @property
    def spec(self) -> ProviderSpec:
        return self._spec

    async def complete(self, card: ModelCard, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """A checked OpenAI chat completion object. Raises ProviderError."""
        patience = Patience(deadline, self._first_wait(deadline, whole=True))
        with faults_of(self._spec.name):
            async with self._post(card, body, patience, stream=False) as response:
                return await self._read_whole(response, patience)

    async def stream(
        self, card: ModelCard, body: Mapping[str, Any], deadline: float
    ) -> AsyncIterator[ChatChunk]:
        """The chunks of a streamed answer, and its usage if the provider tells it. Raises ProviderError."""
        patience = Patience(deadline, self._first_wait(deadline, whole=False))
        with faults_of(self._spec.name):
            async with self._post(card, body, patience, stream=True) as response:
                if "json" in response.headers.get("content-type", ""):
                    # Some providers answer whole although a stream was asked for.
                    for chunk in as_chunks(await self._read_whole(response, patience)):
                        yield chunk
                    return
                async with contextlib.aclosing(self._read_events(response, patience)) as chunks:
                    async for chunk in chunks:
                        yield chunk

    async def list_models(self) -> list[ModelCard]:
        """The chat models that the provider offers now. Raises ProviderError."""
        patience = Patience(asyncio.get_running_loop().time() + _LOOKUP_SECONDS, _LOOKUP_SECONDS)
        request = self._client.build_request("GET", f"{self._base}/models", headers=self._headers)
        with faults_of(self._spec.name):
            async with self._send(request, patience) as response:
                answer = orjson.loads(b"".join([piece async for piece in pieces(response, patience)]))
        listed = answer.get("data") if isinstance(answer, dict) else answer
        if not isinstance(listed, list):
            raise ProviderUnavailable(self._spec.name, f"{self._spec.name} sent no list of models")
        return [card for entry in listed if (card := _card(entry)) is not None]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _first_wait(self, deadline: float, *, whole: bool) -> float:
        """Seconds until the first content must be there.

        A whole answer only comes when its last word is written: it gets half of the time, so that
        another candidate can still be asked.
        """
        first = _LOCAL_FIRST_SECONDS if self._spec.is_local else _SILENCE_SECONDS
        half = (deadline - asyncio.get_running_loop().time()) / 2
        return max(first, half) if whole else first

    def _post(
        self, card: ModelCard, body: Mapping[str, Any], patience: Patience, *, stream: bool
    ) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        content = {key: value for key, value in body.items() if key not in self._spec.unsupported}
        content["model"] = card.id
        content.pop("stream_options", None)
        if stream:
            content["stream"] = True
            if self._spec.stream_usage:
                content["stream_options"] = {"include_usage": True}
        try:
            encoded = orjson.dumps(content)
        except orjson.JSONEncodeError as error:
            raise RequestRejected(self._spec.name, f"the request cannot be sent as JSON: {error}") from None
        request = self._client.build_request(
            "POST", f"{self._base}/chat/completions", headers=self._headers, content=encoded
        )
        return self._send(request, patience)

    @contextlib.asynccontextmanager
    async def _send(self, request: httpx.Request, patience: Patience) -> AsyncIterator[httpx.Response]:
        """The response, its body not yet read. Raises ProviderError unless its status is 2xx."""
        try:
            response = await patience.wait(self._client.send(request, stream=True))
        except httpx.HTTPError as error:
            if not was_hung_up(error):
                raise
            response = await patience.wait(self._client.send(request, stream=True))
        try:
            if not response.is_success:
                raise from_status(
                    self._spec.name,
                    response.status_code,
                    response.headers,
                    await self._error_body(response, patience),
                    self._secrets,
                )
            yield response
        finally:
            await response.aclose()

    async def _error_body(self, response: httpx.Response, patience: Patience) -> Any:
        """Its JSON or text as far as it can be had; what matters, the status, is known already."""
        text = b""
        with contextlib.suppress(httpx.HTTPError, ValueError, OSError):
            async for piece in pieces(response, patience):
                text += piece
                if len(text) > _MAX_ERROR_BYTES:
                    break
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text.decode("utf-8", "replace")

    async def _read_whole(self, response: httpx.Response, patience: Patience) -> dict[str, Any]:
        text = bytearray()
        async for piece in pieces(response, patience):
            text += piece
            if not piece.isspace():  # blanks keep a connection open, they are no answer
                patience.renew(_SILENCE_SECONDS)
        answer = decode(bytes(text))
        if answer is None:
            raise ProviderUnavailable(self._spec.name, f"{self._spec.name} sent no JSON object")
        if answer.data.get("error"):
            raise from_error_object(self._spec.name, answer.data["error"], self._secrets)
        return checked(self._spec.name, answer.data)

    async def _read_events(
        self, response: httpx.Response, patience: Patience
    ) -> AsyncGenerator[ChatChunk, None]:
        name = self._spec.name
        said = False
        finish: str | None = None
        try:
            async with contextlib.aclosing(_payloads(response, patience)) as payloads:
                async for kind, payload in payloads:
                    if payload == b"[DONE]":
                        break
                    if (chunk := decode(payload)) is None:
                        continue
                    if kind == "error" or chunk.data.get("error"):
                        raise from_error_object(name, chunk.data.get("error") or chunk.data, self._secrets)
                    for choice in choices_of(chunk.data):
                        said = said or has_content(choice.get("delta") or {})
                        finish = choice.get("finish_reason") or finish
                    patience.renew(_SILENCE_SECONDS if finish is None else _TAIL_SECONDS)
                    yield chunk
        except (TimeoutError, httpx.HTTPError, OSError):
            if finish is None:  # else only the usage is missing
                raise
        refuse_bad_ending(name, finish, said=said)


async def _payloads(response: httpx.Response, patience: Patience) -> AsyncGenerator[tuple[str, bytes], None]:
    """The `event:` and `data:` of each event."""
    lines = EventLines()
    async with contextlib.aclosing(pieces(response, patience)) as arriving:
        async for piece in arriving:
            for payload in lines.feed(piece):
                yield lines.event, payload
    for payload in lines.finish():
        yield lines.event, payload


def _is_secret(header: str) -> bool:
    return bool(re.search(r"(?i)key|token|auth|secret|cookie", header))


def _card(entry: Any) -> ModelCard | None:
    """A listed model, with what the makers of servers add to the id; None unless it can chat."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        return None
    if _NOT_CHAT.search(entry["id"]) or entry.get("type") in ("embedding", "embeddings", "image", "rerank"):
        return None
    meta = entry.get("meta") if isinstance(entry.get("meta"), dict) else {}
    windows = [entry.get(key) for key in _WINDOW_KEYS] + [(meta or {}).get("n_ctx")]
    parameters = entry.get("supported_parameters")
    return ModelCard(
        id=entry["id"],
        context_window=next((each for each in windows if type(each) is int and each > 0), None),
        tools="tools" in parameters if isinstance(parameters, list) else None,
    )
