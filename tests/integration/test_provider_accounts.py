"""Providers and their accounts over HTTP: who may, what is shown, what is used, and from when on."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from agent_service.cli.logs import RedactingFormatter
from agent_service.config_file import ConfigError
from agent_service.keys.directory import LOOK_SECONDS
from tests.service import RunningService, wait_until
from tests.upstream import ScriptedUpstream, status

KEY, WRONG = "sk-good-0123456789abcdWXYZ", "sk-wrong-9876543210QRST"
ADMIN, ALICE = "admin-key-0123456789", "alice-key-0123456789"
SERVER = {"api_keys": [{"name": "ops", "key": ADMIN, "admin": True}, {"name": "alice", "key": ALICE}]}


def test_one_key_is_one_account(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        assert add(service, upstream, verify=False).status_code == 201
        second = add(service, upstream, account="second", verify=False)
        assert error(second) == (422, "invalid_request", "api_key")
        assert "mine/default has the same one" in second.text and KEY not in second.text
        assert add(service, upstream, verify=False).status_code == 201, "the same again is no second one"
        names = [each["account"] for each in service.client.get("/api/providers/mine").json()["accounts"]]
        assert names == ["default"]


@pytest.mark.parametrize(
    ("method", "path", "body", "param", "hint"),
    [
        ("POST", "/api/providers", {"provider": "groq", "api_kye": KEY}, "api_kye", "`api_key`"),
        ("PATCH", "/api/providers/groq", {"enable": False}, "enable", "`enabled`"),
        ("POST", "/api/providers/groq/accounts", {"acount": "x", "api_key": KEY}, "acount", "`account`"),
        ("POST", "/api/providers/groq/test", {"acount": "x"}, "acount", "`account`"),
        ("POST", "/api/providers/import", {"text": f"K={KEY}", "dryrun": True}, "dryrun", "`dry_run`"),
        ("GET", "/api/providers?everything=true", None, "everything", "known here: all"),
        ("GET", "/api/providers/groq?all=true", None, "all", "known here: none"),
    ],
)
def test_a_misspelt_name_is_told_and_not_passed_over(
    tmp_path: Path, method: str, path: str, body: dict[str, Any] | None, param: str, hint: str
) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        refused = service.client.request(method, path, json=body)
        assert error(refused) == (422, "invalid_request", param)
        assert hint in refused.text and KEY not in refused.text


def test_the_terms_of_a_provider_are_shown_with_their_sources(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        groq = service.client.get("/api/providers/groq").json()["terms"]
        assert {"words", "source", "note"} == groq["limits"][0].keys()
        assert "30 requests per minute" in groq["limits"][0]["words"] and groq["limits"][0]["source"]
        assert "EEA" in service.client.get("/api/providers/gemini").json()["terms"]["training"]
        vertex = service.client.get("/api/providers/vertex_ai").json()
        assert "GOOGLE_GENAI_USE_VERTEXAI" in vertex["note"]
        listed = {each["name"]: each for each in service.client.get("/api/providers?all=true").json()["data"]}
        assert "2026-07-30" in listed["github"]["retired"] and listed["github"]["accounts"] == []
        assert "github" not in {each["name"] for each in service.client.get("/api/providers").json()["data"]}


ROUTES = [
    ("GET", "/api/providers", None),
    ("POST", "/api/providers", {"provider": "groq", "api_key": KEY, "verify": False}),
    ("GET", "/api/providers/groq", None),
    ("PATCH", "/api/providers/groq", {"enabled": False}),
    ("GET", "/api/providers/groq/accounts", None),
    ("POST", "/api/providers/groq/accounts", {"account": "work", "api_key": KEY, "verify": False}),
    ("POST", "/api/providers/import", {"text": f"GROQ_API_KEY={KEY}", "dry_run": True}),
    ("PATCH", "/api/providers/groq/accounts/work", {"cap_usd_per_day": 1.5}),
    ("DELETE", "/api/providers/groq/accounts/work", None),
    ("POST", "/api/master-key/rotate", {}),
    ("POST", "/api/providers/up1/test", {}),
    ("DELETE", "/api/providers/groq", None),
]


def add(service: RunningService, upstream: ScriptedUpstream, **fields: Any) -> httpx.Response:
    """Store an account named `mine` at the upstream."""
    body = {"provider": "mine", "api_key": KEY, "base_url": upstream.base_url, "models": ["m1"]}
    return service.client.post("/api/providers", json={**body, "allow_private": True, **fields})


def chat(service: RunningService, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    return service.client.post("/v1/chat/completions", json=body)


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    told = response.json()["error"]
    return response.status_code, told["code"], told["param"]


def test_only_admins_get_in(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(otherwise="ok") as upstream,
        RunningService(tmp_path, upstream, key=ADMIN, server=SERVER) as service,
    ):
        for key, expected in ((ALICE, 403), ("stranger-key-0123456789", 401), (None, 401)):
            headers = {"x-api-key": key} if key else {}
            with httpx.Client(base_url=service.url, headers=headers, trust_env=False) as client:
                for method, path, body in ROUTES:
                    refused = client.request(method, path, json=body)
                    assert refused.status_code == expected, (method, path)
        assert [each["name"] for each in service.client.get("/api/providers").json()["data"]] == ["up1"]
        for method, path, body in ROUTES:
            taken = service.client.request(method, path, json=body)
            assert taken.is_success, (method, path, taken.text)


def test_an_account_is_used_at_once_and_its_key_never_shown(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(otherwise="first") as configured,
        ScriptedUpstream(api_key=KEY, otherwise="from mine") as upstream,
        RunningService(tmp_path, configured) as service,
    ):
        assert chat(service, "mine/m1").status_code == 404
        saved = add(service, upstream)
        assert saved.status_code == 201
        assert saved.json()["trial"]["state"] == "accepted"
        assert chat(service, "mine/m1").json()["choices"][0]["message"]["content"] == "from mine"
        shown = [
            saved.text,
            service.client.get("/api/providers?all=true").text,
            service.client.get("/api/providers/mine").text,
            service.client.get("/api/providers/mine/accounts").text,
            service.client.post("/api/providers/mine/test", json={}).text,
            service.client.get("/health").text,
        ]
        assert all("0123456789" not in each for each in shown)
        (account,) = service.client.get("/api/providers/mine/accounts").json()["data"]
        assert (account["key"], account["source"], account["in_use"]) == ("...WXYZ", "store", True)
        assert service.client.delete("/api/providers/mine").json() == {"deleted": "mine", "accounts": 1}
        assert chat(service, "mine/m1").status_code == 404


def test_accounts_survive_a_restart_and_the_key_is_not_in_the_file(tmp_path: Path) -> None:
    with ScriptedUpstream(api_key=KEY, otherwise="ok") as upstream, ScriptedUpstream() as configured:
        with RunningService(tmp_path, configured) as service:
            assert add(service, upstream).status_code == 201
            folder = service.data / "agent-service"
            held = b"".join(each.read_bytes() for each in folder.iterdir())
            assert KEY.encode() not in held and KEY[:12].encode() not in held
        with RunningService(tmp_path, configured) as service:
            assert chat(service, "mine/m1").is_success
            rotated = service.client.post("/api/master-key/rotate", json={}).json()
            assert rotated["accounts"] == 1
        with RunningService(tmp_path, configured) as service:
            assert chat(service, "mine/m1").is_success


def test_a_wrong_key_is_told_at_once_and_not_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        ScriptedUpstream() as configured,
        ScriptedUpstream(api_key=KEY, otherwise="ok") as upstream,
        RunningService(tmp_path, configured) as service,
    ):
        refused = add(service, upstream, api_key=WRONG)
        assert error(refused) == (422, "key_not_accepted", "api_key")
        assert "Incorrect API key" in refused.text and WRONG not in refused.text
        assert service.client.get("/api/providers/mine").status_code == 404
        assert add(service, upstream).status_code == 201
        changed = service.client.patch("/api/providers/mine", json={"api_key": WRONG})
        assert error(changed) == (422, "key_not_accepted", "api_key")
        assert chat(service, "mine/m1").is_success, "the good key is still there"
    assert WRONG not in caplog.text and KEY not in caplog.text


def test_a_provider_that_cannot_be_reached_proves_nothing(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
            saved = add(service, upstream, base_url=address)
            assert (saved.status_code, saved.json()["trial"]["state"]) == (201, "unknown")


def test_a_key_that_was_not_tried_is_called_so_until_it_answers(tmp_path: Path) -> None:
    def proven() -> bool:
        (account,) = service.client.get("/api/providers/mine").json()["accounts"]
        return bool(account["proven"])

    with ScriptedUpstream(otherwise="ok") as upstream, RunningService(tmp_path, upstream) as service:
        add(service, upstream, verify=False)
        assert not proven()
        assert chat(service, "mine/m1").status_code == 200
        assert proven()
        add(service, upstream)
        assert proven()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"allow_private": False}, "base_url"),
        ({"base_url": "https://127.0.0.1/v1", "allow_private": False}, "base_url"),
        ({"base_url": f"https://{KEY}@models.example/v1"}, "base_url"),
        ({"base_url": "gopher://models.example"}, "base_url"),
        ({"base_url": None}, "provider"),
        ({"provider": "No Name"}, "provider"),
        ({"provider": "github"}, "provider"),
        ({"account": "../x"}, "account"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": f"{KEY}\r\nx: y"}, "api_key"),
        ({"api_key": [KEY]}, "api_key"),
        ({"models": [{"id": "m1", "quality": 7}]}, "models.0.quality"),
        ({"cap_usd_per_day": -1}, "cap_usd_per_day"),
        ({"limits": {"requests_per_day": 0}}, "limits.requests_per_day"),
        ({"protocol": "telepathy"}, "protocol"),
    ],
)
def test_what_makes_no_account_is_refused_without_its_key(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        refused = add(service, upstream, **fields)
        assert error(refused) == (422, "invalid_request", param)
        assert KEY not in refused.text
        assert upstream.requests == []


@pytest.mark.parametrize("host", ["0x7f000001", "2130706433", "127.1"])
def test_a_stored_address_is_checked_when_it_is_connected_to(tmp_path: Path, host: str) -> None:
    """Names that lead to this machine pass when they are stored, and get no further without leave."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ScriptedUpstream() as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        listener.setblocking(False)
        address = f"https://{host}:{listener.getsockname()[1]}/v1"
        saved = add(service, upstream, base_url=address, allow_private=False)
        assert (saved.status_code, saved.json()["trial"]["state"]) == (201, "unknown")
        assert chat(service, "mine/m1").status_code in (502, 503)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_an_import_says_what_was_taken_skipped_and_why(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as configured,
        ScriptedUpstream(api_key=KEY, otherwise="ok") as upstream,
        RunningService(tmp_path, configured, environ={"SECRET_OF_THE_SERVICE": KEY}) as service,
    ):
        place = {"base_url": upstream.base_url, "allow_private": True, "models": ["m1"]}
        records = [
            {"name": "good", "api_key": KEY, **place},
            {"name": "bad", "api_key": WRONG, **place},
            {"name": "near", "api_key": KEY, "base_url": upstream.base_url},
            {"name": "up1", "api_key": KEY, **place},
            {"name": "thief", "api_key": "${SECRET_OF_THE_SERVICE}", **place},
            {"name": "other", "api_key_env": "SECRET_OF_THE_SERVICE", **place},
        ]
        body = {"text": json.dumps(records)}
        tried = imported(service, **body, dry_run=True)
        assert not any(each["stored"] for each in tried["accounts"])
        foreseen = {each["provider"]: each["problem"] for each in tried["accounts"]}
        assert foreseen["good"] is None and foreseen["bad"] is None, "only its provider knows"
        assert "must start with https://" in foreseen["near"]
        assert "comes from the configuration file" in foreseen["up1"]
        assert service.client.get("/api/providers/good").status_code == 404 and upstream.requests == []
        done = imported(service, **body)
        problems = {each["provider"]: each["problem"] for each in done["accounts"]}
        assert done["form"] == "JSON" and problems.pop("good") is None
        assert "The key was not stored" in problems["bad"]
        assert "must start with https://" in problems["near"]
        assert "comes from the configuration file" in problems["up1"]
        good, *others = done["accounts"]
        assert (good["stored"], good["key"], good["trial"]["state"]) == (True, "...WXYZ", "accepted")
        assert not any(each["stored"] or each["trial"] for each in others)
        assert {note["where"] for note in done["notes"]} == {"thief", "other"}
        assert chat(service, "good/m1").is_success
        assert not any(each in json.dumps([tried, done]) for each in (KEY, WRONG))


def imported(service: RunningService, **body: Any) -> dict[str, Any]:
    report: dict[str, Any] = service.client.post("/api/providers/import", json=body).raise_for_status().json()
    return report


def test_an_import_can_do_without_asking_the_providers(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        text = f"export GROQ_API_KEY={KEY}\nNOBODYS_API_KEY={WRONG}\n"
        done = imported(service, text=text, verify=False)
        (account,) = done["accounts"]
        assert (account["provider"], account["stored"], account["trial"]) == ("groq", True, None)
        (note,) = done["notes"]
        assert note["where"] == "line 2" and "NOBODYS_API_KEY" in note["reason"]
        assert imported(service, text="")["accounts"] == []
        broken = imported(service, text=f"groq\n  api-key {KEY}\n", name="keys.yaml", verify=False)
        assert broken["accounts"] == [] and broken["notes"][0]["lost"] == "file"
        too_much = service.client.post("/api/providers/import", json={"text": f"# {KEY}" * 20_000})
        assert error(too_much) == (422, "invalid_request", "text") and KEY not in too_much.text


def test_a_key_does_not_follow_its_account_to_another_address(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(otherwise="ok") as upstream,
        ScriptedUpstream(otherwise="ok") as thief,
        RunningService(tmp_path, upstream) as service,
    ):
        add(service, upstream)
        moved = service.client.patch("/api/providers/mine", json={"base_url": thief.base_url})
        assert error(moved) == (422, "invalid_request", "api_key")
        assert thief.requests == [] and thief.lookups == []


def test_the_configuration_and_the_environment_are_not_changed_from_here(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": KEY}
    with (
        ScriptedUpstream(otherwise="ok") as upstream,
        RunningService(tmp_path, upstream, environ=environ, providers={"openai": None}) as service,
    ):
        (account,) = service.client.get("/api/providers/openai/accounts").json()["data"]
        assert (account["source"], account["key_from"], account["key"]) == (
            "environment",
            "OPENAI_API_KEY",
            "...WXYZ",
        )
        for name in ("up1", "openai"):
            assert error(service.client.delete(f"/api/providers/{name}"))[:2] == (409, "account_configured")
        for name, place in (("up1", "the configuration file"), ("openai", "the variable OPENAI_API_KEY")):
            refused = add(service, upstream, provider=name, api_key=WRONG, verify=False)
            assert error(refused)[:2] == (409, "account_configured")
            assert f"comes from {place}" in refused.text
            assert len(service.client.get(f"/api/providers/{name}/accounts").json()["data"]) == 1


def test_a_stored_account_that_the_configuration_has_too_is_told_and_proves_nothing(tmp_path: Path) -> None:
    with ScriptedUpstream() as other, ScriptedUpstream(api_key=KEY, otherwise="ok") as upstream:
        with RunningService(tmp_path, other) as service:
            assert add(service, upstream).status_code == 201
        mine = {"base_url": upstream.base_url, "api_key": WRONG, "models": [{"id": "m1"}]}
        with RunningService(tmp_path, providers={"mine": mine}) as service:
            configured, stored = service.client.get("/api/providers/mine/accounts").json()["data"]
            assert (configured["in_use"], configured["problem"]) == (True, None)
            assert not stored["in_use"] and "of the same name" in stored["problem"]
            assert chat(service, "mine/m1").status_code == 502
            trials = service.client.post("/api/providers/mine/test", json={}).json()["trials"]
            assert {name: trial["state"] for name, trial in trials.items()} == {"default": "refused"}
            assert (
                chat(service, "mine/m1").status_code == 502
                and service.client.get("/health").json()["problems"]
            )
            assert service.client.delete("/api/providers/mine/accounts/default").is_success
            (account,) = service.client.get("/api/providers/mine/accounts").json()["data"]
            assert account["source"] == "configuration"


def test_of_several_accounts_another_answers_when_one_cannot(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as configured,
        ScriptedUpstream(otherwise=status(402, "no money")) as one,
        ScriptedUpstream(otherwise="two") as two,
        RunningService(tmp_path, configured) as service,
    ):
        add(service, one, account="one", verify=False)
        add(service, two, account="two")
        service.client.patch("/api/providers/mine/accounts/two", json={"enabled": False})
        assert chat(service, "mine/m1").status_code == 502
        service.client.patch("/api/providers/mine/accounts/two", json={"enabled": True})
        answer = chat(service, "mine/m1")
        assert answer.json()["choices"][0]["message"]["content"] == "two"
        assert answer.headers["x-router-account"] == "two"
        accounts = service.client.get("/api/providers/mine/accounts").json()["data"]
        rests = {each["account"]: each["rests"] for each in accounts}
        assert rests["one"].startswith("left alone for") and "no money" in rests["one"]
        assert rests["two"] is None
        trials = service.client.post("/api/providers/mine/test", json={"account": "two"}).json()["trials"]
        assert {name: trial["state"] for name, trial in trials.items()} == {"two": "accepted"}


def test_a_stored_account_with_a_configured_key_is_told_and_not_used(tmp_path: Path) -> None:
    with ScriptedUpstream() as other, ScriptedUpstream(otherwise="ok") as upstream:
        with RunningService(tmp_path, other) as service:
            add(service, upstream, account="two")
        mine = {"base_url": upstream.base_url, "api_key": KEY, "models": [{"id": "m1"}]}
        with RunningService(tmp_path, providers={"mine": mine}) as service:
            one, two = service.client.get("/api/providers/mine/accounts").json()["data"]
            assert one["in_use"] and not two["in_use"]
            assert "the same key as mine/default" in two["problem"]
            (problem,) = service.client.get("/health").json()["problems"]
            assert "mine/two is not used: it has the same key as mine/default" in problem


def test_a_disabled_key_stays_so_over_a_restart_until_it_proves_good(tmp_path: Path) -> None:
    script = [status(401, "Incorrect API key provided")]
    with ScriptedUpstream() as configured, ScriptedUpstream(script, otherwise="ok") as upstream:
        with RunningService(tmp_path, configured) as service:
            add(service, upstream, verify=False)
            for _ in range(2):
                assert chat(service, "mine/m1").status_code == 502
            assert len(upstream.bodies) == 1
        with RunningService(tmp_path, configured) as service:
            refused = chat(service, "mine/m1")
            assert refused.status_code == 502 and len(upstream.bodies) == 1
            assert "`agent-service providers test mine`" in refused.text
            service.client.patch("/api/providers/mine", json={"cap_usd_per_day": 3})
            assert chat(service, "mine/m1").status_code == 502, "a cap is no other key"
            upstream.then(status(500), status(403, "Authorization failed"))
            for _ in range(2):
                tested = service.client.post("/api/providers/mine/test", json={}).json()
                assert tested["trials"]["default"]["state"] == "unknown"
                assert chat(service, "mine/m1").status_code == 502, "a list is no proof"
            tested = service.client.post("/api/providers/mine/test", json={}).json()
            assert tested["trials"]["default"]["state"] == "accepted"
            assert chat(service, "mine/m1").is_success


def test_a_rate_limit_holds_over_a_restart(tmp_path: Path) -> None:
    script = [status(429, "slow down", retry_after=3600)]
    with ScriptedUpstream(script, otherwise="ok") as upstream, ScriptedUpstream(otherwise="b") as other:
        with RunningService(tmp_path, upstream, other) as service:
            assert chat(service, "up1/m1").status_code == 429
        with RunningService(tmp_path, upstream, other) as service:
            again = chat(service, "up1/m1")
            assert again.status_code == 429 and 3500 < int(again.headers["retry-after"]) <= 3600
            assert len(upstream.bodies) == 1
            assert chat(service, "auto").headers["x-router-provider"] == "up2"


def test_a_configured_account_is_added_while_the_service_runs(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(api_key=KEY, otherwise="ok") as upstream,
        RunningService(tmp_path, upstream) as service,
    ):
        assert chat(service, "up1/m1").status_code == 502
        config = yaml.safe_load(service.config_file.read_text())
        config["providers"]["up1"]["accounts"] = {"work": {"api_key": KEY}}
        service.config_file.write_text(yaml.safe_dump(config))
        wait_until(lambda: chat(service, "up1/m1").is_success)
        assert chat(service, "up1/m1").headers["x-router-account"] == "work"
        accounts = service.client.get("/api/providers/up1/accounts").json()["data"]
        assert [(each["account"], each["source"]) for each in accounts] == [
            ("default", "configuration"),
            ("work", "configuration"),
        ]
        assert error(service.client.delete("/api/providers/up1/accounts/work"))[:2] == (
            409,
            "account_configured",
        )


def test_a_cap_is_kept_and_told_and_another_account_goes_on(tmp_path: Path) -> None:
    price = {"id": "m1", "input_price": 1000.0, "output_price": 1000.0}
    with (
        ScriptedUpstream() as configured,
        ScriptedUpstream(otherwise="one") as one,
        ScriptedUpstream(otherwise="two") as two,
        RunningService(tmp_path, configured) as service,
    ):
        add(service, one, account="one", models=[price], cap_usd_per_day=0, verify=False)
        capped = chat(service, "mine/m1")
        assert error(capped)[:2] == (429, "budget_exceeded") and int(capped.headers["retry-after"]) > 0
        add(service, two, account="two", models=[price], verify=False)
        assert {chat(service, "mine/m1").headers["x-router-account"] for _ in range(3)} == {"two"}
        assert one.bodies == []
        route = service.client.get("/v1/route", params={"provider": "mine", "model": "m1"}).json()
        told = {each["account"]: each["reason"] for each in route["candidates"]}
        assert told["one"].startswith("The cap of $0.00 a day of mine/one is used up")
        service.client.patch("/api/providers/mine/accounts/one", json={"cap_usd_per_day": 1000})
        service.client.delete("/api/providers/mine/accounts/two")
        assert chat(service, "mine/m1").headers["x-router-account"] == "one"


def test_limits_of_a_stored_account_are_kept_and_told(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as configured,
        ScriptedUpstream(otherwise="ok") as upstream,
        RunningService(tmp_path, configured) as service,
    ):
        limits = {"requests_per_day": 2, "tokens_per_second": 100_000}
        add(service, upstream, limits=limits, verify=False)
        (account,) = service.client.get("/api/providers/mine").json()["accounts"]
        assert {name: most for name, most in account["limits"].items() if most} == limits
        assert [chat(service, "mine/m1").status_code for _ in range(3)] == [200, 200, 429]
        assert len(upstream.bodies) == 2
        service.client.patch("/api/providers/mine", json={"limits": None})
        assert chat(service, "mine/m1").is_success


def test_live_models_are_listed_and_can_be_asked_by_name(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="ok", models=("llama-3.3-70b-versatile", "brand-new")) as upstream:
        known = {"groq": {"api_key": "none", "base_url": upstream.base_url}}
        with RunningService(tmp_path, providers=known) as service:
            ids = [each["id"] for each in service.client.get("/v1/models").json()["data"]]
            assert ids[:2] == ["groq/llama-3.3-70b-versatile", "groq/brand-new"]
            assert chat(service, "groq/brand-new").json()["model"] == "brand-new"
            assert len(upstream.lookups) == 1, "the list is kept for a while"


def test_unknown_names_get_the_nearest_ones(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        missing = service.client.get("/api/providers/grok")
        assert error(missing)[:2] == (404, "provider_not_found")
        assert "Did you mean groq?" in missing.text
        assert error(service.client.get("/api/providers/github"))[:2] == (404, "account_not_found")
        assert error(service.client.delete("/api/providers/groq"))[:2] == (404, "account_not_found")
        assert error(service.client.patch("/api/providers/groq", json={}))[:2] == (404, "account_not_found")


def test_a_wrong_master_key_stops_the_start_and_overwrites_nothing(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="ok") as upstream:
        with RunningService(tmp_path, upstream, environ={"AGENT_SERVICE_MASTER_KEY": "11" * 32}) as service:
            add(service, upstream)
        file = service.data / "agent-service" / "state.db"
        rows = stored_rows(file)
        other = RunningService(tmp_path, upstream, environ={"AGENT_SERVICE_MASTER_KEY": "22" * 32})
        with pytest.raises(ConfigError, match=r"with the master key [0-9a-f]{16}.*Nothing was changed"):
            asyncio.run(started(other))
        assert stored_rows(file) == rows
        with RunningService(tmp_path, upstream, environ={"AGENT_SERVICE_MASTER_KEY": "11" * 32}) as service:
            assert chat(service, "mine/m1").is_success


async def started(service: RunningService) -> None:
    """Start without serving; raises why it cannot."""

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(_: object) -> None:
        pass

    await service.service.asgi({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)


def stored_rows(file: Path) -> list[Any]:
    connection = sqlite3.connect(file)
    rows = connection.execute("SELECT * FROM provider_accounts").fetchall()
    connection.close()
    return rows


def test_what_another_process_adds_is_used_without_a_restart(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as configured,
        ScriptedUpstream(otherwise="ok") as upstream,
        RunningService(tmp_path, configured) as service,
        RunningService(tmp_path, configured) as other,
    ):
        assert add(other, upstream).status_code == 201
        wait_until(lambda: chat(service, "mine/m1").is_success, LOOK_SECONDS + 10)


def test_a_changed_configuration_keeps_the_stored_accounts(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(otherwise="ok") as configured,
        ScriptedUpstream(otherwise="ok") as upstream,
        RunningService(tmp_path, configured) as service,
    ):
        add(service, upstream)
        service.config_file.write_text(service.config_file.read_text().replace("up1", "renamed"))
        wait_until(lambda: chat(service, "renamed/m1").is_success)
        assert chat(service, "mine/m1").is_success


def test_keys_met_while_running_are_kept_out_of_the_log(tmp_path: Path) -> None:
    key = "plain words of 20 characters".replace(" ", "")
    with ScriptedUpstream(otherwise="ok") as upstream, RunningService(tmp_path, upstream) as service:
        formatter = RedactingFormatter(service.service.launch.secrets)
        record = logging.LogRecord("x", logging.ERROR, "x", 1, "refused: %s", (key,), None)
        assert key in formatter.format(record)
        add(service, upstream, api_key=key)
        assert key not in formatter.format(record)


def test_a_damaged_account_is_a_problem_of_its_own(tmp_path: Path) -> None:
    with ScriptedUpstream(otherwise="ok") as upstream:
        with RunningService(tmp_path, upstream) as service:
            add(service, upstream)
        connection = sqlite3.connect(service.data / "agent-service" / "state.db")
        with connection:
            connection.execute("UPDATE provider_accounts SET ciphertext = x'00'")
        connection.close()
        with RunningService(tmp_path, upstream) as service:
            assert "damaged or moved" in service.client.get("/health").json()["problems"][0]
            assert chat(service, "up1/m1").is_success
            assert service.client.delete("/api/providers/mine").is_success
            assert service.client.get("/health").json()["problems"] == []
