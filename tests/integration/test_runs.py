"""What a model may do to a run: nothing that leaves its thread broken."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import id as ids

from agent_service.agent import supervisor
from tests.service import RunningService, sse, wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls, cut_after, hang, raw, says, status, wait

READ = ("read_file", {"filepath": "a.txt"})


def _answers(upstream: ScriptedUpstream, request: int = -1) -> list[str]:
    return [m["content"] for m in upstream.bodies[request]["messages"] if m["role"] == "tool"]


def test_plain_answers_are_split_into_code_and_prose(tmp_path: Path) -> None:
    text = "Here:\n```py\nprint('hi')\n```\nand in a shell:\n```sh\npython hi.py --a-long-command\n```\nBye."
    with ScriptedUpstream([text, text]) as upstream, RunningService(tmp_path, upstream) as service:
        answer = service.invoke("write it", language="py").json()
        assert answer["generated_code"] == "print('hi')"
        assert answer["explanation"] == "Here:\nand in a shell:\nBye."
        assert answer["request_params"] == {"instruction": "write it", "language": "py"}
        longest = service.invoke("write it").json()
        assert longest["generated_code"] == "python hi.py --a-long-command"
        assert "py" in upstream.bodies[0]["messages"][1]["content"]
        assert [t["function"]["name"] for t in upstream.bodies[0]["tools"]] == ["ask_human_for_input"]


@pytest.mark.parametrize(
    "answer", [says("```python\nprint("), says("half of it", finish="length")], ids=["fence", "length"]
)
def test_a_truncated_answer_is_an_error(tmp_path: Path, answer: Any) -> None:
    with ScriptedUpstream([answer, "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        first = service.invoke(thread_id="thread-01").json()
        assert first["agent_status"] == "error"
        assert "cut off" in first["error_details"]
        assert service.invoke(thread_id="thread-01").json()["agent_status"] == "completed"


@pytest.mark.parametrize(
    "arguments", ['{"filepath": ', "[]", "null", '{"filepath": 5}', "{}", '{"filepath": NaN}']
)
def test_bad_arguments_are_told_to_the_model_with_the_schema(
    tmp_path: Path, project: Path, arguments: str
) -> None:
    script: list[ScriptItem] = [calls(("read_file", arguments)), "ok"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
        [answer] = _answers(upstream)
        assert answer.startswith("Error: ")
        assert '"filepath"' in answer
        assert upstream.refusals == []


def test_an_unknown_tool_is_told_with_the_known_ones(tmp_path: Path, project: Path) -> None:
    with (
        ScriptedUpstream([calls(("run_shell", {"x": 1})), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
        [answer] = _answers(upstream)
        assert answer.startswith("Error: ")
        assert "read_file" in answer


def test_sixty_calls_in_one_answer_get_sixty_answers_in_order(tmp_path: Path, project: Path) -> None:
    for number in range(60):
        (project / f"f{number}").write_text(f"content {number}")
    many = calls(*(("read_file", {"filepath": f"f{n}"}, f"c{n}") for n in range(60)))
    with ScriptedUpstream([many, "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
        assert _answers(upstream) == [f"content {n}" for n in range(60)]


def test_more_calls_than_allowed_in_one_answer_are_refused_one_by_one(tmp_path: Path, project: Path) -> None:
    many = calls(*(("write_file", {"filepath": f"f{n}", "content": "x"}, f"c{n}") for n in range(5)))
    with (
        ScriptedUpstream([many, "ok"]) as upstream,
        RunningService(tmp_path, upstream, agent={"max_tool_calls_per_turn": 3}) as service,
    ):
        assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
        answers = _answers(upstream)
        assert len(answers) == 5
        assert all(a.startswith("Error: not executed") for a in answers[3:])
        assert sorted(p.name for p in project.iterdir()) == ["f0", "f1", "f2"]


def test_calls_on_one_path_keep_their_order(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [
        calls(
            ("write_file", {"filepath": "a.txt", "content": "one"}),
            ("write_file", {"filepath": "./a.txt", "content": "two"}),
            ("read_file", {"filepath": "a.txt"}),
            ("write_file", {"filepath": "a.txt", "content": "three"}),
        ),
        "ok",
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        response = service.invoke(project_directory=str(project)).json()
        assert (project / "a.txt").read_text() == "three"
        assert _answers(upstream)[2] == "two"
        assert response["files_changed"] == [
            {"path": "a.txt", "action": "created", "additions": 1, "deletions": 0}
        ]


def test_tool_calls_for_ever_meet_the_step_limit(tmp_path: Path, project: Path) -> None:
    (project / "a.txt").write_text("x")
    with (
        ScriptedUpstream(otherwise=calls(READ)) as upstream,
        RunningService(tmp_path, upstream, agent={"max_steps": 4}) as service,
    ):
        stopped = service.invoke(project_directory=str(project), thread_id="thread-01").json()
        assert stopped["agent_status"] == "error"
        assert "max_steps" in stopped["error_details"]
        assert len(upstream.requests) == 4
        upstream.otherwise = "done now"
        assert service.invoke("finish", thread_id="thread-01").json()["agent_status"] == "completed"
        assert upstream.refusals == []


def test_the_wall_time_limit_ends_a_hanging_call(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([hang(), "ok"]) as upstream,
        RunningService(tmp_path, upstream, agent={"max_run_seconds": 0.5}) as service,
    ):
        stopped = service.invoke(thread_id="thread-01").json()
        assert stopped["agent_status"] == "error"
        assert "max_run_seconds" in stopped["error_details"]


def test_repeated_missing_and_odd_call_ids_are_replaced(tmp_path: Path, project: Path) -> None:
    (project / "a.txt").write_text("x")
    script: list[ScriptItem] = [
        calls((*READ, "same"), (*READ, "same")),
        calls((*READ, "same"), (*READ, "")),
        calls((*READ, "x" * 65), (*READ, "not allowed!")),
        "ok",
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
        assert upstream.refusals == []
        ids = [c["id"] for m in upstream.bodies[-1]["messages"] for c in m.get("tool_calls", ())]
        assert ids[0] == "same"
        assert len(set(ids)) == 6
        assert _answers(upstream) == ["x"] * 6


def test_a_second_provider_takes_over_in_mid_thread(tmp_path: Path, project: Path) -> None:
    (project / "a.txt").write_text("x")
    with (
        ScriptedUpstream([calls(READ), status(429, retry_after=3600)]) as first,
        ScriptedUpstream(["done by the second"]) as second,
        RunningService(tmp_path, first, second) as service,
    ):
        body = {"instruction": "go", "project_directory": str(project), "stream": True}
        with service.client.stream("POST", "/v1/agents/code/invoke", json=body) as response:
            events = list(sse(response))
        final = events[-1].data["response"]
        assert final["agent_status"] == "completed"
        assert final["models_used"] == ["up1/m1", "up2/m1"]
        assert final["model_used"] == "up2/m1"
        [switched] = [e.data for e in events if e.kind == "model.switched"]
        assert (switched["from"], switched["to"]) == ("up1/m1", "up2/m1")
        assert second.refusals == []
        assert [m["content"] for m in second.bodies[0]["messages"] if m["role"] == "tool"] == ["x"]


def test_an_answer_that_breaks_off_is_asked_for_again(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([cut_after(4), "whole this time"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        answer = service.invoke(thread_id="thread-01").json()
        assert answer["agent_status"] == "completed"
        assert answer["explanation"] == "whole this time"


def test_with_all_providers_down_the_run_fails_and_the_thread_lives(tmp_path: Path) -> None:
    with ScriptedUpstream([status(500), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        failed = service.invoke(thread_id="thread-01")
        assert failed.status_code == 200
        assert failed.json()["agent_status"] == "error"
        assert failed.json()["error_details"]
        assert service.invoke("again", thread_id="thread-01").json()["agent_status"] == "completed"
        assert upstream.refusals == []


def test_without_any_provider_the_way_out_is_told(tmp_path: Path) -> None:
    with RunningService(tmp_path) as service:
        for response in (
            service.invoke(),
            service.client.post(
                "/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]}
            ),
        ):
            assert response.status_code == 503
            assert "local install" in response.json()["error"]["message"]
        assert service.client.get("/health").json()["status"] == "degraded"


def test_one_run_at_a_time(tmp_path: Path) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [wait(release, "first"), "second"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(service.invoke, "one", thread_id="thread-01")
            wait_until(lambda: upstream.requests)
            busy = service.invoke("two", thread_id="thread-01")
            assert (busy.status_code, busy.json()["error"]["code"]) == (409, "thread_busy")
            assert int(busy.headers["retry-after"]) >= 1
            release.set()
            assert first.result().json()["explanation"] == "first"
        assert service.invoke("two", thread_id="thread-01").json()["explanation"] == "second"
        contents = [m["content"] for m in upstream.bodies[-1]["messages"][1:]]
        assert contents == ["one", "first", "two"]


def test_a_running_thread_is_cancelled_at_once(tmp_path: Path) -> None:
    with ScriptedUpstream([hang(), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(service.invoke, thread_id="thread-01")
            wait_until(lambda: upstream.requests)
            cancelled = service.client.post("/v1/agents/threads/thread-01/cancel", json={})
            assert cancelled.json()["status"] == "idle"
            ended = running.result().json()
        assert (ended["agent_status"], ended["error_details"], ended["error_code"]) == (
            "error",
            "The run was cancelled by the user.",
            "cancelled",
        )
        again = service.invoke("again", thread_id="thread-01").json()
        assert (again["agent_status"], again["error_code"]) == ("completed", None)
        idle = service.client.post("/v1/agents/threads/thread-01/cancel", json={})
        assert (idle.status_code, idle.json()["status"]) == (200, "idle")


def test_a_cancel_stops_the_run_that_it_found_and_not_the_next_one(tmp_path: Path) -> None:
    release = threading.Event()
    held: list[ScriptItem] = [wait(release, "one"), wait(release, "two")]
    with (
        ScriptedUpstream(held) as upstream,
        RunningService(tmp_path, upstream) as service,
        RunningService(tmp_path, upstream) as elsewhere,
        ThreadPoolExecutor(2) as pool,
    ):

        def one_after_the_other() -> list[dict[str, Any]]:
            first = service.invoke("first", thread_id="thread-01").json()
            while (second := service.invoke("second", thread_id="thread-01")).status_code == 409:
                time.sleep(0.01)
            return [first, second.json()]

        running = pool.submit(one_after_the_other)
        wait_until(lambda: upstream.requests)
        cancelling = pool.submit(elsewhere.client.post, "/v1/agents/threads/thread-01/cancel", json={})
        wait_until(lambda: len(upstream.requests) == 2)
        assert cancelling.result().status_code == 200  # it looks again, and finds another run
        release.set()
        first, second = running.result()
        assert first["error_details"] == "The run was cancelled by the user."
        assert (second["agent_status"], second["explanation"]) == ("completed", "two")


def test_a_client_that_leaves_neither_stops_the_run_nor_blocks_the_thread(tmp_path: Path) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [wait(release, "first"), "second"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        body = {"instruction": "one", "thread_id": "thread-01", "stream": True}
        with service.client.stream("POST", "/v1/agents/code/invoke", json=body):
            wait_until(lambda: upstream.requests)
        release.set()
        wait_until(lambda: service.thread("thread-01")["status"] == "idle")
        assert service.thread("thread-01")["last_response"]["explanation"] == "first"
        assert service.invoke("two", thread_id="thread-01").json()["explanation"] == "second"


def test_surrogates_in_arguments_are_refused_and_the_thread_still_loads(
    tmp_path: Path, project: Path
) -> None:
    arguments = '{"filepath": "a.txt", "content": "a\\ud800b"}'
    script: list[ScriptItem] = [calls(("write_file", arguments)), says("bad \ud7ff text"), "ok"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        assert service.invoke(project_directory=str(project), thread_id="thread-01").json()[
            "agent_status"
        ] == ("completed")
        assert _answers(upstream)[0].startswith("Error:")
        assert list(project.iterdir()) == []
        assert service.invoke("again", thread_id="thread-01").json()["agent_status"] == "completed"


def test_unknown_models_and_providers_never_become_a_run(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        model = service.invoke(model="up1/m2", thread_id="thread-01")
        assert (model.status_code, model.json()["error"]["code"]) == (404, "model_not_found")
        provider = service.invoke(provider="nobody", thread_id="thread-01")
        assert (provider.status_code, provider.json()["error"]["code"]) == (404, "provider_not_found")
        assert service.client.get("/v1/agents/threads/thread-01").status_code == 404


def odd_call(arguments: Any, **fields: Any) -> dict[str, Any]:
    """A delta with one tool call that is not quite as it should be."""
    return {"tool_calls": [{"id": "c1", **fields, "function": {"name": "read_file", "arguments": arguments}}]}


ODD_DELTAS: list[dict[str, Any]] = [
    odd_call({"filepath": "a.txt"}, index=0),
    odd_call('{"filepath": "a.txt"}', index="0", id=5),
    odd_call('{"n": 1e999}'),
    odd_call('{"__invalid_json__": 5}'),
    odd_call('{"a":' * 300 + "1" + "}" * 300),
    {"tool_calls": [{"index": None, "id": "c1", "function": {"name": 7, "arguments": "{}"}}, None, "x"]},
    {"tool_calls": {"0": {}}, "content": "text"},
    {"content": ["a", "b"]},
    {"content": "text", "tool_calls": "none"},
    {"content": None, "refusal": "I will not."},
]
ODD_USAGES: list[Any] = [None, "many", [1], {"prompt_tokens": "7", "completion_tokens": {}}]


@pytest.mark.parametrize("delta", ODD_DELTAS, ids=range(len(ODD_DELTAS)))
@pytest.mark.parametrize("usage", ODD_USAGES, ids=str)
def test_odd_answers_leave_a_sound_thread(
    tmp_path: Path, project: Path, delta: dict[str, Any], usage: Any
) -> None:
    (project / "a.txt").write_text("x")
    finish = "tool_calls" if delta.get("tool_calls") else "stop"
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": usage}
    event = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
    with (
        ScriptedUpstream([raw(event, content_type="text/event-stream")], otherwise="fine") as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        odd = service.invoke(project_directory=str(project), thread_id="thread-01")
        assert odd.status_code == 200
        assert "its log says why" not in odd.text
        assert service.client.get("/v1/agents/threads/thread-01/messages").status_code == 200
        assert service.invoke("go on", thread_id="thread-01").json()["agent_status"] == "completed"
        assert upstream.refusals == []


def test_parallel_calls_without_an_index_stay_apart(tmp_path: Path, project: Path) -> None:
    (project / "a.txt").write_text("A")
    (project / "b.txt").write_text("B")
    pieces = [
        {"id": name, "function": {"name": "read_file", "arguments": json.dumps({"filepath": f"{name}.txt"})}}
        for name in ("a", "b")
    ]
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": pieces}, "finish_reason": "tool_calls"}]}
    event = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
    script: list[ScriptItem] = [raw(event, content_type="text/event-stream"), "ok"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
        assert _answers(upstream) == ["A", "B"]


def test_a_model_that_says_nothing_at_its_limit_does_not_poison_the_thread(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([says("", finish="length"), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        assert service.invoke(thread_id="thread-01").json()["agent_status"] == "error"
        assert service.invoke("again", thread_id="thread-01").json()["agent_status"] == "completed"
        assert upstream.refusals == []


def test_thousands_of_calls_in_one_answer_do_not_stop_the_service(tmp_path: Path, project: Path) -> None:
    many = calls(*(("read_file", {"filepath": "a.txt"}, f"c{n}") for n in range(5_000)))
    with ScriptedUpstream([many, "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
        assert upstream.refusals == []
        assert len(_answers(upstream)) <= 256


def test_a_process_whose_clock_is_behind_goes_on_where_the_thread_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedUpstream(["One.", "Two."]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke("one", thread_id="thread-01")
        real = time.time_ns
        monkeypatch.setattr(ids, "_last_v6_timestamp", None)
        monkeypatch.setattr(time, "time_ns", lambda: real() - 60 * 10**9)
        with RunningService(tmp_path, upstream) as service:
            assert service.invoke("two", thread_id="thread-01").json()["explanation"] == "Two."
            told = service.client.get("/v1/agents/threads/thread-01/messages").json()["messages"]
            assert [message["content"] for message in told] == ["one", "One.", "two", "Two."]


def test_a_run_that_a_shutdown_has_no_time_for_is_told_to_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "DRAIN_SECONDS", 0.3)
    with (
        ScriptedUpstream([hang()]) as upstream,
        RunningService(tmp_path, upstream) as service,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(service.invoke, "one")
        wait_until(lambda: upstream.requests)
        service.service.drain()
        told = running.result(10)
        assert (told.status_code, told.json()["error"]["code"]) == (503, "shutting_down")
        assert int(told.headers["Retry-After"]) >= 1
