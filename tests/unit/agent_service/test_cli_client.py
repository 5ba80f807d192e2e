"""Reading the service's streams and errors."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.cli import client as client_module
from agent_service.cli.client import Refused, ServiceClient
from agent_service.cli.event_stream import server_sent_events
from agent_service.cli.fault import Disconnected
from agent_service.events import KEEP_ALIVE, Token, WorkspaceChanged, encode_sse

FINISHED = b'data: {"kind": "run.finished", "response": {}}\n\n'


def client(answer: httpx.Response) -> ServiceClient:
    transport = httpx.MockTransport(lambda _: answer)
    return ServiceClient(httpx.Client(transport=transport, base_url="http://service"))


def event(text: str) -> bytes:
    return encode_sse(Token(thread_id="thread-1", run_id="run-1", text=text))


@given(st.lists(st.text()), st.integers(1, 40))
def test_events_survive_any_cut_and_any_character(texts: list[str], size: int) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    stream = KEEP_ALIVE.join([b"", *map(event, texts)])
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [each["text"] for each in server_sent_events(chunks)] == texts


def test_a_stream_that_ends_early_is_a_lost_connection() -> None:
    events = client(httpx.Response(200, content=event("half"))).invoke({"instruction": "x"})()
    assert next(events)["text"] == "half"
    with pytest.raises(Disconnected):
        next(events)


def test_a_stream_that_opens_when_the_command_has_ended_is_closed() -> None:
    class Endless(httpx.SyncByteStream):
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield event("more")

        def close(self) -> None:
            self.closed = True

    stream = Endless()

    def ended_meanwhile(_: httpx.Request) -> httpx.Response:
        http.close()
        return httpx.Response(200, stream=stream)

    http = httpx.Client(transport=httpx.MockTransport(ended_meanwhile), base_url="http://service")
    assert ServiceClient(http).fate({"thread_id": "thread-1", "seq": 1}, "call-1") is None
    assert stream.closed
    assert ServiceClient(http).fate({"thread_id": "thread-1", "seq": 1}, "call-1") is None


def test_each_instruction_and_answer_has_a_key_that_is_repeated_with_it() -> None:
    keys: list[str] = []

    def noted(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(200, content=FINISHED)

    http = httpx.Client(transport=httpx.MockTransport(noted), base_url="http://service")
    service = ServiceClient(http)
    for begin in (service.invoke({}), service.invoke({}), service.resume("thread-1", "call-1", "yes")):
        for _ in range(2):
            list(begin())
    assert keys[::2] == keys[1::2]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("code", "param", "is_repeated"),
    [
        ("thread_busy", "Idempotency-Key", True),
        ("thread_busy", None, False),
        ("idempotency_key_reused", "Idempotency-Key", False),
    ],
)
def test_a_repeated_request_is_told_from_a_thread_that_others_use(
    code: str, param: str | None, is_repeated: bool
) -> None:
    error = {"error": {"message": "Wait.", "code": code, "param": param}}
    with pytest.raises(Refused) as refused:
        list(client(httpx.Response(409, content=orjson.dumps(error))).invoke({})())
    assert refused.value.is_repeated == is_repeated


def test_what_others_change_does_not_keep_a_replay_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REPLAY_SECONDS", 0.05)

    def changes_for_ever() -> Iterator[bytes]:
        while True:
            yield encode_sse(WorkspaceChanged(thread_id="thread-1", run_id="run-1", paths=["a.py"]))

    thread = {"thread_id": "thread-1", "run_id": "run-1", "status": "idle", "last_response": {"told": True}}
    *_, last = client(httpx.Response(200, content=changes_for_ever())).follow_latest(thread)
    assert (last["kind"], last["response"]) == ("run.finished", {"told": True})


def test_nothing_after_the_end_of_the_run_is_read() -> None:
    events = client(httpx.Response(200, content=FINISHED + event("late"))).invoke({"instruction": "x"})()
    assert [each["kind"] for each in events] == ["run.finished"]


def test_the_services_own_words_are_passed_on() -> None:
    error = {"error": {"message": "There is no such thread.", "code": "thread_not_found"}}
    with pytest.raises(Refused, match=r"There is no such thread\.") as refused:
        client(httpx.Response(404, content=orjson.dumps(error))).thread("thread-1")
    assert (refused.value.status, refused.value.code) == (404, "thread_not_found")


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"error": null}', b"{}"])
def test_an_error_in_another_form_is_told_by_its_status(content: bytes) -> None:
    with pytest.raises(Refused, match="HTTP status 502"):
        client(httpx.Response(502, content=content)).thread("thread-1")


@pytest.mark.parametrize("thread_id", ["../../health", "a/b", "", "a?b", "ä"])
def test_a_thread_id_stays_one_part_of_the_path(thread_id: str) -> None:
    with pytest.raises(Refused, match="no thread"):
        client(httpx.Response(200, content=b"{}")).thread(thread_id)
