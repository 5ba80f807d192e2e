"""Who may do what, and what never gets as far as a route."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service import RunningService
from tests.upstream import ScriptedUpstream, calls

ALICE, BOB = "alice-key-0123456789", "bob-key-0123456789"
KEYS = {"api_keys": [{"name": "alice", "key": ALICE}, {"name": "bob", "key": BOB}]}
ASK = ("ask_human_for_input", {"question": "Which name?"}, "ask_1")
INVOKE = "/v1/agents/code/invoke"


def test_another_principals_thread_is_not_there(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([calls(ASK), "ok"]) as upstream,
        RunningService(tmp_path, upstream, key=ALICE, server=KEYS) as service,
    ):
        service.invoke(thread_id="thread-01")
        bob = httpx.Client(base_url=service.url, headers={"x-api-key": BOB}, trust_env=False)
        answer = {"thread_id": "thread-01", "tool_call_id": "ask_1", "human_response": "x"}
        tries = [
            bob.post(INVOKE, json={"instruction": "x", "thread_id": "thread-01"}),
            bob.post("/v1/agents/resume", json=answer),
            bob.get("/v1/agents/threads/thread-01"),
            bob.get("/v1/agents/threads/thread-01/diff"),
            bob.get("/v1/agents/threads/thread-01/events"),
            bob.post("/v1/agents/threads/thread-01/cancel", json={}),
        ]
        for refused in tries:
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "thread_not_found")
        assert bob.get("/v1/agents/threads").json()["threads"] == []
        bob.close()
        assert service.thread("thread-01")["status"] == "requires_human_input"
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "thread_id", ["8bd32fd1-8a2a-41b1-bd6e-000000000000", "../x", "x" * 20_000, "' OR 1=1 --"]
)
def test_resuming_what_is_not_there(tmp_path: Path, thread_id: str) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        assert service.resume(thread_id, "ask_1", "x").status_code in (404, 422)
        assert upstream.requests == []


def test_a_thread_is_shown_whole_and_deleted_whole(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([calls(ASK, text="Hm."), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke("name it", thread_id="thread-01")
        shown = service.client.get("/v1/agents/threads/thread-01/messages").json()["messages"]
        assert [m["role"] for m in shown] == ["user", "assistant"]
        assert shown[1]["model"] == "up1/m1"
        [call] = shown[1]["tool_calls"]
        assert (call["id"], call["arguments"]) == ("ask_1", {"question": "Which name?"})
        assert service.client.delete("/v1/agents/threads/thread-01").status_code == 204
        assert service.client.get("/v1/agents/threads/thread-01").status_code == 404
        assert service.resume("thread-01", "ask_1", "x").status_code == 404
        service.invoke("anew", thread_id="thread-01")
        shown = service.client.get("/v1/agents/threads/thread-01/messages").json()["messages"]
        assert [m["content"] for m in shown] == ["anew", "ok"]


def test_the_thread_list_pages(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="ok") as upstream, RunningService(tmp_path, upstream) as service:
        for number in range(5):
            service.invoke(f"task {number}\nmore", thread_id=f"thread-{number:02}")
        seen: list[str] = []
        cursor: str | None = None
        while True:
            query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
            page = service.client.get("/v1/agents/threads", params=query).json()
            seen += [t["title"] for t in page["threads"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == [f"task {n}" for n in (4, 3, 2, 1, 0)]
        assert service.client.get("/v1/agents/threads", params={"status": "error"}).json()["threads"] == []
        assert service.client.get("/v1/agents/threads", params={"cursor": "nonsense"}).status_code == 422
        assert service.client.get("/v1/agents/threads", params={"status": "odd"}).status_code == 422


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[RunningService, ScriptedUpstream]]:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        yield service, upstream
        assert upstream.requests == []


Running = tuple[RunningService, ScriptedUpstream]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000"])
def test_a_foreign_host_is_refused(running: Running, host: str) -> None:
    response = running[0].invoke(headers={"Host": host})
    assert response.status_code == 421
    assert response.json()["error"]["message"]


def test_who_listens_everywhere_is_told_which_names_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    everywhere = {**KEYS, "host": "0.0.0.0"}
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream, server=everywhere) as service:
        assert [each.getMessage() for each in caplog.records if "server.allowed_hosts" in each.getMessage()]
        by_address = {"Host": "192.0.2.7:8000"}
        assert service.client.get("/v1/models", headers=by_address).status_code == 421
        stranger = service.client.get("/health", headers=by_address).raise_for_status().json()
        assert (stranger["status"], stranger["providers"], stranger["problems"]) == ("ok", {}, [])
        known = service.client.get("/health", headers={**by_address, "x-api-key": ALICE}).json()
        assert known["status"] == "ok", "whoever only asks by localhost misses nothing"
        assert "server.allowed_hosts" in known["problems"][0]


@pytest.mark.parametrize(
    ("method", "path", "shown"),
    [
        ("GET", "/v1/nope", "GET /v1/nope;"),
        ("POST", "/%3Cscript%3Ealert(1)%3C/script%3E", "POST /%3Cscript%3Ealert%281%29%3C/script%3E;"),
        ("GET", "/%0d%0aX-Evil:%20%1b[31m", "GET /%0D%0AX-Evil%3A%20%1B%5B31m;"),
        ("GET", "/%ff%fe%00", "GET /%"),
        ("GET", "/" + "%C3%A9" * 5_000, "%..."),
        ("DELETE", "/v1/" + "x" * 5_000, "x...;"),
    ],
)
def test_a_route_that_is_not_there_is_named(running: Running, method: str, path: str, shown: str) -> None:
    response = running[0].client.request(method, path)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "not_found")
    assert shown.rstrip(";").rstrip("%.") in error["message"] and "/docs" in error["message"]
    assert len(error["message"]) < 200 and error["message"].isprintable()


def test_a_method_that_a_route_does_not_take_is_named(running: Running) -> None:
    response = running[0].client.delete("/v1/models")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
    error = response.json()["error"]
    assert error["code"] == "method_not_allowed"
    assert error["message"] == "/v1/models takes no DELETE; /docs lists what it takes."


def test_a_foreign_origin_and_other_content_are_refused(running: Running) -> None:
    service, _ = running
    for origin in ("http://evil.example", "null", "http://localhost.evil.example"):
        assert service.invoke(headers={"Origin": origin}).status_code == 403
    body = b'{"instruction": "x"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        refused = service.client.post(INVOKE, content=body, headers={"Content-Type": kind})
        assert refused.status_code == 415
        assert refused.json()["error"]["type"] == "invalid_request_error"


HOSTILE = [b"[" * 200_000, b'{"instruction": NaN}', b'{"instruction": "\xff"}', b"", b"[]", b"null", b"5"]
HOSTILE += [
    b'{"instruction": ' + b"9" * 6_000 + b"}",
    b'{"instruction": "a\\ud800b"}',
    b'{"instruction": ""}',
]
HOSTILE += [b'{"instruction": ["x"]}', b'{"instruction": "x", "thread_id": "short"}', b'{"instruction": "x"']


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("path", [INVOKE, "/v1/agents/resume", "/v1/chat/completions"])
def test_hostile_bodies_get_a_clear_no(running: Running, path: str, body: bytes) -> None:
    response = running[0].client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    error = response.json()["error"]
    assert error["message"]
    assert error["code"] == "invalid_request"


def test_large_bodies_are_cut_off(running: Running) -> None:
    service, _ = running
    response = service.client.post(
        INVOKE, content=b"x" * (9 << 20), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 413

    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as endless:
        head = f"POST {INVOKE} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        endless.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n"
        try:
            for _ in range(64):
                endless.sendall(piece)
        except OSError:
            pass  # closed on us, which is as good
        else:
            raise AssertionError("64 MiB were taken")


@pytest.mark.parametrize("key", [None, "' OR '1'='1", ALICE + "x"])
def test_wrong_keys_are_refused(tmp_path: Path, key: str | None) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream, server=KEYS) as service:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        refused = service.client.post(f"{INVOKE}?key={ALICE}", json={"instruction": "x"}, headers=headers)
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
        assert upstream.requests == []
        assert service.client.get("/health").status_code == 200


def test_every_error_is_json(running: Running) -> None:
    service, _ = running
    for response in (
        service.client.get("/nowhere"),
        service.client.get(INVOKE),
        service.client.delete("/v1/agents/threads/none-such"),
        service.client.put("/v1/agents/threads/none-such", json={}),
        service.client.get("/v1/agents/threads/none-such/messages"),
        service.client.get("/v1/agents/threads/none-such"),
        service.client.get("/api/nowhere"),
    ):
        assert response.status_code in (404, 405)
        assert response.json()["error"]["message"]


def test_openapi_documents_every_route_and_its_errors(running: Running) -> None:
    document = running[0].client.get("/openapi.json").json()
    assert "/v1/agents/code/invoke" in document["paths"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("summary"), path
            if path.startswith("/v1/"):
                assert "401" in operation["responses"], path
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), f"{name}.{field}"
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert "messages" in chat["requestBody"]["content"]["application/json"]["schema"]["properties"]


def test_numbers_beyond_64_bits_in_fields_nobody_asked_for(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        huge: dict[str, Any] = {"z": 123456789012345678901234567890}
        for refused in (
            service.invoke(thread_id="thread-01", **huge),
            service.resume("thread-01", "a", "x", **huge),
        ):
            assert (refused.status_code, refused.json()["error"]["param"]) == (422, "z")
        asked = service.invoke(thread_id="thread-01").json()
        assert asked["request_params"] == {"instruction": "do it", "thread_id": "thread-01"}
        assert service.resume("thread-01", "ask_1", "x").json()["agent_status"] == "completed"


def test_a_deleted_thread_leaves_nothing_for_whoever_takes_its_name(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(["noted", "hello"]) as upstream,
        RunningService(tmp_path, upstream, key=ALICE, server=KEYS) as service,
    ):
        headers = {"Idempotency-Key": "k-1"}
        service.invoke("my secret is 42", thread_id="thread-01", headers=headers)
        assert service.client.delete("/v1/agents/threads/thread-01").status_code == 204
        bob = httpx.Client(base_url=service.url, headers={"x-api-key": BOB}, trust_env=False)
        taken = bob.post(INVOKE, json={"instruction": "hi", "thread_id": "thread-01"})
        assert taken.json()["agent_status"] == "completed"
        assert [m["content"] for m in upstream.bodies[-1]["messages"][1:]] == ["hi"]
        bob.close()
        upstream.then("again")
        again = service.invoke("my secret is 42", thread_id="thread-02", headers=headers)
        assert again.status_code in (200, 422)


def test_a_repeat_in_another_form_tells_of_the_same_run(tmp_path: Path) -> None:
    with ScriptedUpstream(["ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        headers = {"Idempotency-Key": "k-1"}
        first = service.invoke(headers=headers).json()
        streamed = service.invoke(headers={**headers, "Accept": "text/event-stream"})
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert f'"thread_id":"{first["thread_id"]}"' in streamed.text.replace(" ", "")
        assert len(upstream.requests) == 1
