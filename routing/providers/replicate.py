"""Replicate's predictions: a prompt in, a text out, no calls and no turns.

A prediction that is not done when its creation is answered is looked at again until it is. There is no common
schema of what a model takes, so nothing is sent that was not asked for. Source: Replicate's HTTP API
reference and "Create a prediction", read 2026-11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from routing.config import ModelCard, ProviderSpec
from routing.errors import RequestRejected
from routing.providers.completion import completion, usage_of
from routing.providers.conversation import ModelTurn, UserTurn, read_conversation, text_of, token_limit
from routing.providers.credentials import Credentials
from routing.providers.http_provider import HttpProvider
from routing.providers.openai_compatible import OpenAIReader
from routing.transport import Patience

_POLL_SECONDS = 0.5
_UNFINISHED = frozenset({"starting", "processing", "queued"})
_BROKEN = frozenset({"failed", "canceled", "aborted"})


class Replicate:
    """Implements `WireFormat`. Streams are not asked for: whole answers are passed on as one."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        owner, _, name = card.id.partition("/")
        if ":" in name:
            return f"{_base(spec)}/predictions"
        if not owner.strip(".") or not name.strip("."):
            raise RequestRejected(spec.name, f"{card.id!r} is no model of {spec.name}: those are owner/name")
        return f"{_base(spec)}/models/{quote(owner, safe='')}/{quote(name, safe='')}/predictions"

    def models_url(self, spec: ProviderSpec) -> str:
        raise RequestRejected(
            spec.name,
            f"{spec.name} does not list its chat models; name yours under providers.{spec.name}.models",
        )

    def headers(self, spec: ProviderSpec) -> dict[str, str]:
        """Wait for the answer as long as the service lets us, and stop when nobody can want it any more."""
        return {"Prefer": "wait", "Cancel-After": "5m"}

    def credentials(self, spec: ProviderSpec, key: str) -> dict[str, str] | Credentials:
        return {"Authorization": f"Bearer {key}"}

    def request(
        self, spec: ProviderSpec, card: ModelCard, body: Mapping[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        conversation = read_conversation(body["messages"], spec.name)
        given = {
            "prompt": _prompt(conversation.turns),
            "system_prompt": conversation.system or None,
            "max_tokens": token_limit(body),
            "temperature": body.get("temperature"),
            "top_p": body.get("top_p"),
        }
        content: dict[str, Any] = {
            "input": {name: value for name, value in given.items() if value is not None}
        }
        _, _, version = card.id.partition(":")
        return {**content, "version": version} if version else content

    def error(self, data: dict[str, Any]) -> Any:
        if data.get("status") in _BROKEN:
            return {"message": data.get("error") or f"the prediction was {data['status']}"}
        return data.get("detail") if "status" not in data else None

    def status(self, status: int, body: Any) -> int:
        return status

    def answer(self, provider: str, card: ModelCard, data: dict[str, Any]) -> dict[str, Any]:
        output, metrics = data["output"], data.get("metrics") or {}
        text = output if isinstance(output, str) else "".join(_list(output))
        counts = [metrics.get(name) for name in ("input_token_count", "output_token_count")]
        return completion(
            answer_id=data.get("id"),
            model=card.id,
            text=text,
            calls=[],
            finish="stop",
            usage=usage_of(*counts) if None not in counts else None,
        )

    def reader(self, provider: str, card: ModelCard) -> OpenAIReader:
        return OpenAIReader()

    def cards(self, listing: Any) -> list[ModelCard] | None:
        return None


class ReplicateProvider(HttpProvider):
    """One account at Replicate."""

    def __init__(self, spec: ProviderSpec, client: httpx.AsyncClient) -> None:
        super().__init__(spec, client, Replicate())

    async def _whole_data(self, response: httpx.Response, patience: Patience) -> dict[str, Any]:
        """The prediction when it is done, looked at until then."""
        data = await super()._whole_data(response, patience)
        while data.get("status") in _UNFINISHED:
            await patience.wait(asyncio.sleep(_POLL_SECONDS))
            # Made of the id, not taken from the answer: the key goes with it.
            url = f"{_base(self._spec)}/predictions/{quote(str(data.get('id')), safe='')}"
            async with self._send(self._request("GET", url), patience) as again:
                data = await super()._whole_data(again, patience)
        return data


def _list(output: Any) -> list[str]:
    if not isinstance(output, list | None):
        raise TypeError(f"an output is of type {type(output).__name__}")
    return output or []


def _base(spec: ProviderSpec) -> str:
    return spec.base_url.rstrip("/")


def _prompt(turns: list[UserTurn | ModelTurn]) -> str:
    """The user's words alone if there is nothing else, or all turns with who said them."""
    said = [("User", text_of(t.parts)) if isinstance(t, UserTurn) else ("Assistant", t.text) for t in turns]
    if len(said) == 1:
        return said[0][1]
    return "\n\n".join([*(f"{who}: {text}" for who, text in said if text), "Assistant:"])
