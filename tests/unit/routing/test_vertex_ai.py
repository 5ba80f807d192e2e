from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from routing.config import ModelCard, ProviderSpec
from routing.errors import KeyRefused, RequestRejected
from routing.providers.vertex_ai import VertexAI

WIRE = VertexAI()
CARD = ModelCard(id="gemini-3.8-flash")
FILE = json.dumps({"type": "authorized_user", "quota_project_id": "my project"})


def url(base: str, key: str, model: ModelCard = CARD, *, stream: bool = False) -> str:
    spec = ProviderSpec(name="vertex_ai", protocol="vertex-ai", base_url=base, api_key=SecretStr(key))
    return WIRE.url(spec, model, stream=stream)


@pytest.mark.parametrize(
    ("base", "key", "place"),
    [
        ("https://aiplatform.googleapis.com/v1", "AQ.express", ""),
        ("https://aiplatform.googleapis.com/v1", FILE, "/projects/my%20project/locations/global"),
        (
            "https://global-aiplatform.googleapis.com/v1/projects/p/locations/global",
            "ya29.x",
            "/projects/p/locations/global",
        ),
    ],
)
def test_the_address_names_project_and_location(base: str, key: str, place: str) -> None:
    root = "https://aiplatform.googleapis.com/v1"
    end = "/publishers/google/models/gemini-3.8-flash:generateContent"
    assert url(base, key) == f"{root}{place}{end}"


def test_a_region_has_its_own_host() -> None:
    base = "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4"
    assert url(base, FILE, stream=True) == (
        f"{base}/publishers/google/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    )


def test_a_token_alone_tells_no_project() -> None:
    with pytest.raises(KeyRefused, match="GOOGLE_CLOUD_PROJECT"):
        url("https://aiplatform.googleapis.com/v1", "ya29.x")


def test_models_are_no_way_to_other_addresses() -> None:
    assert "/models/..%2F..%2Fx%3Fy%23:generate" in url("https://e.com/v1", "k", ModelCard(id="../../x?y#"))
    with pytest.raises(RequestRejected, match="does not list"):
        WIRE.models_url(ProviderSpec(name="vertex_ai", protocol="vertex-ai", base_url="https://e.com"))


def test_a_file_of_this_machine_is_read_for_google_alone(tmp_path: Path) -> None:
    """Or an imported record with another address could send its token anywhere."""
    file = tmp_path / "credentials.json"
    file.write_text(FILE)
    assert "/projects/my%20project/" in url("https://aiplatform.googleapis.com/v1", str(file))
    for base in (
        "https://evil.example/v1",
        "https://googleapis.com.evil.example/v1",
        "https://xgoogleapis.com",
    ):
        with pytest.raises(KeyRefused, match="Google's own addresses"):
            url(base, str(file))
