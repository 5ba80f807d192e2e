"""The command at a service that it loses: what was asked for is done once, and shown as what it is."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.cli import client as client_module
from agent_service.cli import pursuit
from agent_service.cli.client import Begin, Refused, ServiceClient
from agent_service.cli.conversation import Audience, Conversation
from agent_service.cli.event_stream import Events
from agent_service.cli.fault import COMPLETED, WAITING, Disconnected
from agent_service.cli.terminal import Terminal
from tests.service import RunningService, wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls, wait

THREAD = "thread-01"
ASK = calls(("ask_human_for_input", {"question": "Which name?"}, "ask_1"), text="Hm.")
LIST = calls(("list_files", {}), text="I look around.")


class LossyNetwork(httpx.HTTPTransport):
    """Loses some of the POST requests on their way, or the answers to them on the way back."""

    def __init__(self, *losses: str) -> None:
        """`losses`: for each POST in turn `request`, `answer` or nothing; nothing for those that follow."""
        super().__init__()
        self._losses = iter(losses)
        self.posts = 0
        self.after_loss: Callable[[], object] = lambda: None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "POST":
            return super().handle_request(request)
        self.posts += 1
        loss = next(self._losses, "")
        if loss == "request":
            raise httpx.ConnectError("lost", request=request)
        response = super().handle_request(request)
        if loss == "answer":
            response.close()
            self.after_loss()
            raise httpx.ReadError("lost", request=request)
        return response


class Nobody:
    """Answers nothing."""

    def answer(self, request: dict[str, Any]) -> str | None:
        return None


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pursuit, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(client_module, "REPLAY_SECONDS", 0.5)


@contextmanager
def over(network: LossyNetwork, service: RunningService) -> Iterator[ServiceClient]:
    with httpx.Client(base_url=service.url, transport=network) as http:
        yield ServiceClient(http)


def converse(client: ServiceClient, begin: Begin) -> int:
    return Conversation(client, THREAD, Audience(Terminal(), Nobody())).run(begin)


def instruction(client: ServiceClient, text: str = "two", **fields: Any) -> Begin:
    return client.invoke({"instruction": text, "thread_id": THREAD, **fields})


@pytest.mark.parametrize("losses", [["request"], ["request", "request", "answer"]])
def test_an_instruction_that_is_lost_is_given_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], losses: list[str]
) -> None:
    network = LossyNetwork(*losses)
    with (
        ScriptedUpstream(["One.", "Two."]) as upstream,
        RunningService(tmp_path, upstream) as service,
        over(network, service) as client,
    ):
        service.invoke("one", thread_id=THREAD)
        network.after_loss = lambda: wait_until(lambda: service.thread(THREAD)["status"] == "idle")
        assert converse(client, instruction(client)) == COMPLETED
        assert len(upstream.requests) == 2
    shown = capsys.readouterr().out
    assert shown.count("The connection broke off") == 1
    assert shown.count("Two.") == 1
    assert "One." not in shown


def test_a_run_whose_first_word_was_lost_is_followed(
    tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()
    script: list[ScriptItem] = ["One.", LIST, wait(release, "Two.")]
    network = LossyNetwork("answer")
    with (
        ScriptedUpstream(script) as upstream,
        RunningService(tmp_path, upstream) as service,
        over(network, service) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        service.invoke("one", thread_id=THREAD, project_directory=str(project))

        def watched() -> None:
            wait_until(lambda: "list_files" in seen())
            release.set()

        seen = _collected(capsys)
        watching = pool.submit(watched)
        assert converse(client, instruction(client)) == COMPLETED
        watching.result()
        assert (len(upstream.requests), network.posts) == (3, 3)
        shown = seen()
    for text in ("I look around.", "list_files", "Two."):
        assert shown.count(text) == 1, shown
    assert "One." not in shown


def test_the_run_of_somebody_else_is_not_taken_for_ours(tmp_path: Path) -> None:
    release = threading.Event()
    with (
        ScriptedUpstream([wait(release, "Theirs.")]) as upstream,
        RunningService(tmp_path, upstream) as service,
        over(LossyNetwork("request"), service) as client,
    ):
        service.invoke("theirs", thread_id=THREAD, background=True)
        with pytest.raises(Refused) as refused:
            converse(client, instruction(client, "ours"))
        assert (refused.value.code, refused.value.is_repeated) == ("thread_busy", False)
        release.set()
        wait_until(lambda: service.thread(THREAD)["status"] == "idle")


def test_an_answer_counts_once_and_what_came_of_it_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = LossyNetwork("answer")
    with (
        ScriptedUpstream([ASK, "It is Orion."]) as upstream,
        RunningService(tmp_path, upstream) as service,
        over(network, service) as client,
    ):
        service.invoke(thread_id=THREAD)
        network.after_loss = lambda: wait_until(lambda: service.thread(THREAD)["status"] == "idle")
        assert converse(client, client.resume(THREAD, "ask_1", "Orion")) == COMPLETED
        assert len(upstream.requests) == 2
    assert capsys.readouterr().out.count("It is Orion.") == 1


def test_a_service_that_stays_away_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pursuit, "RECONNECT_SECONDS", 0.1)
    with ScriptedUpstream(["One."]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke("one", thread_id=THREAD)
        with over(LossyNetwork(*["request"] * 1000), service) as client, pytest.raises(Disconnected):
            converse(client, instruction(client))
    assert "One." not in capsys.readouterr().out


@pytest.mark.parametrize("left", [0, 1], ids=["all events are gone", "one that came later is kept"])
@pytest.mark.parametrize(("step", "code"), [("One.", COMPLETED), (ASK, WAITING)], ids=["ended", "waits"])
def test_a_run_whose_events_are_gone_is_told_by_its_thread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step: ScriptItem, code: int, left: int
) -> None:
    with (
        ScriptedUpstream([step]) as upstream,
        RunningService(tmp_path, upstream) as service,
        over(LossyNetwork(), service) as client,
    ):
        service.invoke(thread_id=THREAD)
        with closing(sqlite3.connect(service.data / "agent-service" / "state.db")) as database, database:
            database.execute("DELETE FROM events WHERE seq < (SELECT max(seq) FROM events) OR ? = 0", (left,))
            changed = """CAST(json_object('kind', 'workspace.changed', 'thread_id', thread_id,
                         'run_id', run_id, 'paths', json_array('a')) AS BLOB)"""
            database.execute(f"UPDATE events SET kind = 'workspace.changed', data = {changed}")
        thread = client.thread(THREAD)
        assert converse(client, lambda: client.follow_latest(thread)) == code
    shown = capsys.readouterr().out
    assert ("One." if code == COMPLETED else "Which name?") in shown


def test_who_leaves_at_once_is_told_how_to_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def left() -> Events:
        raise KeyboardInterrupt

    with (
        ScriptedUpstream([]) as upstream,
        RunningService(tmp_path, upstream) as service,
        over(LossyNetwork(), service) as client,
        pytest.raises(KeyboardInterrupt),
    ):
        converse(client, left)
    assert f"threads follow {THREAD}" in capsys.readouterr().out


def _collected(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was written so far."""
    text: list[str] = []
    lock = threading.Lock()

    def read() -> str:
        with lock:
            text.append(capsys.readouterr().out)
            return "".join(text)

    return read
