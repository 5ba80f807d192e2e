"""How a request would be routed, why, and what is told when nobody can serve it just now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service import RunningService, provider_row
from tests.upstream import ScriptedUpstream, Step, calls, says, status

HI = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
UNREACHABLE = "gave no list of models: dead could not be reached"


def row(upstream: ScriptedUpstream, **card: Any) -> dict[str, Any]:
    models = [{"id": "m1", "context_window": 1000, "tools": True, **card}]
    return provider_row(upstream, tier="paid", models=models)


def test_every_candidate_is_shown_with_scores_and_reasons(tmp_path: Path) -> None:
    with ScriptedUpstream([]) as upstream:
        providers = {
            "good": row(upstream, quality=0.9, input_price=2, output_price=8),
            "poor": row(upstream, quality=0.5, input_price=0.1, output_price=0.2),
            "plain": row(upstream, quality=0.95, tools=False),
        }
        with RunningService(tmp_path, providers=providers) as service:
            wanted = {"task": "fix a bug", "quality": "best_quality", "tools": "true"}
            answer = service.client.get("/v1/route", params=wanted).raise_for_status().json()
            assert (answer["ranked_by"], answer["task_class"]) == ("best_quality", "tools")
            shown = {each["provider"]: each for each in answer["candidates"]}
            assert list(shown) == ["good", "poor", "plain"]
            assert shown["good"]["place"] == 1 and shown["good"]["reason"] == "the highest quality: 0.90"
            assert shown["poor"]["reason"] == "quality 0.50 against 0.90 of good/m1"
            assert not shown["plain"]["ready"] and shown["plain"]["reason"] == "cannot call tools"
            assert shown["good"]["expected_cost_usd"] > shown["poor"]["expected_cost_usd"] > 0

            large = service.client.get("/route", params={"task": "x" * 9000, "provider": "good"}).json()
            assert "window of 1,000 tokens" in large["candidates"][0]["reason"]
            assert upstream.bodies == []


@pytest.mark.parametrize(
    ("query", "expected", "code"),
    [
        ({"quality": "cheap"}, 422, "invalid_request"),
        ({"tools": "perhaps"}, 422, "invalid_request"),
        ({"task": "x" * 20_001}, 422, "invalid_request"),
        ({"model": "up1/nobody"}, 404, "model_not_found"),
        ({"provider": "up9"}, 404, "provider_not_found"),
    ],
)
def test_questions_that_make_no_sense(
    tmp_path: Path, query: dict[str, str], expected: int, code: str
) -> None:
    with ScriptedUpstream([]) as upstream, RunningService(tmp_path, upstream) as service:
        answer = service.client.get("/v1/route", params=query)
        assert (answer.status_code, answer.json()["error"]["code"]) == (expected, code)


@pytest.mark.parametrize(
    ("path", "param", "hint"),
    [
        ("/v1/route?qualty=fastest", "qualty", "did you mean `quality`"),
        ("/v1/usage?form=2026-01-01", "form", "did you mean `from`"),
    ],
)
def test_a_misspelt_parameter_is_told(tmp_path: Path, path: str, param: str, hint: str) -> None:
    with ScriptedUpstream([]) as upstream, RunningService(tmp_path, upstream) as service:
        refused = service.client.get(path)
        told = refused.json()["error"]
        assert (refused.status_code, told["code"], told["param"]) == (422, "invalid_request", param)
        assert hint in told["message"]


def test_an_unrated_model_is_called_so(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([]) as rated,
        ScriptedUpstream([]) as unrated,
        RunningService(
            tmp_path,
            rated,
            providers={
                "up1": row(rated, id="m1", quality=0.93),
                "up2": row(unrated, id="m2", quality=None),
            },
        ) as service,
    ):
        found = service.client.get("/v1/route", params={"quality": "best_quality"}).json()["candidates"]
        assert found[1]["reason"] == "not rated, taken for 0.40 against 0.93 of up1/m1"


def test_a_provider_that_gives_no_list_of_models_is_told_everywhere(tmp_path: Path) -> None:
    with ScriptedUpstream() as gone:
        address = gone.base_url
    with (
        ScriptedUpstream() as upstream,
        ScriptedUpstream(models=()) as bare,
        RunningService(
            tmp_path,
            upstream,
            providers={
                "dead": {"base_url": address, "api_key": "none"},
                "bare": {"base_url": bare.base_url, "api_key": "none"},
            },
        ) as service,
    ):
        answer = service.client.get("/v1/route").raise_for_status().json()
        assert answer["silent"] == [
            {"provider": "bare", "account": "default", "reason": "lists no models"},
            {"provider": "dead", "account": "default", "reason": UNREACHABLE},
        ]
        assert service.client.get("/v1/route", params={"provider": "up1"}).json()["silent"] == []
        health = service.client.get("/health").json()
        assert health["status"] == "degraded"
        assert health["providers"] == {"up1": True, "dead": False, "bare": False}
        assert any("dead/default" in each and address in each for each in health["problems"])
        (account,) = service.client.get("/api/providers/dead").json()["accounts"]
        assert account["rests"] == UNREACHABLE


def test_what_no_budget_allows_is_not_called_ready(tmp_path: Path) -> None:
    price = {"input_price": 1000.0, "output_price": 10_000.0}
    with ScriptedUpstream(otherwise=says("x", usage=(10, 40))) as upstream:
        providers = {
            "paid": {**row(upstream, quality=0.9, **price), "api_key": "sk-0123456789ab"},
            "free": row(upstream, quality=0.3, free=True),
        }
        with RunningService(tmp_path, providers=providers, budgets={"per_day_usd": 0}) as service:
            first, last = service.client.get("/v1/route").json()["candidates"]
            assert (first["provider"], first["ready"]) == ("free", True)
            assert first["reason"].startswith("the best value")
            assert not last["ready"] and "budgets.per_day_usd" in last["reason"]
        providers["paid"]["cap_usd_per_day"] = 6.2
        with RunningService(tmp_path, providers=providers, budgets={"per_day_usd": 100}) as service:
            assert all(each["ready"] for each in service.client.get("/v1/route").json()["candidates"])
            body = {**HI, "model": "paid/m1", "max_tokens": 60}
            assert service.client.post(CHAT, json=body).status_code == 200
            shown = service.client.get("/v1/route").json()["candidates"]
            assert [(each["provider"], each["ready"]) for each in shown] == [("free", True), ("paid", False)]
            assert shown[1]["reason"].startswith("The cap of $6.20 a day of paid/default does not allow")
            (account,) = service.client.get("/api/providers/paid").json()["accounts"]
            assert (account["cap_usd_per_day"], account["spent_usd_today"]) == (6.2, pytest.approx(0.41))


def test_a_link_of_a_chain_keeps_its_number_while_another_rests(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(otherwise=status(429, "slow down", retry_after=900)) as limited,
        ScriptedUpstream(otherwise="ok") as upstream,
        RunningService(
            tmp_path,
            limited,
            upstream,
            models={"mine": [{"provider": each, "model": "m1"} for each in ("up1", "up2")]},
        ) as service,
    ):
        assert service.client.post(CHAT, json={**HI, "model": "mine"}).status_code == 200
        shown = service.client.get("/v1/route", params={"model": "mine"}).json()["candidates"]
        assert [(each["provider"], each["reason"]) for each in shown] == [
            ("up2", "number 2 of the chain"),
            ("up1", "left alone for 15 min: rate limit"),
        ]
        (account,) = service.client.get("/api/providers/up1").json()["accounts"]
        assert account["rests"] == "left alone for 15 min: rate limit"


def test_the_answer_is_documented(tmp_path: Path) -> None:
    with ScriptedUpstream([]) as upstream, RunningService(tmp_path, upstream) as service:
        described = service.client.get("/openapi.json").json()
        assert "/v1/route" in described["paths"] and "/route" not in described["paths"]
        fields = described["components"]["schemas"]["RouteCandidate"]["properties"]
        assert all(field["description"] for field in fields.values())


def test_while_everything_cools_down_the_answer_is_429(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([status(429, "slow down", retry_after=900), "ok"]) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        for _ in range(2):
            answer = service.client.post(CHAT, json=HI)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
            assert 890 < int(answer.headers["retry-after"]) <= 900
        assert len(upstream.bodies) == 1
        why = service.client.get("/v1/route").json()["candidates"][0]
        assert not why["ready"] and why["reason"] == "left alone for 15 min: rate limit"


def test_an_allowance_that_is_used_up_decides_between_providers_and_is_told(tmp_path: Path) -> None:
    empty = {"x-ratelimit-limit": "9", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}
    with (
        ScriptedUpstream(otherwise="spent", headers=empty) as spent,
        ScriptedUpstream(otherwise="other") as other,
    ):
        providers = {"spent": row(spent, quality=0.9), "other": row(other, quality=0.5)}
        with RunningService(tmp_path, providers=providers) as service:
            wanted = {**HI, "model_quality": "best_quality"}
            found = [service.client.post(CHAT, json=wanted).headers["x-router-provider"] for _ in range(3)]
            assert found == ["spent", "other", "other"]
            shown = service.client.get("/v1/route", params={"quality": "best_quality"}).json()["candidates"]
            assert [each["provider"] for each in shown] == ["other", "spent"] and not shown[1]["ready"]
            assert shown[1]["reason"].endswith(" s: its allowance is used up")
            alone = service.client.post(CHAT, json={**HI, "provider": "spent", "model": "m1"})
            assert alone.headers["x-router-provider"] == "spent", "nobody else can be asked"


def test_a_name_that_means_nothing_does_not_take_its_provider_down(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(otherwise=status(404, "no such model")) as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        for model, is_up in (("typo", True), ("m1", False)):
            assert service.client.post(CHAT, json={**HI, "provider": "up1", "model": model}).is_error
            assert service.client.get("/health").json()["providers"] == {"up1": is_up}
            (account,) = service.client.get("/api/providers/up1").json()["accounts"]
            assert (account["rests"] is None) == is_up


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(429, "You exceeded your current quota", error_code="insufficient_quota"), "out of money"),
        (status(400, "API key not valid. Please pass a valid API key."), "key was refused"),
    ],
)
def test_an_empty_account_or_a_bad_key_is_left_alone_with_all_its_models(
    tmp_path: Path, answer: Step, reason: str
) -> None:
    with (
        ScriptedUpstream([answer], otherwise="paid again") as poor,
        ScriptedUpstream(otherwise="ok") as other,
    ):
        models = [{"id": "m1", "quality": 0.9}, {"id": "m2", "quality": 0.8}]
        rows = {"poor": provider_row(poor, models=models), "other": row(other, quality=0.5)}
        with RunningService(tmp_path, providers=rows) as service:
            body = {**HI, "model": "auto", "model_quality": "best_quality"}
            for _ in range(2):
                assert service.client.post(CHAT, json=body).json()["provider"] == "other"
            assert len(poor.bodies) == 1
            found = service.client.get("/v1/route").json()["candidates"]
            resting = [each["reason"] for each in found if not each["ready"]]
            assert len(resting) == 2 and all(reason in each for each in resting)


def test_a_refusal_for_content_is_called_by_its_name(tmp_path: Path) -> None:
    refusal = status(400, "flagged", error_code="content_filter")
    with (
        ScriptedUpstream([refusal]) as upstream,
        ScriptedUpstream(["sure"]) as other,
        RunningService(tmp_path, upstream, other) as service,
    ):
        answer = service.client.post(CHAT, json=HI)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "content_policy_violation")
        assert "flagged" in answer.json()["error"]["message"] and other.bodies == []


def test_sampling_that_a_constrained_model_does_not_get_is_named(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with ScriptedUpstream([json.dumps({"tool": "f", "arguments": {}})]) as upstream:
        providers = {"weak": provider_row(upstream, tool_calling="constrained")}
        with RunningService(tmp_path, providers=providers) as service:
            answer = service.client.post(CHAT, json={**HI, "tools": [tool], "temperature": 0.7, "top_p": 0.9})
            assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"
            assert answer.headers["x-router-dropped"] == "temperature, top_p"


@pytest.mark.parametrize(
    ("call", "approve", "better"),
    [
        (("read_file", {"filepath": "a.txt"}), None, True),
        (("edit_file", {"filepath": "a.txt", "old_text": "sky", "new_text": "sea"}), None, True),
        (("edit_file", {"filepath": "a.txt", "old_text": "no such words", "new_text": "sea"}), None, False),
        (("read_file", {"path": "a.txt"}), None, False),
        (("no_such_tool", {}), None, False),
        (("write_file", {"filepath": "b.txt", "content": "x"}), "no", False),
        (("write_file", {"filepath": "b.txt", "content": "x"}), "yes", True),
        (("edit_file", {"filepath": ".git/config", "old_text": "a", "new_text": "b"}), None, None),
    ],
)
def test_the_agents_calls_teach_how_good_a_model_is(
    tmp_path: Path, call: tuple[str, dict[str, Any]], approve: str | None, better: bool | None
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.txt").write_text("sky")
    rules: dict[str, Any] = {"agent": {"approvals": {"write_file": "ask"}}} if approve else {}
    with (
        ScriptedUpstream([calls((*call, "c1")), "done"]) as upstream,
        RunningService(tmp_path, upstream, **rules) as service,
    ):
        before = service.client.get("/v1/route", params={"tools": "true"}).json()["candidates"][0]
        first = service.invoke(project_directory=str(project), thread_id="teacher-1").json()
        if approve:
            assert first["agent_status"] == "requires_human_input"
            first = service.resume("teacher-1", "c1", approve).json()
        assert first["agent_status"] == "completed"
        after = service.client.get("/v1/route", params={"tools": "true"}).json()["candidates"][0]
        assert before["quality"] == after["rating"] == 0.5
        assert (after["quality"] > 0.5) is (better is True)
        assert (after["quality"] < 0.5) is (better is False)
        assert service.client.get("/v1/route").json()["candidates"][0]["quality"] == 0.5  # of chats: nothing
