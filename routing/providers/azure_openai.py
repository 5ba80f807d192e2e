"""Azure OpenAI: OpenAI's chat completions under the names of the operator's deployments.

There are two surfaces: the dated versions, with an address for each deployment, and `/openai/v1`, which has
no version and takes the deployment's name as the model. `api_version` chooses: a date, or `v1` (or
`preview`, of `v1`). Source: Microsoft's documentation, "Azure OpenAI API version lifecycle", read 2026-11.
"""

from __future__ import annotations

from urllib.parse import quote

from routing.config import ModelCard, ProviderSpec
from routing.errors import RequestRejected
from routing.providers.credentials import Credentials
from routing.providers.openai_compatible import OpenAIChat

API_VERSION = "2024-10-21"
"""The newest of the dated versions that is not a preview."""
_UNDATED = frozenset({"v1", "preview", "latest"})


class AzureOpenAI(OpenAIChat):
    """Implements `WireFormat`. The models' ids are the names of the operator's deployments."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        base = spec.base_url.rstrip("/")
        if base.endswith("/openai/v1") or spec.api_version in _UNDATED:
            preview = "" if spec.api_version in (None, "v1") else "?api-version=preview"
            return f"{_root(base)}/openai/v1/chat/completions{preview}"
        deployment = quote(card.id, safe="")
        if not deployment.strip("."):
            raise RequestRejected(spec.name, f"{card.id!r} cannot be the name of a deployment")
        version = quote(spec.api_version or API_VERSION, safe="")
        return f"{_root(base)}/openai/deployments/{deployment}/chat/completions?api-version={version}"

    def models_url(self, spec: ProviderSpec) -> str:
        raise RequestRejected(
            spec.name, f"{spec.name} does not list deployments; name yours under providers.{spec.name}.models"
        )

    def credentials(self, spec: ProviderSpec, key: str) -> dict[str, str] | Credentials:
        return {"api-key": key}


def _root(base: str) -> str:
    return base.removesuffix("/v1").removesuffix("/openai")
