"""Azure OpenAI: OpenAI's chat completions at an address for each deployment, under a dated version."""

from __future__ import annotations

from urllib.parse import quote

from routing.config import ModelCard, ProviderSpec
from routing.errors import RequestRejected
from routing.providers.openai_compatible import OpenAIChat

API_VERSION = "2024-10-21"
"""The newest of the dated versions that is not a preview."""


class AzureOpenAI(OpenAIChat):
    """Implements `WireFormat`. The models' ids are the names of the operator's deployments."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        deployment = quote(card.id, safe="")
        if not deployment.strip("."):
            raise RequestRejected(spec.name, f"{card.id!r} cannot be the name of a deployment")
        version = quote(spec.api_version or API_VERSION, safe="")
        base = spec.base_url.rstrip("/").removesuffix("/openai")
        return f"{base}/openai/deployments/{deployment}/chat/completions?api-version={version}"

    def models_url(self, spec: ProviderSpec) -> str:
        raise RequestRejected(
            spec.name, f"{spec.name} does not list deployments; name yours under providers.{spec.name}.models"
        )

    def credentials(self, key: str) -> dict[str, str]:
        return {"api-key": key}
