"""Reading the service's streams and errors."""

from __future__ import annotations

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.cli.client import Disconnected, Refused, ServiceClient, server_sent_events
from agent_service.events import KEEP_ALIVE, Token, encode_sse


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
    events = client(httpx.Response(200, content=event("half"))).invoke({"instruction": "x"})
    assert next(events)["text"] == "half"
    with pytest.raises(Disconnected):
        next(events)


def test_nothing_after_the_end_of_the_run_is_read() -> None:
    finished = b'data: {"kind": "run.finished", "response": {}}\n\n'
    events = client(httpx.Response(200, content=finished + event("late"))).invoke({"instruction": "x"})
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
