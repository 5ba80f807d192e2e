"""What the edge refuses, in which order, and what it lets through untouched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from agent_service.api.edge import EdgeConfig, protect
from agent_service.api.gates import plain_host
from agent_service.api.json_body import InvalidJson, parse_json
from agent_service.api.key_ring import KeyRing
from agent_service.api.peer import same_user
from agent_service.api.rate_limit import RateLimit
from agent_service.principals import LOCAL, ApiKey, Principal
from agent_service.sections import ServerSettings

Headers = Sequence[tuple[str, str]]
USER_KEY, ADMIN_KEY = "user-key-0123456789", "admin-key-0123456789"
JSON = ("content-type", "application/json")


class Echo:
    """An app that notes what reached it, and answers with it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.principals: list[Principal | None] = []
        self.release: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        body = b""
        if scope["method"] == "POST":
            body = (await receive())["body"]
        self.bodies.append(body)
        self.principals.append(scope["state"]["principal"])
        if self.release is not None:
            await self.release.wait()
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict[str, Any]:
        """The error object; checks that it has OpenAI's shape."""
        assert self.headers["content-type"] == "application/json"
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


async def ask(
    app: Callable[[Scope, Receive, Send], Any],
    path: str = "/v1/models",
    method: str = "GET",
    headers: Headers = (),
    parts: Sequence[bytes] = (),
    host: str | None = "localhost:8000",
) -> Answer:
    """One request straight into the app, its body in the given parts."""
    named = [*headers, *([("host", host)] if host is not None else [])]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named],
        "client": None,
        "server": None,
    }
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": index + 1 < len(parts)}
        for index, part in enumerate(parts or [b""])
    ]
    answer = Answer()

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


def knock(config: EdgeConfig, *args: Any, **kwargs: Any) -> tuple[Answer, Echo]:
    """One request through an edge, and the app behind it."""
    echo = Echo()
    return asyncio.run(ask(protect(echo, config), *args, **kwargs)), echo


def keyed(**changes: Any) -> EdgeConfig:
    keys = [
        ApiKey.model_validate({"name": "user", "key": USER_KEY, "owner": "team"}),
        ApiKey.model_validate({"name": "ops", "key": ADMIN_KEY, "admin": True}),
    ]
    return EdgeConfig(keys=KeyRing(keys), **changes)


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    """The app on a real socket; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        task = asyncio.create_task(server.serve([listener]))
        try:
            await until(lambda: server.started)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.002)


# --- Host and Origin


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("agent.example", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost:evil.example", 421),
        ("localhost@evil.example", 421),
        ("[::1].evil.example", 421),
        ("[::1", 421),
        ("localhost.", 421),
        ("", 421),
        (None, 421),
    ],
)
def test_only_our_own_names_are_answered_to(host: str | None, status: int) -> None:
    config = EdgeConfig.from_settings(ServerSettings.model_validate({"allowed_hosts": ["Agent.Example:443"]}))
    answer, echo = knock(config, host=host)
    assert answer.status == status
    assert len(echo.bodies) == (status == 200)
    if status == 421:
        assert answer.error["code"] == "host_not_allowed"


def test_two_host_headers_are_refused() -> None:
    assert knock(EdgeConfig(), headers=[("host", "localhost")])[0].status == 421


@pytest.mark.parametrize("host", ["10.0.0.9:8000", "balancer.example", None])
def test_whether_we_live_may_be_asked_by_any_name_and_nothing_else(host: str | None) -> None:
    for config in (EdgeConfig(), keyed()):
        answer, echo = knock(config, "/health", host=host)
        assert answer.status == 200 and echo.principals == [None], "a rebound name must show no details"
        for path in ("/", "/v1/models", "/health/", "/docs"):
            assert knock(config, path, host=host)[0].status == 421
    headers = [("x-api-key", ADMIN_KEY)]
    known = knock(keyed(), "/health", host=host, headers=headers)[1].principals
    assert known == [Principal("ops", admin=True)], "no web page has a key"
    refused, _ = knock(EdgeConfig(), "/health", host=host, headers=[("origin", "http://evil.example")])
    assert refused.status == 403


def test_the_address_listened_on_is_a_name_of_ours_but_any_address_is_not() -> None:
    key = {"name": "a", "key": USER_KEY}
    config = EdgeConfig.from_settings(ServerSettings.model_validate({"host": "10.0.0.9", "api_keys": [key]}))
    assert "10.0.0.9" in config.hosts
    for everywhere in ("0.0.0.0", "::", "0:0::0"):
        settings = ServerSettings.model_validate({"host": everywhere, "api_keys": [key]})
        assert EdgeConfig.from_settings(settings).hosts == {"localhost", "127.0.0.1", "::1"}
        assert settings.advice is not None and "server.allowed_hosts" in settings.advice
    assert ServerSettings.model_validate({"host": "10.0.0.9", "api_keys": [key]}).advice is None
    assert settings.model_copy(update={"allowed_hosts": ("agent.example",)}).advice is None
    assert ServerSettings().advice is None


@given(
    st.lists(
        st.sampled_from(["localhost", "::1", "127.0.0.1", "[", "]", ":", "8", ".", "@", "/"]), max_size=5
    )
)
@example(["[", "localhost", "]"])
def test_nothing_but_a_port_may_stand_beside_a_name(parts: list[str]) -> None:
    text = "".join(parts)
    if plain_host(text) in EdgeConfig().hosts:
        assert re.fullmatch(r"(localhost|127\.0\.0\.1|\[::1\])(:8*)?|::1", text)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("https://agent.example", 200),
        ("HTTPS://Agent.Example", 200),
        ("null", 403),
        ("", 403),
        ("http://evil.example", 403),
        ("http://localhost:8000", 403),
        ("https://agent.example.evil", 403),
    ],
)
def test_web_pages_of_other_origins_are_refused_before_their_body_is_read(
    origin: str | None, status: int
) -> None:
    config = EdgeConfig(origins=frozenset({"https://agent.example"}))
    headers = [JSON, ("content-length", "2"), *([("origin", origin)] if origin is not None else [])]
    answer, echo = knock(config, method="POST", headers=headers, parts=[b"{}"])
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers
    assert len(echo.bodies) == (status == 200)


# --- content type


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain; application/json", 415),
        (None, 415),
    ],
)
@pytest.mark.parametrize("framing", [("content-length", "2"), ("transfer-encoding", "chunked")])
def test_a_body_must_say_that_it_is_json(
    content_type: str | None, status: int, framing: tuple[str, str]
) -> None:
    headers = [framing, *([("content-type", content_type)] if content_type else [])]
    assert knock(EdgeConfig(), method="POST", headers=headers, parts=[b"{}"])[0].status == status


def test_without_a_body_no_type_is_needed() -> None:
    assert knock(EdgeConfig(), method="POST", headers=[("content-length", "0")])[0].status == 200


# --- keys


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ([("authorization", f"Bearer {USER_KEY}")], "team"),
        ([("authorization", f"bearer  {USER_KEY}")], "team"),
        ([("x-api-key", ADMIN_KEY)], "ops"),
        ([("authorization", "Basic abc"), ("x-api-key", USER_KEY)], "team"),
        ([], None),
        ([("authorization", "Bearer")], None),
        ([("authorization", f"Basic {USER_KEY}")], None),
        ([("authorization", "Bearer ' OR '1'='1")], None),
        ([("x-api-key", "")], None),
        ([("x-api-key", USER_KEY + "x")], None),
        ([("x-api-key", "\xff\xfe")], None),
        ([("cookie", f"key={USER_KEY}")], None),
    ],
)
def test_a_key_says_who_asks(headers: Headers, who: str | None) -> None:
    answer, echo = knock(keyed(), headers=headers)
    if who is None:
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert answer.error["code"] == "invalid_api_key"
        assert echo.bodies == []
    else:
        assert answer.status == 200
        assert [found.name for found in echo.principals if found] == [who]


def test_without_keys_everybody_is_local() -> None:
    answer, echo = knock(EdgeConfig(), "/api/providers", headers=[("authorization", "Bearer sk-whatever")])
    assert answer.status == 200 and echo.principals == [LOCAL]


def test_health_and_the_front_page_are_open_but_know_nobody() -> None:
    for path in ("/", "/health"):
        answer, echo = knock(keyed(), path, headers=[("x-api-key", "wrong")])
        assert answer.status == 200 and echo.principals == [None]
    assert knock(keyed(), "/health", headers=[("x-api-key", USER_KEY)])[1].principals == [Principal("team")]
    assert knock(keyed(), "/health/")[0].status == 401
    assert knock(keyed(), "/health", method="POST")[0].status == 401


@pytest.mark.parametrize("path", ["/api", "/api/providers", "/api/keys/1"])
def test_administration_needs_an_admin(path: str) -> None:
    assert knock(keyed(), path)[0].status == 401
    refused, _ = knock(keyed(), path, headers=[("x-api-key", USER_KEY)])
    assert refused.status == 403 and refused.error["code"] == "admin_required"
    assert knock(keyed(), path, headers=[("x-api-key", ADMIN_KEY)])[0].status == 200


# --- load


def test_a_rate_limit_is_each_principals_own_and_refills() -> None:
    now = [0.0]
    echo = Echo()
    app = protect(echo, keyed(requests_per_minute=2), clock=lambda: now[0])

    def status(key: str) -> Answer:
        return asyncio.run(ask(app, headers=[("x-api-key", key)]))

    assert [status(USER_KEY).status for _ in range(3)] == [200, 200, 429]
    refused = status(USER_KEY)
    assert refused.error["code"] == "rate_limited" and refused.headers["retry-after"] == "30"
    assert status(ADMIN_KEY).status == 200
    now[0] = 30.0
    assert [status(USER_KEY).status for _ in range(2)] == [200, 429]


@given(st.lists(st.floats(min_value=0, max_value=30), max_size=200), st.integers(1, 20))
def test_no_minute_sees_more_than_twice_the_rate(pauses: list[float], per_minute: int) -> None:
    now = [0.0]
    limit = RateLimit(per_minute, lambda: now[0])
    granted = []
    for pause in pauses:
        now[0] += pause
        if not limit.take("x"):
            granted.append(now[0])
    for start in granted:
        assert sum(start <= at < start + 60 for at in granted) <= 2 * per_minute + 1


def test_more_requests_than_agreed_are_sent_away_at_once_but_a_cancel_is_not() -> None:
    async def scenario() -> None:
        echo = Echo()
        echo.release = asyncio.Event()
        app = protect(echo, EdgeConfig(max_in_flight=2))
        busy = [asyncio.create_task(ask(app, method="POST")) for _ in range(2)]
        await until(lambda: len(echo.bodies) == 2)
        refused = await ask(app, method="POST")
        assert refused.status == 503 and refused.headers["retry-after"] == "1"
        assert refused.error["code"] == "overloaded"
        cancel = asyncio.create_task(ask(app, "/v1/agents/threads/x/cancel", method="POST"))
        look = asyncio.create_task(ask(app))
        await until(lambda: len(echo.bodies) == 4)
        echo.release.set()
        answers = await asyncio.gather(*busy, cancel, look)
        assert [answer.status for answer in answers] == [200] * 4
        assert (await ask(app, method="POST")).status == 200

    asyncio.run(scenario())


def test_a_request_that_a_shutdown_has_no_time_for_is_answered() -> None:
    async def scenario() -> None:
        echo = Echo()
        echo.release = asyncio.Event()
        app = protect(echo, EdgeConfig())
        waiting = asyncio.create_task(ask(app, method="POST"))
        await until(lambda: len(echo.bodies) == 1)
        waiting.cancel("Task cancelled, timeout graceful shutdown exceeded")
        answer = await waiting
        assert (answer.status, answer.error["code"]) == (503, "shutting_down")
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["x-content-type-options"] == "nosniff"

    asyncio.run(scenario())


def test_an_answer_that_has_begun_is_cut_off_by_a_shutdown_without_a_second_beginning() -> None:
    begun = asyncio.Event()
    sent: list[Message] = []

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def scenario() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
        streaming = asyncio.ensure_future(serve(protect(endless, EdgeConfig()), scope))
        await begun.wait()
        streaming.cancel()
        await streaming
        assert [each["type"] for each in sent] == ["http.response.start"]

    async def serve(app: Callable[[Scope, Receive, Send], Any], scope: Scope) -> None:
        await app(scope, receive, send)

    asyncio.run(scenario())


# --- body size


@pytest.mark.parametrize(
    ("parts", "declared", "status"),
    [
        ([b"x" * 10], "10", 200),
        ([b"x" * 5, b"x" * 5], None, 200),
        ([b"x" * 11], "11", 413),
        ([b"x"], "9" * 400, 413),
        ([b"x" * 6, b"x" * 6, b"x"], None, 413),
        ([b"x" * 11], "1", 413),
    ],
)
def test_a_body_is_counted_while_it_comes(parts: list[bytes], declared: str | None, status: int) -> None:
    framing = ("content-length", declared) if declared else ("transfer-encoding", "chunked")
    config = EdgeConfig(max_body_bytes=10)
    answer, echo = knock(config, method="POST", headers=[JSON, framing], parts=parts)
    assert answer.status == status
    assert echo.bodies == ([b"".join(parts)] if status == 200 else [])
    if status == 413:
        assert answer.headers["connection"] == "close" and answer.error["code"] == "request_too_large"


def test_an_endless_chunked_body_is_cut_off() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(protect(echo, EdgeConfig(max_body_bytes=100_000))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 50_000_000 and not reader.at_eof():
                    writer.write(b"2710\r\n" + b"[" * 10_000 + b"\r\n")
                    sent += 10_000
                    await writer.drain()
                    await asyncio.sleep(0)
            assert sent < 50_000_000
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert echo.bodies == []

    asyncio.run(scenario())


def test_a_body_that_does_not_come_gives_its_place_back() -> None:
    async def scenario() -> None:
        echo = Echo()
        config = EdgeConfig(max_body_seconds=0.05, max_in_flight=1)
        async with serving(protect(echo, config)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 5\r\n\r\n{"
            )
            assert b" 408 " in (await reader.read()).partition(b"\r\n")[0] + b" "
            writer.close()
            await writer.wait_closed()
        assert echo.bodies == []

    asyncio.run(scenario())


# --- what passes


def test_a_stream_passes_piece_by_piece_and_the_app_hears_that_the_client_left() -> None:
    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
        left.append((await receive())["type"])

    left: list[str] = []

    async def scenario() -> None:
        async with serving(protect(streaming, EdgeConfig())) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            assert b"one\n" in await asyncio.wait_for(reader.readuntil(b"one\n"), 5)
            writer.close()
            await writer.wait_closed()
            await until(lambda: left)
        assert left == ["http.disconnect"]

    asyncio.run(scenario())


def test_every_answer_tells_browsers_to_keep_their_hands_off() -> None:
    for answer in (knock(EdgeConfig())[0], knock(EdgeConfig(), host="evil.example")[0]):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


def test_web_sockets_are_closed() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def scenario() -> None:
        await protect(Echo(), EdgeConfig())({"type": "websocket", "headers": []}, receive, send)

    asyncio.run(scenario())
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- other users of the machine


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the owners of sockets")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("user", "status"), [(0, 200), (12345, 403)])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_another_user_needs_a_key(user: int, status: int, family: socket.AddressFamily) -> None:
    """The client is a process of that user; over IPv6 it reaches our IPv4 socket by a mapped address."""
    client = """
import os, socket, sys
user, family, port = map(int, sys.argv[1:])
os.setuid(user)
with socket.socket(family) as s:
    s.connect(("127.0.0.1" if family == socket.AF_INET else "::ffff:127.0.0.1", port))
    s.sendall(b"GET /v1/models HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    print(s.recv(100).split()[1].decode())
"""

    async def scenario() -> None:
        async with serving(protect(Echo(), EdgeConfig())) as port:
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", client, str(user), str(int(family)), str(port)],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert done.stdout.strip() == str(status), done.stderr

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (None, None),
        (("testclient", 5), ("localhost", 6)),
        (("127.0.0.1", 1), ("127.0.0.1", 1)),
        (("", 0), None),
    ],
)
def test_where_the_system_does_not_tell_nobody_is_refused(client: object, server: object) -> None:
    assert same_user({"type": "http", "client": client, "server": server})


# --- JSON


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b"{", "line 1"),
        (b"[" * 200_000, "depth"),
        (b"[" * 101 + b"]" * 101, "100 levels"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "100 levels"),
        (b"NaN", "line 1, column 1"),
        (b'{"a": Infinity}', "column 7"),
        (b"1e400", "number"),
        (b"9" * 6000, "number"),
        (b'"\xff"', "UTF-8"),
        (b'"\\ud800"', "surrogate"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
    ],
)
def test_bad_json_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(InvalidJson, match=named):
        parse_json(body)


def test_good_json_is_taken() -> None:
    assert parse_json(b'{"a": 1, "a": [2, "\\ud83d\\ude00"]}') == {"a": [2, "\U0001f600"]}
    assert parse_json(b"[" * 100 + b"]" * 100)
    assert parse_json(b"[" * 100 + b"1" + b"]" * 100)
    assert parse_json(b"null") is None


@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]",:0123456789eE+-.\\ud8ntrfals ', max_size=60).map(str.encode)
)
def test_no_bytes_give_anything_but_a_value_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(InvalidJson):
        json.dumps(parse_json(body), allow_nan=False).encode()
