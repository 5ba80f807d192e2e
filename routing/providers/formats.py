"""The format for each protocol that a row may name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import httpx

from routing.config import Protocol, ProviderSpec
from routing.providers.anthropic_messages import AnthropicMessages
from routing.providers.azure_openai import AzureOpenAI
from routing.providers.cohere_chat import CohereChat
from routing.providers.gemini import Gemini
from routing.providers.http_provider import HttpProvider
from routing.providers.openai_compatible import OpenAIChat
from routing.providers.replicate import Replicate, ReplicateProvider
from routing.providers.vertex_ai import VertexAI
from routing.providers.wire_format import WireFormat

FORMATS: Mapping[Protocol, type[WireFormat]] = MappingProxyType(
    {
        "openai-chat": OpenAIChat,
        "anthropic-messages": AnthropicMessages,
        "azure-openai": AzureOpenAI,
        "cohere-chat": CohereChat,
        "gemini": Gemini,
        "vertex-ai": VertexAI,
        "replicate": Replicate,
    }
)


def http_provider(spec: ProviderSpec, client: httpx.AsyncClient) -> HttpProvider:
    """The provider of this row, in the format it names. It owns the client."""
    if spec.protocol == "replicate":
        return ReplicateProvider(spec, client)
    return HttpProvider(spec, client, FORMATS[spec.protocol]())
