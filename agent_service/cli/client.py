"""The service as a client sees it: the documented routes, over HTTP or a socket of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import orjson

from agent_service.cli.event_stream import (
    Event,
    Events,
    of_latest_instruction,
    of_run,
    replayed,
    server_sent_events,
)
from agent_service.cli.fault import FAILED, WAITING, WRONG_USAGE, Disconnected, Fault
from agent_service.cli.ids import full_id
from agent_service.cli.wording import command_name

SILENCE_SECONDS = 60.0
"""A stream without even a sign of life (the service sends one every 15 s) for so long is broken."""
REPLAY_SECONDS = 3.0
"""After so long without a further event those of a run that ended were all replayed."""
CALL_SECONDS = 30.0
"""How long an answer may take: the first one for which a new service has to load the graph takes a while."""
CANCEL_SECONDS = 40.0
"""A cancel waits for the tool call under way."""
MOST_TASK = 2000
"""Characters of a task that a route is asked for; with eight bytes for each, an address is still taken."""
REWIND_SECONDS = 60.0
"""A rewind may have many files to restore."""
VERIFY_SECONDS = 60.0
"""A provider is asked about a key, perhaps one account after the other."""
PRUNE_SECONDS = 600.0
"""Giving space back copies the whole database."""
QUESTION_OPEN = "question_open"
"""The code that says: the thread takes no instruction, because it waits for an answer."""
_KEY = "Idempotency-Key"
PAGE = 200
"""Threads asked for at once; the most that the service gives."""

_FATES = ("question.answered", "question.closed")
_ROUTES = {
    "GET /v1/agents/threads/{id}/history": "threads history THREAD",
    "POST /v1/agents/resume": "threads answer THREAD",
}
"""How people do what the service's messages name a route for."""

Begin = Callable[[], Events]
"""Asks for the events of a run; to call it again does no harm."""
Json = dict[str, Any]


class Refused(Fault):
    """The service answered with an error; the exit code says whether the request was to blame, or whether
    the thread waits for an answer."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        waiting = code == QUESTION_OPEN
        super().__init__(message, WAITING if waiting else WRONG_USAGE if status in (404, 422) else FAILED)
        self.status, self.code, self.param = status, code, param

    @property
    def is_repeated(self) -> bool:
        """Whether the request had arrived before and its run goes on."""
        return self.code == "thread_busy" and self.param == _KEY


class ServiceClient:
    """One service. Its methods raise Refused and Disconnected."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def invoke(self, body: Json) -> Begin:
        """Starts a run, once however often it is called."""
        return self._once("/v1/agents/code/invoke", body)

    def resume(self, thread_id: str, tool_call_id: str, answer: str) -> Begin:
        """Answers a question, once however often it is called; the events of the run that goes on."""
        body = {"thread_id": thread_id, "tool_call_id": tool_call_id, "human_response": answer}
        return self._once("/v1/agents/resume", body)

    def follow(self, last: Event, silence: float = SILENCE_SECONDS) -> Events:
        """The further events of a run whose stream broke off after that one."""
        path = f"/v1/agents/threads/{_segment(last['thread_id'])}/events"
        events = self._events("GET", path, silence, params={"after": last["seq"]})
        return of_run(events, last["run_id"])

    def follow_latest(self, thread: Json) -> Events:
        """The events of the thread's latest instruction from the first one that is kept, answers included.

        They come to an end in any case: how a run that ended stands now is told by the thread.
        """
        path = f"/v1/agents/threads/{_segment(thread['thread_id'])}/events"
        first = {"thread_id": thread["thread_id"], "run_id": thread["run_id"], "seq": 0}
        running = thread["status"] == "running"
        silence = SILENCE_SECONDS if running else REPLAY_SECONDS
        stream = self._events("GET", path, silence, params={"after": 0})
        events = of_latest_instruction(stream, thread["run_id"])
        if running:
            yield from events
            return
        try:
            for event in replayed(events, REPLAY_SECONDS):
                first["seq"] = event["seq"]
                if event["kind"] != "run.finished":
                    yield event
                elif closed := self._closed_since(event, thread):
                    yield closed
        except Disconnected:
            pass
        yield {**first, "kind": "run.finished", "response": thread["last_response"]}

    def _closed_since(self, finished: Event, thread: Json) -> Event | None:
        """What became of the question that the run ended with, if the thread does not wait any more."""
        asked = finished["response"].get("human_input_request")
        if not asked or thread["status"] == "requires_human_input":
            return None
        return self.fate(finished, asked["tool_call_id"], REPLAY_SECONDS)

    def fate(self, last: Event, tool_call_id: str, silence: float = SILENCE_SECONDS) -> Event | None:
        """What became of a question after that event: it was answered or closed. None if nothing did.

        Waits for it for as long as the service gives signs of life.
        """
        path = f"/v1/agents/threads/{_segment(last['thread_id'])}/events"
        with suppress(Fault):
            for event in self._events("GET", path, silence, params={"after": last["seq"]}):
                if event.get("tool_call_id") == tool_call_id and event["kind"] in _FATES:
                    return event
        return None

    def threads(self, status: str | None, limit: int, cursor: str | None) -> Json:
        """A page of threads, the latest first."""
        wanted = {"status": status, "limit": limit, "cursor": cursor}
        given = {name: value for name, value in wanted.items() if value is not None}
        return self._json("GET", "/v1/agents/threads", params=given)

    def thread(self, thread_id: str) -> Json:
        """The thread and its latest run."""
        return self._json("GET", f"/v1/agents/threads/{_segment(thread_id)}")

    def full_id(self, beginning: str) -> str:
        """The id of the one thread whose id begins so, else what was given. Raises Fault when several do."""
        several = f"Several threads begin with {beginning}; give more of the id"
        return full_id(beginning, self._thread_ids(), several)

    def diff(self, thread_id: str) -> str:
        """One unified diff of all that the thread changed; empty if nothing."""
        return str(self._json("GET", f"/v1/agents/threads/{_segment(thread_id)}/diff")["diff"])

    def cancel(self, thread_id: str) -> Json:
        """Stop the run under way, or withdraw the open questions; the thread afterwards."""
        path = f"/v1/agents/threads/{_segment(thread_id)}/cancel"
        return self._json("POST", path, json={}, timeout=CANCEL_SECONDS)

    def delete(self, thread_id: str) -> None:
        """Delete the thread and all that is kept of it."""
        self._call("DELETE", f"/v1/agents/threads/{_segment(thread_id)}")

    def history(self, thread_id: str, limit: int, before: str | None = None) -> Json:
        """A thread's newest checkpoints, or the newest of those before one."""
        path = f"/v1/agents/threads/{_segment(thread_id)}/history"
        return self._json("GET", path, params={"limit": limit} | ({"before": before} if before else {}))

    def fork(self, thread_id: str, checkpoint_id: str | None) -> Json:
        """The new thread that goes on from a checkpoint, the latest by default."""
        body = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
        return self._json("POST", f"/v1/agents/threads/{_segment(thread_id)}/fork", json=body)

    def rewind(self, thread_id: str, checkpoint_id: str, *, files: bool) -> Json:
        """The thread after it was taken back, and what became of the files."""
        path = f"/v1/agents/threads/{_segment(thread_id)}/rewind"
        body = {"checkpoint_id": checkpoint_id, "files": files}
        return self._json("POST", path, json=body, timeout=REWIND_SECONDS)

    def prune(
        self, keep: int | None, older_than_days: float | None, *, delete: bool, dry_run: bool = False
    ) -> Json:
        """What was cleared away of the finished threads, or with `dry_run` what would be."""
        wanted = {"keep_checkpoints": keep, "older_than_days": older_than_days, "delete": delete}
        body = {**wanted, "dry_run": dry_run}
        return self._json("POST", "/v1/agents/threads/prune", json=body, timeout=PRUNE_SECONDS)

    def route(self, task: str, quality: str) -> Json:
        """Every model an agent could be given such a task with, best first, each with the reason; and the
        accounts that have none."""
        params = {"task": task[:MOST_TASK], "quality": quality, "tools": True}
        return self._json("GET", "/v1/route", params=params)

    def providers(self, *, everything: bool = False) -> list[Json]:
        """The providers and their accounts."""
        found: list[Json] = self._json("GET", "/api/providers", params={"all": everything})["data"]
        return found

    def provider(self, name: str) -> Json:
        """One provider and its accounts."""
        return self._json("GET", f"/api/providers/{_name(name)}")

    def save_account(self, account: Json) -> Json:
        """The provider after an account was added, and what it said of the key."""
        return self._json("POST", "/api/providers", json=account, timeout=VERIFY_SECONDS)

    def change_account(self, name: str, account: str, changes: Json) -> Json:
        """The provider after a stored account was changed, and what it said of a new key."""
        path = f"/api/providers/{_name(name)}/accounts/{_name(account)}"
        return self._json("PATCH", path, json=changes, timeout=VERIFY_SECONDS)

    def delete_accounts(self, name: str, account: str | None) -> Json:
        """Delete one stored account of a provider, or all of them."""
        one = "" if account is None else f"/accounts/{_name(account)}"
        return self._json("DELETE", f"/api/providers/{_name(name)}{one}")

    def try_keys(self, name: str) -> Json:
        """What a provider says of the keys of its accounts."""
        path = f"/api/providers/{_name(name)}/test"
        return self._json("POST", path, json={}, timeout=VERIFY_SECONDS)

    def rotate_master_key(self) -> Json:
        """What became of encrypting all stored keys anew."""
        return self._json("POST", "/api/master-key/rotate", json={}, timeout=VERIFY_SECONDS)

    def usage(self, by: str, first_day: str, *, everybody: bool) -> Json:
        """What models cost from that day on."""
        wanted = {"by": by, "from": first_day, "all": everybody}
        return self._json("GET", "/v1/usage", params=wanted)

    def health(self) -> Json:
        """How the service is, and what is wrong."""
        return self._json("GET", "/health")

    def _thread_ids(self) -> Iterator[str]:
        cursor = None
        while True:
            page = self.threads(None, PAGE, cursor)
            yield from (str(thread["thread_id"]) for thread in page["threads"])
            if not (cursor := page["next_cursor"]):
                return

    def _json(self, method: str, path: str, **options: Any) -> Json:
        answer: Json = orjson.loads(self._call(method, path, **options))
        return answer

    def _call(self, method: str, path: str, **options: Any) -> bytes:
        self._check_open()
        with _connection_faults():
            response = self._http.request(method, path, **{"timeout": CALL_SECONDS, **options})
        if not response.is_success:
            raise _refusal(response.status_code, response.content)
        return response.content

    def _check_open(self) -> None:
        """Raises Disconnected when the command has ended: threads of its own may come too late."""
        if self._http.is_closed:
            raise Disconnected("The command is at its end already.")

    def _once(self, path: str, body: Json) -> Begin:
        headers = {_KEY: uuid4().hex}
        sent = {**body, "stream": True}
        return lambda: of_run(self._events("POST", path, json=sent, headers=headers))

    def _events(self, method: str, path: str, silence: float = SILENCE_SECONDS, **options: Any) -> Events:
        """The events of a stream. Raises Disconnected at its end, which is that of the service."""
        self._check_open()
        with (
            _connection_faults(),
            self._http.stream(method, path, timeout=silence, **options) as response,
        ):
            self._check_open()  # else a connection that was being made just then would stay
            if not response.is_success:
                raise _refusal(response.status_code, response.read())
            yield from server_sent_events(response.iter_bytes())
        raise Disconnected(
            "The service ended the stream before the run was done; `threads follow` comes back to it."
        )


def _segment(thread_id: str) -> str:
    """The id as one part of a path."""
    if not thread_id.replace("-", "").replace("_", "").isalnum() or not thread_id.isascii():
        raise Refused(404, "thread_not_found", f"There is no thread {thread_id[:64]!r}.")
    return thread_id


def _name(name: str) -> str:
    """A provider's or account's name as one part of a path."""
    return quote(name, safe="") or "-"


@contextmanager
def _connection_faults() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise Disconnected(
            f"The connection to the service failed ({type(error).__name__}); look whether it still runs."
        ) from None


def _refusal(status: int, content: bytes) -> Refused:
    try:
        error = orjson.loads(content)["error"]
        code, message, param = str(error["code"]), str(error["message"]), error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Refused(status, "unknown", f"The service answered with HTTP status {status}.")
    if code == "invalid_api_key":
        message += " Put it into AGENT_SERVICE_API_KEY."
    for route, command in _ROUTES.items():
        message = message.replace(route, f"`{command_name()} {command}`")
    return Refused(status, code, message, param)
