from __future__ import annotations

import pytest

from routing.config import ModelCard, ProviderSpec
from routing.errors import RequestRejected
from routing.providers.azure_openai import AzureOpenAI

WIRE = AzureOpenAI()
SPEC = ProviderSpec(name="azure", protocol="azure-openai", base_url="https://mine.openai.azure.com")


@pytest.mark.parametrize("base", ["", "/", "/openai", "/openai/"])
def test_the_address_names_deployment_and_version(base: str) -> None:
    spec = SPEC.model_copy(update={"base_url": SPEC.base_url + base, "api_version": "2025-04-01-preview"})
    assert WIRE.url(spec, ModelCard(id="my gpt"), stream=True) == (
        "https://mine.openai.azure.com/openai/deployments/my%20gpt/chat/completions"
        "?api-version=2025-04-01-preview"
    )


def test_deployments_are_no_way_to_other_addresses() -> None:
    url = WIRE.url(SPEC, ModelCard(id="../../files?x=#"), stream=False)
    assert "/deployments/..%2F..%2Ffiles%3Fx%3D%23/chat/completions?" in url
    with pytest.raises(RequestRejected, match="deployment"):
        WIRE.url(SPEC, ModelCard(id=".."), stream=False)


@pytest.mark.parametrize(
    ("base", "version", "query"),
    [
        ("/openai/v1", None, ""),
        ("/openai/v1/", "v1", ""),
        ("", "v1", ""),
        ("/openai", "preview", "?api-version=preview"),
    ],
)
def test_the_surface_without_versions_takes_the_deployment_as_the_model(
    base: str, version: str | None, query: str
) -> None:
    spec = SPEC.model_copy(update={"base_url": SPEC.base_url + base, "api_version": version})
    card = ModelCard(id="my gpt")
    assert WIRE.url(spec, card, stream=False) == f"{SPEC.base_url}/openai/v1/chat/completions{query}"
    assert WIRE.request(spec, card, {"messages": []}, stream=False)["model"] == "my gpt"


def test_everything_that_openai_takes_is_taken() -> None:
    assert SPEC.unsupported == frozenset()
