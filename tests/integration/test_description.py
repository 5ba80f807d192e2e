"""What the service says of itself: an OpenAPI document that is whole and true, to be read offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_service.events import EVENTS
from tests.service import RunningService, sse
from tests.upstream import ScriptedUpstream, calls

ASK = calls(("ask_human_for_input", {"question": "Which name?", "options": ["Orion"]}, "ask_1"))
WRITE = calls(("write_file", {"filepath": "a.txt", "content": "x\n"}, "write_1"), text="I write.")


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningService, dict[str, Any]]]:
    home = tmp_path_factory.mktemp("described")
    with ScriptedUpstream([WRITE, ASK, "Done."]) as upstream, RunningService(home, upstream) as service:
        yield service, service.client.get("/openapi.json").raise_for_status().json()


Described = tuple[RunningService, dict[str, Any]]


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in it."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from parts(part)
    elif isinstance(value, list):
        for part in value:
            yield from parts(part)


def test_it_is_valid(described: Described) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(described[1])


def test_every_reference_leads_somewhere(described: Described) -> None:
    document = described[1]
    references = {part["$ref"] for part in parts(document) if isinstance(part.get("$ref"), str)}
    assert references
    for reference in references:
        place: Any = document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


def test_every_parameter_of_the_agent_is_described(described: Described) -> None:
    for path, operations in described[1]["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if "/agents/" in path or path == "/v1/usage":
                    assert parameter.get("description"), f"{path}: {parameter['name']}"


def test_headers_keys_and_examples_are_told(described: Described) -> None:
    document = described[1]

    def headers(method: str, path: str) -> set[str]:
        found = document["paths"][path][method].get("parameters", ())
        return {each["name"] for each in found if each["in"] == "header"}

    for path in ("code/invoke", "resume", "threads/{thread_id}/fork", "threads/{thread_id}/rewind"):
        assert headers("post", f"/v1/agents/{path}") == {"Idempotency-Key"}
    assert headers("get", "/v1/agents/threads/{thread_id}/events") == {"Last-Event-ID"}
    assert {each["type"] for each in document["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    assert {"bearer": []} in document["security"]
    assert document["paths"]["/health"]["get"]["security"] == []
    for name in ("CodeAgentRequest", "ResumeRequest", "RewindRequest", "PruneRequest"):
        assert document["components"]["schemas"][name]["examples"]


def test_every_event_that_comes_is_as_described(described: Described, tmp_path: Path) -> None:
    service, document = described
    schemas = document["components"]["schemas"]
    project = service.config_file.parent / "project"
    project.mkdir()
    body = {
        "instruction": "do it",
        "project_directory": str(project),
        "thread_id": "thread-01",
        "stream": True,
    }
    with service.client.stream("POST", "/v1/agents/code/invoke", json=body) as response:
        told = list(sse(response))
    answer = {"thread_id": "thread-01", "tool_call_id": "ask_1", "human_response": "Orion", "stream": True}
    with service.client.stream("POST", "/v1/agents/resume", json=answer) as response:
        told += list(sse(response))
    kinds = schemas["AgentEvent"]["discriminator"]["mapping"]
    assert set(kinds) == {event.model_fields["kind"].default for event in EVENTS}
    assert {"run.started", "message", "tool.finished", "question.opened", "question.answered"} <= {
        event.kind for event in told
    }
    for event in told:
        schema = schemas[kinds[event.kind].rpartition("/")[2]]
        assert set(event.data) <= set(schema["properties"]), event
        assert set(schema["required"]) <= set(event.data), event
    assert [event.data["resumed"] for event in told if event.kind == "run.started"] == [False, True]


def test_the_page_for_reading_loads_nothing(described: Described) -> None:
    service, document = described
    page = service.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page.text)
    for path in document["paths"]:
        assert path in page.text
    for link in re.findall(r'href="#([^"]+)"', page.text):
        assert f'id="{link}"' in page.text
    assert service.client.get("/redoc").status_code == 404
