"""Money: what calls cost is counted exactly, budgets hold, and answers that cannot differ are given again."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.databases import Place
from tests.service import MODEL, RunningService, provider_row, wait_until
from tests.upstream import ScriptedUpstream, ScriptItem, calls, cut_after, hang, raw, says, status, wait

HI = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
PRICED = {**MODEL, "input_price": 2.0, "output_price": 10.0, "cached_input_price": 0.5, "max_output": 1000}
"""A token of its answer costs as much as five of its prompt."""
DETAILS = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "total_tokens": 1200,
    "prompt_tokens_details": {"cached_tokens": 600},
    "completion_tokens_details": {"reasoning_tokens": 150},
}
COST_OF_DETAILS = (400 * 2.0 + 600 * 0.5 + 200 * 10.0) / 1e6


def service(
    home: Path, upstream: ScriptedUpstream, place: Place | None = None, **sections: Any
) -> RunningService:
    """A service whose one model has prices; on that database."""
    model = sections.pop("model", PRICED)
    row = provider_row(upstream, models=[model], tier="paid")
    if isinstance(place, str):
        sections["state"] = {"url": place}
    return RunningService(home, providers={"up1": row}, **sections)


def whole(usage: dict[str, Any] | None) -> Any:
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return raw(json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode())


def streamed(text: str, usage: dict[str, Any] | None) -> Any:
    """A stream of one word a chunk."""
    deltas = [{"content": word} for word in text.split(" ")]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        chunks.append({"choices": [], "usage": usage})
    events = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks)
    return raw(events + b"data: [DONE]\n\n", content_type="text/event-stream")


def used(running: RunningService, **wanted: Any) -> dict[str, Any]:
    report: dict[str, Any] = running.client.get("/v1/usage", params=wanted).raise_for_status().json()
    return report


def events(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def test_the_providers_own_counts_are_what_is_reported(tmp_path: Path, place: Place) -> None:
    script: list[ScriptItem] = [whole(DETAILS), streamed("a b c", DETAILS), status(500)]
    with ScriptedUpstream(script) as upstream, service(tmp_path, upstream, place) as running:
        running.client.post(CHAT, json=HI).raise_for_status()
        running.client.post(CHAT, json={**HI, "stream": True}).raise_for_status()
        assert running.client.post(CHAT, json=HI).status_code == 502
        total = used(running)["total"]
        assert (total["calls"], total["failed"], total["estimated_calls"]) == (3, 1, 0)
        assert (total["prompt_tokens"], total["completion_tokens"]) == (2000, 400)
        assert (total["cached_tokens"], total["reasoning_tokens"]) == (1200, 300)
        assert total["cost_usd"] == pytest.approx(2 * COST_OF_DETAILS, abs=1e-12)
        assert total["unpriced_calls"] == 0
        assert 0 < total["ttft"] < total["latency"] * 2


def test_every_grouping_adds_up(tmp_path: Path, place: Place) -> None:
    with (
        ScriptedUpstream(otherwise="ok") as upstream,
        service(tmp_path, upstream, place) as running,
    ):
        running.invoke(thread_id="thread-01").raise_for_status()
        running.invoke(thread_id="thread-02").raise_for_status()
        running.client.post(CHAT, json=HI).raise_for_status()
        today = datetime.now(UTC).date()
        expected: dict[str, list[str | None]] = {
            "day": [today.isoformat()],
            "provider": ["up1"],
            "model": ["up1/m1"],
            "thread": ["thread-01", "thread-02", None],
        }
        for by, names in expected.items():
            report = used(running, by=by)
            assert {entry["name"] for entry in report["entries"]} == set(names)
            assert sum(entry["calls"] for entry in report["entries"]) == report["total"]["calls"] == 3
            costs = [entry["cost_usd"] for entry in report["entries"]]
            assert sum(costs) == pytest.approx(3 * (11 * 2.0 + 7 * 10.0) / 1e6, abs=1e-12)
        yesterday = (today - timedelta(days=1)).isoformat()
        assert used(running, **{"from": yesterday, "to": yesterday})["total"]["calls"] == 0
        wrong = running.client.get("/v1/usage", params={"from": today.isoformat(), "to": yesterday})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "from")


def test_principals_see_their_own_and_admins_may_see_all(tmp_path: Path) -> None:
    keys = [
        {"name": "alice", "key": "alice-key-1"},
        {"name": "ops", "key": "ops-key-12", "admin": True},
    ]
    with (
        ScriptedUpstream(otherwise="ok") as upstream,
        service(tmp_path, upstream, key="alice-key-1", server={"api_keys": keys}) as running,
    ):
        running.client.post(CHAT, json=HI).raise_for_status()
        assert used(running)["total"]["calls"] == 1
        refused = running.client.get("/v1/usage", params={"all": True})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_required")
        running.client.headers["Authorization"] = "Bearer ops-key-12"
        assert used(running)["total"]["calls"] == 0
        everybody = used(running, all=True)
        assert (everybody["total"]["calls"], everybody["principal"]) == (1, None)


def test_what_the_provider_does_not_tell_is_estimated_and_said_so(tmp_path: Path) -> None:
    script: list[ScriptItem] = [whole(None), streamed("a b c", None), cut_after(4)]
    with ScriptedUpstream(script) as upstream, service(tmp_path, upstream) as running:
        running.client.post(CHAT, json=HI).raise_for_status()
        running.client.post(CHAT, json={**HI, "stream": True}).raise_for_status()
        cut = running.client.post(CHAT, json={**HI, "stream": True})
        assert json.loads(events(cut.text)[-1])["error"]["code"] == "provider_error"
        total = used(running)["total"]
        assert (total["calls"], total["estimated_calls"], total["failed"]) == (3, 3, 1)
        assert total["completion_tokens"] > 0
        assert total["prompt_tokens"] > 0


def test_a_client_that_leaves_is_charged_for_what_it_got(tmp_path: Path) -> None:
    going_on = threading.Event()
    with ScriptedUpstream([cut_after(3), wait(going_on)]) as upstream, service(tmp_path, upstream) as running:
        with running.client.stream("POST", CHAT, json={**HI, "stream": True}) as response:
            next(response.iter_lines())
        report = wait_until(lambda: (found := used(running))["total"]["calls"] and found)
        assert report["total"]["estimated_calls"] == 1
        going_on.set()


def test_a_model_without_prices_is_counted_but_not_priced(tmp_path: Path) -> None:
    with ScriptedUpstream(["ok"]) as upstream, service(tmp_path, upstream, model=MODEL) as running:
        running.client.post(CHAT, json=HI).raise_for_status()
        total = used(running)["total"]
        assert (total["unpriced_calls"], total["cost_usd"], total["prompt_tokens"]) == (1, None, 11)


def test_prices_that_the_operator_wrote_count_for_a_server_without_a_key(tmp_path: Path) -> None:
    model = {**MODEL, "input_price": 1000.0, "output_price": 10_000.0}
    with (
        ScriptedUpstream(otherwise=says("x")) as upstream,
        RunningService(
            tmp_path,
            providers={"team": provider_row(upstream, models=[model])},
            budgets={"per_day_usd": 0.25},
        ) as running,
    ):
        body = {**HI, "max_tokens": 10}
        answers = [running.client.post(CHAT, json=body).status_code for _ in range(3)]
        assert answers == [200, 200, 429]
        assert used(running)["total"]["cost_usd"] > 0
        (shown,) = running.client.get("/v1/route").json()["candidates"]
        assert (shown["input_price"], shown["output_price"]) == (1000.0, 10_000.0)


def test_many_at_once_do_not_overspend(tmp_path: Path, place: Place) -> None:
    """Each call reserves a bit more than a tenth of the budget and costs nearly that: nine can be made."""
    usage = {"prompt_tokens": 10, "completion_tokens": 99, "total_tokens": 109}
    budgets = {"per_day_usd": 0.0105}
    with (
        ScriptedUpstream(otherwise=whole(usage)) as upstream,
        service(tmp_path, upstream, place, budgets=budgets) as running,
        ThreadPoolExecutor(32) as many,
    ):
        body = {**HI, "max_tokens": 100}
        answers = list(many.map(lambda _: running.client.post(CHAT, json=body), range(32)))
        good = [each for each in answers if each.status_code == 200]
        refused = [each.json()["error"] for each in answers if each.status_code == 429]
        assert len(good) + len(refused) == 32
        assert 1 <= len(good) <= 10
        assert {each["code"] for each in refused} == {"budget_exceeded"}
        assert "budgets.per_day_usd" in refused[0]["message"]
        total = used(running)["total"]
        assert (total["calls"], len(upstream.requests)) == (len(good), len(good))
        assert total["cost_usd"] <= budgets["per_day_usd"]
        while running.client.post(CHAT, json=body).status_code == 200:
            pass
        assert 0.009 < used(running)["total"]["cost_usd"] <= budgets["per_day_usd"]


def test_a_budget_is_each_principals_own_and_says_when_it_is_renewed(tmp_path: Path) -> None:
    keys = [{"name": "alice", "key": "alice-key-1"}, {"name": "bobby", "key": "bobby-key-1"}]
    with (
        ScriptedUpstream(otherwise=whole(DETAILS)) as upstream,
        service(
            tmp_path,
            upstream,
            key="alice-key-1",
            server={"api_keys": keys},
            budgets={"per_principal_day_usd": 0.0035},
        ) as running,
    ):
        body = {**HI, "max_tokens": 200}
        assert running.client.post(CHAT, json=body).status_code == 200
        refused = running.client.post(CHAT, json=body)
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["code"], error["type"]) == ("budget_exceeded", "rate_limit_error")
        assert "a day for alice (budgets.per_principal_day_usd)" in error["message"]
        assert "$0.0031 are spent" in error["message"]
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        running.client.headers["Authorization"] = "Bearer bobby-key-1"
        assert running.client.post(CHAT, json=body).status_code == 200


def test_what_a_budget_refuses_uses_up_no_limit_of_the_account(tmp_path: Path) -> None:
    with ScriptedUpstream(["ok"]) as upstream:
        row = provider_row(upstream, models=[PRICED], tier="paid", limits={"requests_per_day": 2})
        with RunningService(tmp_path, providers={"up1": row}, budgets={"per_day_usd": 0.005}) as running:
            for _ in range(3):
                refused = running.client.post(CHAT, json={**HI, "max_tokens": 900})
                assert refused.json()["error"]["code"] == "budget_exceeded"
            assert running.client.post(CHAT, json={**HI, "max_tokens": 10}).status_code == 200
        assert len(upstream.requests) == 1


def test_a_provider_that_hangs_is_a_timeout_and_costs_nothing(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([hang()]) as upstream,
        service(tmp_path, upstream, router={"timeout": 0.3}) as running,
    ):
        assert running.client.post(CHAT, json=HI).status_code == 504
        total = used(running)["total"]
        assert (total["prompt_tokens"], total["cost_usd"], total["estimated_calls"]) == (0, 0.0, 0)


def test_a_stream_ends_when_the_budget_is_used_up(tmp_path: Path, place: Place) -> None:
    text = " ".join(["word"] * 4000)
    model = {**PRICED, "max_output": 8000}
    with (
        ScriptedUpstream([streamed(text, None)]) as upstream,
        service(tmp_path, upstream, place, model=model, budgets={"per_day_usd": 0.021}) as running,
    ):
        response = running.client.post(CHAT, json={**HI, "stream": True})
        assert response.status_code == 200
        *chunks, last = events(response.text)
        assert "[DONE]" not in (*chunks, last)
        told = json.loads(last)
        assert told["error"]["code"] == "budget_exceeded"
        assert 900 < told["usage"]["completion_tokens"] <= 2100
        assert 100 < len(chunks) < 4000
        total = used(running)["total"]
        assert total["completion_tokens"] == told["usage"]["completion_tokens"]
        assert 0 < total["cost_usd"] <= 0.021


def test_a_free_model_answers_when_the_budget_is_used_up(tmp_path: Path) -> None:
    models = [
        *({**PRICED, "id": f"dear{number}", "quality": 0.9} for number in range(6)),
        {**MODEL, "id": "free", "quality": 0.1, "free": True},
    ]
    with (
        ScriptedUpstream(otherwise="ok") as upstream,
        RunningService(
            tmp_path,
            providers={"up1": provider_row(upstream, models=models, tier="paid")},
            budgets={"per_day_usd": 0},
        ) as running,
    ):
        answer = running.client.post(CHAT, json={**HI, "model_quality": "best_quality"})
        assert (answer.status_code, answer.json()["model"]) == (200, "free")
        named = running.client.post(CHAT, json={**HI, "model": "dear1", "provider": "up1"})
        assert named.json()["error"]["code"] == "budget_exceeded"
        assert len(upstream.requests) == 1


def test_a_run_over_its_threads_budget_ends_and_the_thread_goes_on(tmp_path: Path, place: Place) -> None:
    script: list[ScriptItem] = [
        calls(("ask_human_for_input", {"question": "Which?"}), usage=(1000, 900)),
        "done",
    ]
    with (
        ScriptedUpstream(script) as upstream,
        service(tmp_path, upstream, place, budgets={"per_thread_usd": 0.02}) as running,
    ):
        asked = running.invoke(thread_id="thread-01").json()
        assert asked["agent_status"] == "requires_human_input"
        call_id = asked["human_input_request"]["tool_call_id"]
        ended = running.resume("thread-01", call_id, "that one").json()
        assert ended["agent_status"] == "error"
        assert "budgets.per_thread_usd" in ended["error_details"]
        assert "new thread" in ended["error_details"]
        assert len(upstream.requests) == 1
        text = running.config_file.read_text()
        running.config_file.write_text(text.replace("per_thread_usd: 0.02", "per_thread_usd: 2.0"))
        wait_until(lambda: running.invoke(thread_id="thread-01").json()["agent_status"] == "completed")
        assert upstream.refusals == []
        report = used(running, by="thread")
        assert [entry["name"] for entry in report["entries"]] == ["thread-01"]


def test_a_run_that_costs_too_much_ends(tmp_path: Path, project: Path) -> None:
    reading = ("read_file", {"filepath": "a.txt"})
    script: list[ScriptItem] = [calls(reading, usage=(1000, 0)), calls(reading, usage=(1000, 0)), "done"]
    with (
        ScriptedUpstream(script) as upstream,
        service(tmp_path, upstream, agent={"max_run_cost_usd": 0.003}) as running,
    ):
        ended = running.invoke(project_directory=str(project), thread_id="thread-01").json()
        assert ended["agent_status"] == "error"
        assert "agent.max_run_cost_usd" in ended["error_details"]
        assert (len(upstream.requests), ended["usage"]["cost_usd"]) == (2, pytest.approx(0.004))
        assert running.invoke(thread_id="thread-01").json()["agent_status"] == "completed"


def test_an_answer_that_cannot_differ_is_given_again(tmp_path: Path, place: Place) -> None:
    with (
        ScriptedUpstream(["first", "second", "third", "fourth"]) as upstream,
        service(tmp_path, upstream, place, cache={"enabled": True}) as running,
    ):
        body = {**HI, "temperature": 0}
        first = running.client.post(CHAT, json=body)
        again = running.client.post(CHAT, json=body)
        assert "x-router-cache" not in first.headers
        assert again.headers["x-router-cache"] == "hit"
        assert again.headers["x-router-model"] == "m1"
        assert again.content == first.content
        assert used(running)["total"]["calls"] == len(upstream.requests) == 1
        others: list[dict[str, Any]] = [
            {**body, "messages": [{"role": "user", "content": "ho"}]},
            {**HI, "temperature": 0.1},
            {**body, "stream": True},
        ]
        for other in others:
            assert "x-router-cache" not in running.client.post(CHAT, json=other).headers
        assert len(upstream.requests) == 4


def test_an_answer_that_is_given_again_says_the_same_of_itself(tmp_path: Path) -> None:
    with ScriptedUpstream(["first"]) as upstream:
        row = provider_row(upstream, accounts={"work": {"api_key": "sk-0123456789"}})
        del row["api_key"]
        with RunningService(tmp_path, providers={"up1": row}, cache={"enabled": True}) as running:
            body = {**HI, "temperature": 0, "odd_field": 1}
            first = running.client.post(CHAT, json=body)
            again = running.client.post(CHAT, json=body)
    assert first.headers["x-router-account"] == "work" and first.headers["x-router-dropped"] == "odd_field"
    told = {name: value for name, value in again.headers.items() if name.startswith("x-router-")}
    assert told.pop("x-router-cache") == "hit"
    assert told == {name: value for name, value in first.headers.items() if name.startswith("x-router-")}


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({}, says("x")),
        ({"enabled": True, "ttl_seconds": 0.001}, says("x")),
        ({"enabled": True}, says("x", finish="length")),
    ],
    ids=["off", "too old", "cut off"],
)
def test_no_other_answer_is(tmp_path: Path, settings: dict[str, Any], answer: Any) -> None:
    with (
        ScriptedUpstream(otherwise=answer) as upstream,
        service(tmp_path, upstream, cache=settings) as running,
    ):
        for _ in range(2):
            response = running.client.post(CHAT, json={**HI, "temperature": 0})
            assert "x-router-cache" not in response.headers
        assert len(upstream.requests) == 2
