"""OpenAI's chat completions: the format that most providers speak, and that everything else is put into."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from routing.answers import mended
from routing.config import ModelCard, ProviderSpec
from routing.providers.credentials import Credentials
from routing.providers.thinking import openai_effort
from routing.signatures import for_reader
from routing.types import ChatChunk

_WINDOW_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")
_NOT_CHAT = re.compile(r"(?i)embed|rerank|whisper|moderation|\btts\b|dall-e|(?:^|[/_-])bge-")


class OpenAIChat:
    """Implements `WireFormat`: there is nothing to translate, so everything passes as it is."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        return f"{spec.base_url.rstrip('/')}/chat/completions"

    def models_url(self, spec: ProviderSpec) -> str:
        return f"{spec.base_url.rstrip('/')}/models"

    def headers(self, spec: ProviderSpec) -> dict[str, str]:
        return {}

    def credentials(self, spec: ProviderSpec, key: str) -> dict[str, str] | Credentials:
        return {"Authorization": f"Bearer {key}"}

    def request(
        self, spec: ProviderSpec, card: ModelCard, body: Mapping[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        content = {**body, "model": card.id}
        # Only a Gemini is sure to know what to make of a signature whose origin nobody told.
        content["messages"] = for_reader(
            body["messages"], f"{spec.name}/{card.id}", unless_told="gemini" in card.id.lower()
        )
        if "reasoning_effort" in body:
            content["reasoning_effort"] = openai_effort(card, body["reasoning_effort"])
        content.pop("stream_options", None)
        if stream:
            content["stream"] = True
            if spec.stream_usage:
                content["stream_options"] = {"include_usage": True}
        return content

    def error(self, data: dict[str, Any]) -> Any:
        return data.get("error")

    def status(self, status: int, body: Any) -> int:
        return status

    def answer(self, provider: str, card: ModelCard, data: dict[str, Any]) -> dict[str, Any]:
        return data

    def reader(self, provider: str, card: ModelCard) -> OpenAIReader:
        return OpenAIReader()

    def cards(self, listing: Any) -> list[ModelCard] | None:
        listed = listing.get("data") if isinstance(listing, dict) else listing
        if not isinstance(listed, list):
            return None
        return [card for entry in listed if (card := _card(entry)) is not None]


class OpenAIReader:
    """Implements `EventReader`. Chunks pass in the provider's own bytes, unless clients would stumble."""

    thinking = ended = False

    def read(self, event: ChatChunk) -> Sequence[ChatChunk] | None:
        if event.data.get("choices") is None:
            return _usage_alone(event.data)
        data = mended(event.data, "delta")
        return (event if data is event.data else ChatChunk(orjson.dumps(data), data),)


def _usage_alone(data: dict[str, Any]) -> Sequence[ChatChunk] | None:
    """The usage of what is no chunk, as one; None if it has none and is no part of the answer at all."""
    usage = data.get("usage")
    if not usage or not isinstance(usage, dict):
        return None
    frame: dict[str, Any] = {
        name: data[name] for name in ("id", "object", "created", "model") if name in data
    }
    told = {**frame, "choices": [], "usage": usage}
    return (ChatChunk(orjson.dumps(told), told),)


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
