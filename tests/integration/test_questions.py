"""From instruction to question to answer to changed files; every answer is taken exactly once."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.service import RunningService, sse, wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls, says, status, wait

ASK = ("ask_human_for_input", {"question": "Which name?"}, "ask_1")
WRITE = ("write_file", {"filepath": "name.txt", "content": "Orion\n"})


def test_the_whole_way(tmp_path: Path, project: Path) -> None:
    (project / "a.txt").write_text("old\n")
    script: list[ScriptItem] = [
        calls(("read_file", {"filepath": "a.txt"})),
        calls(ASK, text="I need a name."),
        calls(WRITE),
        "All done.",
    ]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        paused = service.invoke(
            "write the name", project_directory=str(project), thread_id="thread-01"
        ).json()
        assert paused["agent_status"] == "requires_human_input"
        assert paused["explanation"] == "I need a name."
        assert paused["human_input_request"] == {
            "tool_call_id": "ask_1",
            "question_for_human": "Which name?",
            "kind": "question",
            "options": None,
            "preview": None,
        }
        assert service.thread("thread-01")["status"] == "requires_human_input"
        done = service.resume("thread-01", "ask_1", "Orion").json()
        assert done["agent_status"] == "completed"
        assert done["explanation"] == "All done."
        assert done["generated_code"] is None
        assert done["files_changed"] == [
            {"path": "name.txt", "action": "created", "additions": 1, "deletions": 0}
        ]
        assert done["model_used"] == "up1/m1"
        assert done["usage"]["model_calls"] == 4
        assert (project / "name.txt").read_text() == "Orion\n"
        assert upstream.refusals == []
        answers = [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]
        assert answers[:2] == ["old\n", "Orion"]
        diff = service.client.get("/v1/agents/threads/thread-01/diff").json()["diff"]
        assert "+Orion" in diff


def test_calls_with_effects_wait_for_nobody_while_a_question_is_open(tmp_path: Path, project: Path) -> None:
    turn = calls(
        ("write_file", {"filepath": "p1", "content": "1"}, "w1"),
        ASK,
        ("write_file", {"filepath": "p2", "content": "2"}, "w2"),
    )
    with (
        ScriptedUpstream([turn, "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        paused = service.invoke(project_directory=str(project), thread_id="thread-01").json()
        assert paused["agent_status"] == "requires_human_input"
        assert list(project.iterdir()) == []
        assert service.resume("thread-01", "ask_1", "Orion").json()["agent_status"] == "completed"
        assert list(project.iterdir()) == []
        told = {
            m["tool_call_id"]: m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"
        }
        assert told["ask_1"] == "Orion"
        assert told["w1"].startswith("Error: not executed: a question to the human was open")
        assert told["w2"] == told["w1"]
        assert upstream.refusals == []


def test_two_questions_at_once_are_answered_one_by_one(tmp_path: Path) -> None:
    turn = calls(
        ("ask_human_for_input", {"question": "First?"}, "q1"),
        ("ask_human_for_input", {"question": "Second?", "options": ["a", "b"]}, "q2"),
    )
    with ScriptedUpstream([turn, "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        paused = service.invoke(thread_id="thread-01").json()
        assert [q["tool_call_id"] for q in paused["pending_requests"]] == ["q1", "q2"]
        assert paused["pending_requests"][1]["options"] == ["a", "b"]
        between = service.resume("thread-01", "q2", "b").json()
        assert between["agent_status"] == "requires_human_input"
        assert [q["tool_call_id"] for q in between["pending_requests"]] == ["q1"]
        done = service.resume("thread-01", "q1", "one").json()
        assert done["agent_status"] == "completed"
        told = {
            m["tool_call_id"]: m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"
        }
        assert told == {"q1": "one", "q2": "b"}
        assert len(upstream.requests) == 2


def _at_once(service: RunningService, answers: list[str]) -> list[tuple[int, dict[str, Any]]]:
    def one(answer: str) -> tuple[int, dict[str, Any]]:
        response = service.resume("thread-01", "ask_1", answer)
        return response.status_code, response.json()

    with ThreadPoolExecutor(len(answers)) as pool:
        return list(pool.map(one, answers))


def test_of_eight_different_answers_at_once_one_wins(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id="thread-01")
        results = _at_once(service, [f"name {n}" for n in range(8)])
        assert sorted(code for code, _ in results) == [200] + [409] * 7
        assert {body["error"]["code"] for code, body in results if code == 409} == {"already_answered"}
        assert len(upstream.requests) == 2


def test_of_eight_equal_answers_at_once_one_runs(tmp_path: Path) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [calls(ASK), wait(release, "ok")]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id="thread-01")
        threading.Timer(0.5, release.set).start()
        results = _at_once(service, ["Orion"] * 8)
        assert sorted(code for code, _ in results) == [200] + [409] * 7
        assert {body["error"]["code"] for code, body in results if code == 409} == {"thread_busy"}
        again = service.resume("thread-01", "ask_1", "Orion")
        assert again.status_code == 200
        assert again.json() == next(body for code, body in results if code == 200)
        assert len(upstream.requests) == 2
        roles = [m["role"] for m in upstream.bodies[-1]["messages"]]
        assert roles.count("tool") == 1


def test_late_stale_and_made_up_answers_change_nothing(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id="thread-01")
        made_up = service.resume("thread-01", "call_other", "x")
        assert (made_up.status_code, made_up.json()["error"]["code"]) == (409, "not_waiting")
        assert service.resume("thread-01", "ask_1", "Orion").status_code == 200
        late = service.resume("thread-01", "ask_1", "Vega")
        assert (late.status_code, late.json()["error"]["code"]) == (409, "already_answered")
        stale = service.resume("thread-01", "call_other", "x")
        assert (stale.status_code, stale.json()["error"]["code"]) == (409, "not_waiting")
        assert len(upstream.requests) == 2


def test_a_blank_answer_is_none(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "done"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id="thread-01")
        for blank in ("", "  \n"):
            refused = service.resume("thread-01", "ask_1", blank)
            assert refused.status_code == 422
            assert refused.json()["error"]["param"] == "human_response"
            assert "blank" in refused.json()["error"]["message"]
        assert service.resume("thread-01", "ask_1", "Orion").json()["agent_status"] == "completed"


def test_a_waiting_thread_takes_no_instruction(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id="thread-01")
        refused = service.invoke("something else", thread_id="thread-01")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "question_open")
        assert "Which name?" in refused.json()["error"]["message"]
        assert service.resume("thread-01", "ask_1", "Orion").json()["agent_status"] == "completed"


def test_a_cancelled_question_leaves_a_sound_thread(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id="thread-01")
        cancelled = service.client.post("/v1/agents/threads/thread-01/cancel", json={})
        assert cancelled.status_code == 200
        assert cancelled.json()["status"] == "idle"
        assert cancelled.json()["human_input_request"] is None
        assert cancelled.json()["last_response"]["error_code"] == "cancelled"
        late = service.resume("thread-01", "ask_1", "Orion")
        assert (late.status_code, late.json()["error"]["code"]) == (409, "not_waiting")
        assert service.invoke("go on", thread_id="thread-01").json()["agent_status"] == "completed"
        told = [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]
        assert told == ["Error: the question was cancelled by the user."]
        assert upstream.refusals == []


def test_an_answer_is_kept_when_the_provider_fails_after_it(tmp_path: Path) -> None:
    script: list[ScriptItem] = [calls(ASK), status(500), "ok"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id="thread-01")
        failed = service.resume("thread-01", "ask_1", "Orion").json()
        assert failed["agent_status"] == "error"
        assert "up1" in failed["error_details"]
        assert service.thread("thread-01")["status"] == "error"
        assert service.invoke("go on", thread_id="thread-01").json()["agent_status"] == "completed"
        assert "Orion" in [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]


def test_an_approval_shows_the_diff_and_takes_a_clear_yes(tmp_path: Path, project: Path) -> None:
    (project / "name.txt").write_text("Vega\n")
    write = (*WRITE, "w1")
    with (
        ScriptedUpstream([calls(write), "ok"]) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {"write_file": "ask"}}) as service,
    ):
        paused = service.invoke(project_directory=str(project), thread_id="thread-01").json()
        request = paused["human_input_request"]
        assert (request["kind"], request["tool_call_id"]) == ("approval", "w1")
        assert "-Vega\n+Orion\n" in request["preview"]
        unclear = service.resume("thread-01", "w1", "yes, but call it Lyra")
        assert (unclear.status_code, unclear.json()["error"]["code"]) == (422, "answer_unclear")
        assert (project / "name.txt").read_text() == "Vega\n"
        assert service.resume("thread-01", "w1", " YES ").json()["agent_status"] == "completed"
        assert (project / "name.txt").read_text() == "Orion\n"
        assert len(upstream.requests) == 2


def test_a_no_with_words_reaches_the_model_as_such(tmp_path: Path, project: Path) -> None:
    with (
        ScriptedUpstream([calls((*WRITE, "w1")), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01", approvals={"write_file": "ask"})
        assert service.resume("thread-01", "w1", "rather in names.md").json()["agent_status"] == "completed"
        told = upstream.bodies[-1]["messages"][-1]["content"]
        assert told.startswith("Error: the human refused this and said: rather in names.md")
        assert list(project.iterdir()) == []


def test_what_the_user_changed_while_asked_for_approval_stands(tmp_path: Path, project: Path) -> None:
    (project / "name.txt").write_text("Vega\n")
    with (
        ScriptedUpstream([calls((*WRITE, "w1")), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01", approvals={"write_file": "ask"})
        (project / "name.txt").write_text("mine\n")
        service.resume("thread-01", "w1", "yes")
        assert (project / "name.txt").read_text() == "mine\n"
        assert "was changed" in upstream.bodies[-1]["messages"][-1]["content"]


def test_a_replaced_project_folder_opens_a_question(tmp_path: Path, project: Path) -> None:
    with (
        ScriptedUpstream([calls(ASK), calls(WRITE), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01")
        project.rename(tmp_path / "moved")
        project.mkdir()
        asked = service.resume("thread-01", "ask_1", "Orion").json()
        assert asked["human_input_request"]["kind"] == "approval"
        assert "was replaced" in asked["human_input_request"]["question_for_human"]
        assert len(upstream.requests) == 1
        done = service.resume("thread-01", asked["human_input_request"]["tool_call_id"], "yes").json()
        assert done["agent_status"] == "completed"
        assert (project / "name.txt").read_text() == "Orion\n"
        assert "Orion" in [m["content"] for m in upstream.bodies[1]["messages"] if m["role"] == "tool"]


def test_an_answer_while_the_project_folder_is_away_is_not_used_up(tmp_path: Path, project: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id="thread-01")
        project.rename(tmp_path / "away")
        refused = service.resume("thread-01", "ask_1", "Orion")
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "thread_id")
        assert "put it back, then answer again" in refused.json()["error"]["message"]
        assert service.thread("thread-01")["status"] == "requires_human_input"
        (tmp_path / "away").rename(project)
        assert service.resume("thread-01", "ask_1", "Orion").json()["agent_status"] == "completed"
        assert "Orion" in [m["content"] for m in upstream.bodies[1]["messages"] if m["role"] == "tool"]


def test_an_answer_to_what_was_not_carried_out_reaches_the_model(tmp_path: Path, project: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(project_directory=str(project), thread_id="thread-01")
        project.rename(tmp_path / "away")
        project.mkdir()
        replaced = service.resume("thread-01", "ask_1", "Orion").json()["human_input_request"]
        refused = service.resume("thread-01", replaced["tool_call_id"], "no").json()
        assert (refused["agent_status"], refused["error_code"]) == ("error", "misconfigured")
        project.rmdir()
        (tmp_path / "away").rename(project)
        assert service.invoke("go on", thread_id="thread-01").json()["agent_status"] == "completed"
        [told] = [m["content"] for m in upstream.bodies[1]["messages"] if m["role"] == "tool"]
        assert told.startswith("Error: not executed") and told.endswith("and had answered: Orion")


def test_idempotency_key_gives_the_same_response_byte_for_byte(tmp_path: Path) -> None:
    release = threading.Event()
    script: list[ScriptItem] = [wait(release, says("ok"))]
    headers = {"Idempotency-Key": "k-1"}
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(service.invoke, "say ok", thread_id="thread-01", headers=headers)
            wait_until(lambda: upstream.requests)
            busy = service.invoke("say ok", thread_id="thread-01", headers=headers)
            assert (busy.status_code, busy.json()["error"]["code"]) == (409, "thread_busy")
            assert int(busy.headers["retry-after"]) >= 1
            release.set()
            response = first.result()
        again = service.invoke("say ok", thread_id="thread-01", headers=headers)
        assert again.content == response.content
        other = service.invoke("say no", thread_id="thread-01", headers=headers)
        assert other.status_code == 422
        assert len(upstream.requests) == 1


def test_the_same_answer_with_a_new_key_gives_the_same_outcome_and_again(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "Done."]) as upstream, RunningService(tmp_path, upstream) as service:
        service.invoke(thread_id="thread-01")
        first = service.resume("thread-01", "ask_1", "Orion")
        for _ in range(3):
            again = service.resume("thread-01", "ask_1", "Orion", headers={"Idempotency-Key": "k-1"})
            assert (again.status_code, again.content) == (200, first.content)
        assert len(upstream.requests) == 2


def test_a_stream_tells_everything_and_ends_with_the_response(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([calls(ASK), "All done."]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        body = {"instruction": "go", "thread_id": "thread-01", "stream": True}
        with service.client.stream("POST", "/v1/agents/code/invoke", json=body) as response:
            asked = list(sse(response))
        assert asked[0].kind == "run.started"
        assert [e.kind for e in asked[-2:]] == ["question.opened", "run.finished"]
        assert asked[-1].data["response"]["agent_status"] == "requires_human_input"
        answer = {"thread_id": "thread-01", "tool_call_id": "ask_1", "human_response": "Orion"}
        headers = {"Accept": "text/event-stream"}
        with service.client.stream("POST", "/v1/agents/resume", json=answer, headers=headers) as response:
            told = list(sse(response))
        kinds = [e.kind for e in told]
        assert kinds[0] == "run.started"
        assert kinds.count("run.finished") == 1
        assert {"question.answered", "tool.finished", "token", "message"} <= set(kinds)
        assert "".join(e.data["text"] for e in told if e.kind == "token") == "All done."
        stored = [e for e in (*asked, *told) if e.kind != "token"]
        assert [e.data["seq"] for e in stored] == list(range(1, len(stored) + 1))
        assert [e.id for e in stored] == [str(e.data["seq"]) for e in stored]
        assert {e.id for e in told if e.kind == "token"} == {None}
        with service.client.stream(
            "POST", "/v1/agents/code/invoke", json={**body, "stream": "yes"}
        ) as refused:
            assert refused.status_code == 422
            assert json.loads(refused.read())["error"]["param"] == "stream"


def test_a_run_in_the_background_can_be_followed(tmp_path: Path) -> None:
    release = threading.Event()
    with (
        ScriptedUpstream([wait(release, "ok")]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        accepted = service.invoke(thread_id="thread-01", background=True)
        assert accepted.status_code == 202
        assert service.thread("thread-01")["status"] == "running"
        assert service.thread("thread-01")["agent_status"] is None
        with service.client.stream("GET", "/v1/agents/threads/thread-01/events") as response:
            release.set()
            events = []
            for event in sse(response):
                events.append(event.kind)
                if event.kind == "run.finished":
                    break
        assert events[-1] == "run.finished"
        assert service.thread("thread-01")["run_id"] == accepted.json()["run_id"]
        assert service.thread("thread-01")["agent_status"] == "completed"


def test_an_answer_after_a_restart_finds_a_server_on_this_machine_first(tmp_path: Path) -> None:
    pages = {
        "/api/version": {"version": "0.12.0"},
        "/api/tags": {"models": [{"name": "coder:70b", "details": {"parameter_size": "70B"}}]},
        "/api/ps": {"models": []},
        "/api/show": {"capabilities": ["completion", "tools"], "model_info": {}},
    }
    with ScriptedUpstream([calls(ASK), "ok"], pages=pages) as upstream:
        options: dict[str, Any] = {
            "environ": {"OLLAMA_HOST": f"127.0.0.1:{upstream.port}"},
            "router": {"detect_local": True},
        }
        with RunningService(tmp_path, **options) as service:
            assert service.invoke(thread_id="thread-01").json()["model_used"] == "ollama/coder:70b"
        with RunningService(tmp_path, **options) as service:
            assert service.resume("thread-01", "ask_1", "Orion").json()["agent_status"] == "completed"


def test_without_a_model_an_answer_is_not_used_up(tmp_path: Path) -> None:
    with ScriptedUpstream([calls(ASK), "ok"]) as upstream:
        with RunningService(tmp_path, upstream) as service:
            service.invoke(thread_id="thread-01")
        with RunningService(tmp_path) as service:
            assert service.resume("thread-01", "ask_1", "Orion").status_code == 503
        with RunningService(tmp_path, upstream) as service:
            assert service.resume("thread-01", "ask_1", "Orion").json()["agent_status"] == "completed"
