"""The service as a client sees it: the documented routes, over HTTP or a socket of our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import orjson

from agent_service.cli.fault import FAILED, WRONG_USAGE, Fault

SILENCE_SECONDS = 60.0
"""A stream without even a sign of life (the service sends one every 15 s) for so long is broken."""
REPLAY_SECONDS = 3.0
"""After so long without a further event those of a run that ended were all replayed."""
CANCEL_SECONDS = 40.0
"""A cancel waits for the tool call under way."""
REWIND_SECONDS = 60.0
"""A rewind may have many files to restore."""
VERIFY_SECONDS = 60.0
"""A provider is asked about a key, perhaps one account after the other."""
PRUNE_SECONDS = 600.0
"""Giving space back copies the whole database."""
MIN_ID_LENGTH = 4
"""Of the beginning of a thread's id that is taken for the id."""
UUID_LENGTH = 36
_KEY = "Idempotency-Key"
PAGE = 200
"""Threads asked for at once; the most that the service gives."""

Event = dict[str, Any]
Events = Generator[Event, None, None]
"""Those of one run; close it to leave early."""
Begin = Callable[[], Events]
"""Asks for the events of a run; to call it again does no harm."""
Json = dict[str, Any]


class Refused(Fault):
    """The service answered with an error; the exit code says whether the request was to blame."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message, WRONG_USAGE if status in (404, 422) else FAILED)
        self.status, self.code, self.param = status, code, param

    @property
    def is_repeated(self) -> bool:
        """Whether the request had arrived before and its run goes on."""
        return self.code == "thread_busy" and self.param == _KEY


class Disconnected(Fault):
    """The service left in the middle, or cannot be reached."""

    code = "disconnected"


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
        return self._events("GET", path, last["run_id"], silence, params={"after": last["seq"]})

    def follow_latest(self, thread: Json) -> Events:
        """The events of the thread's latest run from the first one that is kept.

        They come to an end in any case: that of a run that ended is told by the thread if by no event.
        """
        first = {"thread_id": thread["thread_id"], "run_id": thread["run_id"], "seq": 0}
        if thread["status"] == "running":
            yield from self.follow(first)
            return
        try:
            yield from _replayed(self.follow(first, REPLAY_SECONDS))
        except Disconnected:
            yield {**first, "kind": "run.finished", "response": thread["last_response"]}

    def threads(self, status: str | None, limit: int, cursor: str | None) -> Json:
        """A page of threads, the latest first."""
        wanted = {"status": status, "limit": limit, "cursor": cursor}
        given = {name: value for name, value in wanted.items() if value is not None}
        return self._json("GET", "/v1/agents/threads", params=given)

    def thread(self, thread_id: str) -> Json:
        """The thread and its latest run."""
        return self._json("GET", f"/v1/agents/threads/{_segment(thread_id)}")

    def full_id(self, beginning: str) -> str:
        """The id of the one thread whose id begins so (4 characters or more), else what was given.

        Raises Fault when several do.
        """
        if len(beginning) < MIN_ID_LENGTH or len(beginning) >= UUID_LENGTH:
            return beginning
        found = [name for name in self._thread_ids() if name.startswith(beginning)]
        if beginning in found or not found:
            return beginning
        if len(found) > 1:
            named = "".join(f"\n  {name}" for name in found[:10])
            raise Fault(f"several threads begin with {beginning}; give more of the id:{named}", WRONG_USAGE)
        return found[0]

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

    def history(self, thread_id: str, limit: int) -> Json:
        """A thread's newest checkpoints."""
        path = f"/v1/agents/threads/{_segment(thread_id)}/history"
        return self._json("GET", path, params={"limit": limit})

    def fork(self, thread_id: str, checkpoint_id: str | None) -> Json:
        """The new thread that goes on from a checkpoint, the latest by default."""
        body = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
        return self._json("POST", f"/v1/agents/threads/{_segment(thread_id)}/fork", json=body)

    def rewind(self, thread_id: str, checkpoint_id: str, *, files: bool) -> Json:
        """The thread after it was taken back, and what became of the files."""
        path = f"/v1/agents/threads/{_segment(thread_id)}/rewind"
        body = {"checkpoint_id": checkpoint_id, "files": files}
        return self._json("POST", path, json=body, timeout=REWIND_SECONDS)

    def prune(self, keep: int | None, older_than_days: float | None, *, delete: bool) -> Json:
        """What was cleared away of the finished threads, in numbers."""
        wanted = {"keep_checkpoints": keep, "older_than_days": older_than_days, "delete": delete}
        return self._json("POST", "/v1/agents/threads/prune", json=wanted, timeout=PRUNE_SECONDS)

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
        if self._http.is_closed:  # a cancel in a thread of its own may come too late
            raise Disconnected("the command is at its end already")
        with _connection_faults():
            response = self._http.request(method, path, **options)
        if not response.is_success:
            raise _refusal(response.status_code, response.content)
        return response.content

    def _once(self, path: str, body: Json) -> Begin:
        headers = {_KEY: uuid4().hex}
        return partial(self._events, "POST", path, json={**body, "stream": True}, headers=headers)

    def _events(
        self,
        method: str,
        path: str,
        run_id: str | None = None,
        silence: float = SILENCE_SECONDS,
        **options: Any,
    ) -> Events:
        """The events of one run up to `run.finished`. Raises Disconnected when the stream ends before it."""
        with (
            _connection_faults(),
            self._http.stream(method, path, timeout=silence, **options) as response,
        ):
            if not response.is_success:
                raise _refusal(response.status_code, response.read())
            for event in server_sent_events(response.iter_bytes()):
                if run_id is not None and event["run_id"] != run_id:
                    continue
                yield event
                if event["kind"] == "run.finished":
                    return
        raise Disconnected("the service ended the stream before the run was done")


def _replayed(events: Events) -> Events:
    """The events until nothing is told but what others change in the project. Then raises Disconnected."""
    since = time.monotonic()
    with closing(events):
        for event in events:
            if event["kind"] != "workspace.changed":
                since = time.monotonic()
            elif time.monotonic() > since + REPLAY_SECONDS:
                raise Disconnected("the run has no further events")
            yield event


def server_sent_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The `data` of each event of a stream (WHATWG HTML, section 9.2), decoded.

    Lines end at a line feed only: text in the JSON may hold other characters that end lines elsewhere.
    """
    rest, data = b"", b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data += line[5:].strip()
            elif not line.strip() and data:
                yield orjson.loads(data)
                data = b""


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
        raise Disconnected(f"the connection to the service failed ({type(error).__name__})") from None


def _refusal(status: int, content: bytes) -> Refused:
    try:
        error = orjson.loads(content)["error"]
        code, message, param = str(error["code"]), str(error["message"]), error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Refused(status, "unknown", f"The service answered with HTTP status {status}.")
    if code == "invalid_api_key":
        message += " Put it into AGENT_SERVICE_API_KEY."
    return Refused(status, code, message, param)
