"""What must be true of a piece of work (`tests.e2e.crashes`), however often the service died over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from sqlalchemy import select

from checkpoints.tables import effects, events, questions, runs
from tests.e2e.crashes import ANSWERS, EVENTS, FILES, HISTORY, MODEL_CALLS, Case, files_in
from tests.e2e.mortal import SIDE_FILE, Fault


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a case ended."""

    problems: tuple[str, ...]
    """What is not as it must be; empty when all is well."""
    passed: tuple[str, ...]
    """The points passed on the way."""
    deaths: int
    seconds: float
    """From the last death to the end of the work."""


def judge(case: Case, *faults: Fault) -> Verdict:
    """Do the work, dying at each fault in turn, and look at what came of it."""
    mark, refusals = case.deployment.moments.now(), len(case.upstream.refusals)
    try:
        case.run(*faults)
        passed = case.deployment.moments.since(mark)
        problems = [problem for check in _CHECKS for problem in check(case, passed)]
    except (AssertionError, httpx.HTTPError) as failure:
        passed = case.deployment.moments.since(mark)
        problems = [f"it came to no good end: {failure}", case.deployment.logs()]
    problems += case.upstream.refusals[refusals:]
    if faults and case.deaths != len(faults):
        problems.append(f"it died {case.deaths} times")
    return Verdict(tuple(problems), tuple(passed), case.deaths, case.seconds)


def _ended_well(case: Case, _: Sequence[str]) -> Iterator[str]:
    thread = case.deployment.get(f"/v1/agents/threads/{case.thread_id}")
    if (thread["status"], thread["agent_status"]) != ("idle", "completed"):
        yield f"the thread is {thread['status']}, {thread['agent_status']}: {case.served[-1].response}"


def _said_once(case: Case, _: Sequence[str]) -> Iterator[str]:
    """Each call has its answer, each answer its place, and the human was heard once."""
    history = tuple(
        " ".join(
            [
                message["role"],
                *(call["id"] for call in message["tool_calls"]),
                *([message["tool_call_id"]] if message["tool_call_id"] else []),
            ]
        )
        for message in _messages(case)
    )
    if history != HISTORY:
        yield f"the history is {history}"
    last = _bodies(case)[-1:]
    heard = [message["content"] for body in last for message in body["messages"] if message["role"] == "tool"]
    if heard.count(ANSWERS["ask_1"]) != 1:
        yield f"the model heard {heard}"


def _answered_once(case: Case, _: Sequence[str]) -> Iterator[str]:
    query = select(questions).where(questions.c.thread_id == case.thread_id)
    asked = sorted((row.tool_call_id, row.status, row.answer) for row in case.deployment.rows(query))
    if asked != sorted((call_id, "answered", answer) for call_id, answer in ANSWERS.items()):
        yield f"the questions are {asked}"


def _told_once(case: Case, _: Sequence[str]) -> Iterator[str]:
    """Whoever follows the thread hears of everything, of each thing once, and misses no number."""
    query = select(events).where(events.c.thread_id == case.thread_id).order_by(events.c.seq)
    rows = case.deployment.rows(query)
    if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
        yield f"the events are numbered {[row.seq for row in rows]}"
    told = Counter(f"{row.kind} {_call_of(orjson.loads(row.data))}".strip() for row in rows)
    told.pop("workspace.changed", None)
    if told != EVENTS:
        yield f"events lost: {dict(EVENTS - told)}; told too often: {dict(told - EVENTS)}"


def _call_of(event: dict[str, Any]) -> str:
    """The call that an event is about, if it is about one."""
    call_id: str = (event.get("human_input_request") or event).get("tool_call_id", "")
    return call_id


def _asked_the_model_once(case: Case, _: Sequence[str]) -> Iterator[str]:
    """Only the answer on its way when the service died may be asked for again."""
    calls = len(_bodies(case))
    if not MODEL_CALLS <= calls <= MODEL_CALLS + case.deaths:
        yield f"the model was asked {calls} times over {case.deaths} deaths"


def _one_response_each(case: Case, _: Sequence[str]) -> Iterator[str]:
    """A repeat of a request is answered as the request was, and costs nothing."""
    before = len(_bodies(case))
    for each in case.served:
        if case.send(each.path, each.body, each.key) != each.response:
            yield f"another response to {each.body}"
    if len(_bodies(case)) != before:
        yield "a repeated request asked the model"
    query = select(runs.c.run_id, runs.c.response).where(runs.c.thread_id == case.thread_id)
    stored = {row.run_id for row in case.deployment.rows(query) if row.response is not None}
    expected = {each.response["run_id"] for each in case.served}
    if stored != expected or len(case.deployment.rows(query)) != len(expected):
        yield f"runs {stored} have a response, {expected} were served"


def _wrote_once(case: Case, passed: Sequence[str]) -> Iterator[str]:
    """Three witnesses: what the files hold, whether they are still the same files, and the swaps."""
    expected = dict(FILES)
    if case.intrusion is not None:
        expected[case.intrusion.path] = case.intrusion.content
    found = {path: (inode, content) for path, inode, content in files_in(case.project)}
    for path, content in expected.items():
        if path not in found or found[path][1] != content:
            yield f"{path} holds {found.get(path)}"
        swaps = sum(line == f"file.swapped {path.rpartition('/')[2]}" for line in passed)
        if swaps > 1:
            yield f"{path} was written {swaps} times"
    for path, inode, content in case.left:
        if path in expected and content == expected[path] and found.get(path) != (inode, content):
            yield f"{path} was written again"
    if strange := found.keys() - expected.keys() - {"notes.txt", SIDE_FILE}:
        yield f"left in the project: {sorted(strange)}"


def _acted_once(case: Case, _: Sequence[str]) -> Iterator[str]:
    """What cannot be checked afterwards is never done twice, and the model learns what is not known."""
    side = case.project / SIDE_FILE
    lines = side.read_text().splitlines() if side.exists() else []
    answer = _tool_answer(case, "append_1")
    known = answer == "appended"
    if len(lines) > 1 or (known and not lines):
        yield f"the side file holds {lines}, and the model was told {answer!r}"
    if not known and not (case.deaths and "outcome is unknown" in answer):
        yield f"the model was told {answer!r} about a call that ended"


def _kept_the_journal(case: Case, _: Sequence[str]) -> Iterator[str]:
    query = select(effects).where(effects.c.thread_id == case.thread_id)
    states = {row.tool_call_id: row.state for row in case.deployment.rows(query)}
    expected = {"edit_1": "done", "write_1": "done", "append_1": "done"}
    if _tool_answer(case, "append_1") != "appended":
        expected["append_1"] = "begun"
    if case.intrusion is not None:
        expected[case.intrusion.refused] = "void"
        states.setdefault(case.intrusion.refused, "void")  # not even begun, if it was still to be approved
    if states != expected:
        yield f"the journal says {states}"


def _told_the_model(case: Case, _: Sequence[str]) -> Iterator[str]:
    if case.intrusion is None:
        return
    answer = _tool_answer(case, case.intrusion.refused)
    if not (answer.startswith("Error:") and "was changed" in answer):
        yield f"{case.intrusion.path} was changed, and the model was told {answer!r}"


_CHECKS = (
    _ended_well,
    _said_once,
    _answered_once,
    _told_once,
    _asked_the_model_once,
    _one_response_each,
    _wrote_once,
    _acted_once,
    _kept_the_journal,
    _told_the_model,
)


def _messages(case: Case) -> list[dict[str, Any]]:
    shown = case.deployment.get(f"/v1/agents/threads/{case.thread_id}/messages")
    messages: list[dict[str, Any]] = shown["messages"]
    return messages


def _tool_answer(case: Case, call_id: str) -> str:
    """What the model was told about a call."""
    return next((m["content"] for m in _messages(case) if m["tool_call_id"] == call_id), "")


def _bodies(case: Case) -> list[dict[str, Any]]:
    """What the model was asked for this case."""
    return [body for body in case.upstream.bodies if f"{case.thread_id}." in body["messages"][1]["content"]]
