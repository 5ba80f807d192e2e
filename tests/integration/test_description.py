"""What the service says of itself: an OpenAPI document that is whole and true, to be read offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_service.agent.errors import RunEnded
from agent_service.api.error_codes import ErrorCode
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


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All of them, each by a name such as `get /health`."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_parameter_every_answer_and_every_field_is_described(described: Described) -> None:
    document = described[1]
    silent = []
    for name, operation in operations(document):
        told = [(each["name"], each) for each in operation.get("parameters", ())]
        told += operation["responses"].items()
        silent += [f"{name}: {what}" for what, each in told if not each.get("description")]
        assert operation["summary"] and operation["description"], name
        assert "Successful Response" not in {each["description"] for each in operation["responses"].values()}
    bodies = [
        (name, operation["requestBody"]["content"]["application/json"]["schema"])
        for name, operation in operations(document)
        if "requestBody" in operation
    ]
    for name, schema in [*document["components"]["schemas"].items(), *bodies]:
        fields = schema.get("properties", {}).items()
        silent += [f"{name}.{field}" for field, each in fields if not each.get("description")]
        if name in document["components"]["schemas"] and not schema.get("description"):
            silent.append(name)
    assert silent == []


def test_every_error_is_told_of_a_route_or_of_all(described: Described) -> None:
    document = described[1]
    told = {
        (int(status), code)
        for _, operation in operations(document)
        for status, answer in operation["responses"].items()
        if status >= "400"
        for code in re.findall(r"`(\w+)`: ", answer["description"])
    }
    told |= {
        (int(status), code)
        for status, code in re.findall(r"(\d{3}) `(\w+)`,", document["info"]["description"])
    }
    assert told == {(error.status, error.code) for error in ErrorCode}
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_way_in_which_a_run_may_end_early_is_told(described: Described) -> None:
    code = described[1]["components"]["schemas"]["FailedEvent"]["properties"]["code"]["description"]
    kinds: tuple[type[RunEnded], ...] = (RunEnded, *RunEnded.__subclasses__())
    for kind in kinds:
        assert f"`{kind.code}`" in code


THREAD = "/v1/agents/threads/{thread_id}"
NOBODY = THREAD.format(thread_id="nobody-there")
INVOKE, CHAT = "/v1/agents/code/invoke", "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("method", "route", "path", "body", "code"),
    [
        ("post", INVOKE, INVOKE, [], "invalid_request"),
        ("post", INVOKE, INVOKE, {"instruction": ""}, "invalid_request"),
        ("post", INVOKE, INVOKE, {"instruction": "x", "model": "no-such"}, "model_not_found"),
        ("post", INVOKE, INVOKE, {"instruction": "x", "provider": "no-such"}, "provider_not_found"),
        ("post", INVOKE, INVOKE, {"instruction": "x", "approvals": 1}, "invalid_request"),
        ("get", THREAD, NOBODY, None, "thread_not_found"),
        ("delete", THREAD, NOBODY, None, "thread_not_found"),
        ("get", THREAD + "/history", NOBODY + "/history?limit=0", None, "invalid_request"),
        ("post", THREAD + "/fork", NOBODY + "/fork", {"checkpoint_id": "x"}, "thread_not_found"),
        ("post", THREAD + "/cancel", NOBODY + "/cancel", {}, "thread_not_found"),
        ("get", "/v1/agents/threads", "/v1/agents/threads?cursor=x", None, "invalid_request"),
        ("post", CHAT, CHAT, {"messages": []}, "invalid_request"),
        ("post", CHAT, CHAT, {"messages": HELLO, "model": "no-such"}, "model_not_found"),
        ("get", "/v1/route", "/v1/route?taks=x", None, "invalid_request"),
        ("get", "/v1/route", "/v1/route?provider=no-such", None, "provider_not_found"),
        ("get", "/v1/usage", "/v1/usage?from=2030-01-01", None, "invalid_request"),
        ("get", "/api/providers/{name}", "/api/providers/no-such", None, "provider_not_found"),
        ("patch", "/api/providers/{name}", "/api/providers/up1", {"enabled": False}, "account_configured"),
        ("delete", "/api/providers/{name}", "/api/providers/groq", None, "account_not_found"),
        ("post", "/api/providers/{name}/test", "/api/providers/groq/test", {}, "account_not_found"),
    ],
)
def test_errors_that_come_are_told_of_their_route(
    described: Described, method: str, route: str, path: str, body: Any, code: str
) -> None:
    service, document = described
    answer = service.client.request(method, path, json=body)
    assert answer.json()["error"]["code"] == code
    told = document["paths"][route][method]["responses"][str(answer.status_code)]
    assert f"`{code}`: " in told["description"]


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
    stream = document["paths"]["/v1/agents/code/invoke"]["post"]["responses"]["200"]["content"]
    example = stream["text/event-stream"]["examples"]["tool.finished"]["value"]
    [written] = [each.data for each in told if each.kind == "tool.finished" and each.data["files_changed"]]
    for field in ("tool_call_id", "name", "ok", "summary"):
        assert written[field] == example[field]


def test_the_page_for_reading_loads_nothing(described: Described) -> None:
    service, document = described
    page = service.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page.text)
    for path in document["paths"]:
        assert path in page.text
    assert "integer (1 to 200), <code>50</code> if omitted" in page.text
    assert "number (0 to 1) or null" in page.text
    for link in re.findall(r'href="#([^"]+)"', page.text):
        assert f'id="{link}"' in page.text
    assert service.client.get("/redoc").status_code == 404
