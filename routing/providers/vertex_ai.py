"""Google's Vertex AI: Gemini's API at an address for each project and location.

The address may name both (`https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4`).
If it does not, the credentials name the project and the location is `global`; with an API key there is no
project ("express mode"). Source: Google Cloud's documentation, "Vertex AI REST API" and "Vertex AI in express
mode", read 2026-11.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from routing.config import ModelCard, ProviderSpec
from routing.errors import KeyRefused, RequestRejected
from routing.providers.credentials import Credentials
from routing.providers.gemini import Gemini
from routing.providers.google_credentials import GoogleCredentials


class VertexAI(Gemini):
    """Implements `WireFormat`. Knows Google's own models; those of other makers have other formats there."""

    def url(self, spec: ProviderSpec, card: ModelCard, *, stream: bool) -> str:
        model = quote(card.id.removeprefix("google/").removeprefix("models/"), safe="")
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"{_place(spec)}/publishers/google/models/{model}:{method}"

    def models_url(self, spec: ProviderSpec) -> str:
        raise RequestRejected(
            spec.name, f"{spec.name} does not list its models; name yours under providers.{spec.name}.models"
        )

    def credentials(self, spec: ProviderSpec, key: str) -> dict[str, str] | Credentials:
        return _credentials(spec, key)


def _credentials(spec: ProviderSpec, key: str) -> GoogleCredentials:
    """A file of this machine is read for Google alone: a record from elsewhere may name any address."""
    host = urlsplit(spec.base_url).hostname or ""
    return GoogleCredentials(spec.name, key, paths=host.endswith(".googleapis.com"))


def _place(spec: ProviderSpec) -> str:
    """The address with project and location. Raises KeyRefused when there is no telling the project."""
    # The location `global` has the host without a location, unlike all others.
    base = spec.base_url.rstrip("/").replace("://global-aiplatform.", "://aiplatform.")
    if "/projects/" in base:
        return base.removesuffix("/publishers/google")
    known = _credentials(spec, spec.api_key.get_secret_value() if spec.api_key else "")
    if known.kind == "api_key":
        return base
    if known.project is None:
        raise KeyRefused(
            spec.name,
            f"{spec.name}: the credentials name no project; set GOOGLE_CLOUD_PROJECT, or end base_url in "
            "/projects/YOUR_PROJECT/locations/global",
        )
    return f"{base}/projects/{quote(known.project, safe='')}/locations/global"
