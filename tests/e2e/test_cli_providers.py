"""`agent-service providers` as people and scripts use it, with a service running and without one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.desk import PATIENCE, Desk, Screen
from tests.service import wait_until
from tests.upstream import ScriptedUpstream, status

KEY, WRONG = "sk-good-0123456789abcdWXYZ", "sk-wrong-9876543210QRST"


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(api_key=KEY, otherwise="ok", models=("coder",)) as server:
        yield server


@pytest.fixture
def desk(desk: Desk, upstream: ScriptedUpstream) -> Desk:
    desk.config.write_text(
        f"server: {{port: {desk.port}}}\nrouter: {{detect_local: false}}\n"
        f"providers:\n  team:\n    base_url: {upstream.base_url}\n    api_key: {WRONG}\n"
        "    models: [{id: coder}]\n"
    )
    return desk


def adding(upstream: ScriptedUpstream, name: str = "mine") -> list[str]:
    where = ["--base-url", upstream.base_url, "--allow-private", "--model", "coder"]
    return ["providers", "add", name, "--api-key-stdin", *where]


def test_without_a_service_the_data_folder_is_worked_on(desk: Desk, upstream: ScriptedUpstream) -> None:
    added = desk.call(*adding(upstream), stdin=f"{KEY}\n")
    assert added.stdout == "✓ mine/default is stored: 1 model listed; coder answered.\n", added.stderr
    assert desk.call("providers", "rotate").stdout.startswith("1 key was encrypted anew")
    assert "mine/coder" in desk.call("models").stdout
    assert desk.call("providers", "remove", "mine", "--yes").stdout == "Deleted: mine/default.\n"


def test_with_a_running_service_from_adding_to_removing(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.serve()
    refused = desk.call(*adding(upstream), stdin=f"{WRONG}\n")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "The key was not stored" in refused.stderr
    added = desk.call(*adding(upstream), stdin=f"{KEY}\n")
    assert added.stdout == "✓ mine/default is stored: 1 model listed; coder answered.\n", added.stderr
    listed = desk.call("providers", "list")
    assert re.search(r"mine\s+paid\s+default\s+\.\.\.WXYZ\s+store\s+ready", listed.stdout), listed.stdout
    assert re.search(r"team\s+paid\s+default\s+\.\.\.QRST\s+configuration\s", listed.stdout)
    assert [line.count("\t") for line in listed.stdout.splitlines()] == [5, 5, 5]
    rows = json.loads(desk.call("providers", "list", "--json", "--all").stdout)["data"]
    assert {"groq", "mine"} <= {row["name"] for row in rows}
    assert "...WXYZ (from store)" in desk.call("providers", "show", "mine").stdout
    tested = desk.call("providers", "test")
    assert tested.returncode == 1, "the team's key is wrong"
    assert "✓ mine/default" in tested.stdout and "✗ team/default" in tested.stdout
    kept = desk.call("providers", "remove", "mine")
    assert (kept.returncode, kept.stdout) == (1, "Nothing was deleted; --yes deletes without asking.\n")
    assert desk.call("providers", "remove", "mine", "--yes").stdout == "Deleted: mine/default.\n"
    assert "mine" not in desk.call("providers", "list").stdout
    for done in (refused, added, listed, tested):
        assert not re.search(f"{KEY}|{WRONG}", done.stdout + done.stderr)


def test_names_that_are_not_there_get_hints(desk: Desk) -> None:
    unknown = desk.call("providers", "add", "grok", "--api-key-stdin", stdin=KEY)
    assert unknown.returncode == 2
    assert "Did you mean groq?" in unknown.stderr
    retired = desk.call("providers", "add", "github", "--api-key-stdin", stdin=KEY)
    assert "was retired; its address answers 410 Gone (since 2026-07-30)" in retired.stderr
    configured = desk.call("providers", "remove", "team", "--yes")
    assert "comes from the configuration file; change it there." in configured.stderr
    nobody = desk.call("providers", "add", "groq")
    assert (nobody.returncode, "--api-key-stdin" in nobody.stderr) == (2, True)
    script = desk.call("providers", "configure")
    assert (script.returncode, "providers add" in script.stderr) == (2, True)


def test_a_key_is_no_argument(desk: Desk) -> None:
    assert desk.call("providers", "add", "groq", KEY).returncode == 2
    assert desk.call("providers", "add", "groq", "--api-key", KEY).returncode == 2


def test_an_import_says_what_was_taken_skipped_and_why(desk: Desk, upstream: ScriptedUpstream) -> None:
    file = desk.project / "providers.json"
    place = {"base_url": upstream.base_url, "allow_private": True, "models": ["coder"]}
    records = [
        {"name": "good", "api_key": KEY, **place},
        {"name": "bad", "api_key": WRONG, **place},
        {"name": "far", "api_key": KEY, "base_url": "http://10.0.0.1/v1"},
        {"name": "unset", "api_key_env": "UNSET_KEY"},
        {"name": "github", "api_key": KEY},
    ]
    file.write_text(json.dumps(records))
    tried = desk.call("providers", "import", str(file), "--dry-run")
    assert "2 would be taken, 2 refused, 1 note." in tried.stdout
    assert f"· good/default: key ...WXYZ, to {upstream.base_url}" in tried.stdout
    assert "✗ github/default: GitHub Models was retired" in tried.stdout
    assert "good" not in desk.call("providers", "list").stdout
    done = desk.call("providers", "import", str(file))
    assert (tried.returncode, done.returncode) == (1, 1), done.stderr
    assert "✓ good/default is stored" in done.stdout
    assert "✗ bad/default: The key was not stored" in done.stdout
    assert "✗ far/default: base_url: must start with https://" in done.stdout
    assert "- unset: the environment variable that api_key_env names is not set" in done.stdout
    assert "1 taken, 3 refused, 1 note." in done.stdout
    assert not re.search(f"{KEY}|{WRONG}", tried.stdout + done.stdout + done.stderr)
    assert desk.call("providers", "import", "no-such-file").returncode == 2


def test_of_a_broken_file_nothing_is_imported(desk: Desk, upstream: ScriptedUpstream) -> None:
    file = desk.project / "keys.yaml"
    place = f'  mine:\n    base_url: "{upstream.base_url}"\n      allow_private: true\n'
    file.write_text(f"providers:\n  groq:\n    api_key: {KEY}\n{place}")
    broken = desk.call("providers", "import", str(file), "--no-verify")
    assert broken.returncode == 2 and "(YAML), line 6: it is not valid YAML" in broken.stderr
    file.write_bytes(f"GROQ_API_KEY={KEY}\n".encode("utf-16"))
    no_text = desk.call("providers", "import", str(file), "--no-verify")
    assert no_text.returncode == 2 and "is no text, or not in UTF-8; save it as UTF-8." in no_text.stderr
    assert KEY not in broken.stderr + no_text.stderr
    assert not {"groq", "mine"} & set(desk.call("providers", "list").stdout.split())


def test_an_imported_file_sends_no_variable_to_its_own_address_unasked(
    desk: Desk, upstream: ScriptedUpstream
) -> None:
    file = desk.project / "providers.yaml"
    place = f"base_url: '{upstream.base_url}', allow_private: true, models: [coder]"
    file.write_text(f"one: {{api_key_env: MY_TOKEN, {place}}}\ntwo: {{api_key: '${{MY_TOKEN}}', {place}}}\n")
    desk.environ["MY_TOKEN"] = KEY
    before = len(upstream.requests)
    shown = f"key ...WXYZ (from the environment: MY_TOKEN), to {upstream.base_url}"
    tried = desk.call("providers", "import", str(file), "--dry-run")
    assert f"· one/default: {shown}; needs your consent" in tried.stdout
    refused = desk.call("providers", "import", str(file))
    assert refused.returncode == 1 and refused.stdout.count("not sent, because nobody agreed") == 2
    assert f"· one/default: {shown}\n" in refused.stdout
    assert len(upstream.requests) == before and "one" not in desk.call("providers", "list").stdout
    agreed = desk.call("providers", "import", str(file), "--allow-env-keys")
    assert agreed.returncode == 0 and "✓ one/default is stored" in agreed.stdout, agreed.stdout
    assert len(upstream.requests) > before


def test_what_is_not_known_of_a_providers_terms_is_said(desk: Desk) -> None:
    known, unknown = (desk.call("providers", "show", each).stdout for each in ("gemini", "openai"))
    assert re.search(r"training +on prompts: yes, except users in the EEA", known)
    assert re.search(r"training +on prompts: not known", unknown)
    assert re.search(r"limits +not known", unknown) and re.search(r"forbids +not known", unknown)


def test_a_provider_that_cannot_be_reached_is_no_good_one(desk: Desk, upstream: ScriptedUpstream) -> None:
    with ScriptedUpstream() as gone:
        address = gone.base_url
    added = desk.call("providers", "add", "far", "--no-key", "--base-url", address, "--allow-private")
    assert "not proven good: far could not be reached" in added.stdout
    tested = desk.call("providers", "test", "far")
    assert (tested.returncode, tested.stdout) == (1, "? far/default: far could not be reached\n")
    assert "far/default: gave no list of models: far could not be reached" in desk.call("models").stdout


def test_a_lost_master_key(desk: Desk, upstream: ScriptedUpstream) -> None:
    assert desk.call(*adding(upstream), stdin=KEY).returncode == 0
    master = Path(desk.environ["XDG_DATA_HOME"]) / "agent-service" / "master.key"
    kept = master.read_text()
    master.unlink()
    for words in (("serve",), ("providers", "list"), ("providers", "add", "groq", "--api-key-stdin")):
        stopped = desk.call(*words, stdin=KEY)
        assert stopped.returncode == 2
        assert "encrypted with the master key" in stopped.stderr and "\n  (2) if it is lost" in stopped.stderr
    assert not master.exists()
    examined = desk.call("doctor")
    assert examined.returncode == 1 and "✗ accounts" in examined.stdout
    master.write_text(kept)
    master.chmod(0o644)
    assert "chmod 600" in desk.call("providers", "list").stderr
    master.chmod(0o600)
    assert "mine" in desk.call("providers", "list").stdout
    master.unlink()
    assert desk.call("providers", "remove", "--unreadable").returncode == 1
    assert desk.call("providers", "remove", "--unreadable", "--yes").stdout == "Deleted: mine/default.\n"
    assert desk.call(*adding(upstream), stdin=KEY).returncode == 0


def test_the_dialogue_changes_the_key_of_a_stored_server_of_ones_own(desk: Desk) -> None:
    with ScriptedUpstream(otherwise="ok", models=("coder",)) as open_to_all:
        adding_mine = [*adding(open_to_all), "--cap", "3"]
        assert desk.call(*adding_mine, stdin="sk-former-0123456789OLD1").returncode == 0
        screen = Screen(desk.command("providers", "configure"), desk.project, desk.environ)
        screen.until("mine*")
        screen.until("Provider (Enter to end) ›")
        screen.type("mine\n")
        screen.until("(Enter for `default`)")
        screen.type("\n")
        screen.until(f"mine/default is stored at {open_to_all.base_url}")
        screen.until("Key, not shown (Enter to leave it)")
        asked = len(open_to_all.requests)
        screen.type(f"{KEY}\n")
        screen.until("✓ stored: 1 model listed; coder answered")
        assert len(open_to_all.requests) > asked, "the key is tried at the stored address"
        screen.wait_for(lambda: screen.text.count("Provider (Enter to end) ›") == 2)
        screen.type("mine\n")
        screen.wait_for(lambda: screen.text.count("(Enter for `default`)") == 2)
        screen.type("work\n")
        screen.wait_for(lambda: screen.text.count("Key, not shown (Enter to leave it)") == 2)
        screen.type("sk-second-0123456789NEW2\n")
        screen.wait_for(lambda: screen.text.count("✓ stored") == 2)
        screen.type("\n")
        assert screen.end() == 0
        first, second = json.loads(desk.call("providers", "show", "mine", "--json").stdout)["accounts"]
        assert (first["account"], first["key"], first["cap_usd_per_day"]) == ("default", "...WXYZ", 3)
        assert (second["account"], second["key"], second["base_url"]) == (
            "work",
            "...NEW2",
            first["base_url"],
        )


def test_the_dialogue_tells_a_wrong_key_at_once(desk: Desk, upstream: ScriptedUpstream) -> None:
    screen = Screen(desk.command("providers", "configure"), desk.project, desk.environ)
    screen.until("Provider (Enter to end) ›")
    assert "openrouter" in screen.text
    screen.type("grokk\n")
    screen.until("Did you mean groq?")
    screen.until("Its address")
    screen.type("\n")
    screen.until("(Enter to end) › grokk")
    screen.type("mine\n")
    screen.until("There is no provider named 'mine'")
    screen.type(f"{upstream.base_url}\n")
    screen.until("may it be on this machine or its network? [y/N]")
    screen.type("y\n")
    screen.until("Key, not shown")
    screen.type(f"{WRONG}\n")
    screen.until("✗ The key was not stored")
    screen.until("Another key, not shown")
    screen.type(f"{KEY}\n")
    screen.until("✓ stored: 1 model listed; coder answered")
    screen.type("\n")
    assert screen.end() == 0
    assert screen.text.endswith("1 stored.\n")
    assert WRONG not in screen.raw and KEY not in screen.raw
    assert "...WXYZ" in desk.call("providers", "show", "mine").stdout


def test_what_asks_no_model_needs_no_keys_of_providers(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.config.write_text(
        f"server: {{port: {desk.port}}}\nrouter: {{detect_local: false}}\n"
        f"providers:\n  groq: {{base_url: {upstream.base_url}, models: [{{id: coder}}]}}\n"
    )
    for words in (("usage",), ("threads", "list"), ("providers", "list")):
        alone = desk.call(*words)
        assert alone.returncode == 0, alone.stderr
        assert ("set GROQ_API_KEY" in alone.stdout) == (words[0] == "providers")
    for words in (("serve",), ("run", "Anything")):
        refused = desk.call(*words)
        assert refused.returncode == 2
        assert "providers.groq.api_key: is missing; write it here, or set GROQ_API_KEY" in refused.stderr
    examined = desk.call("doctor")
    assert examined.returncode == 1 and "✗ groq  " in examined.stdout and "✓ database" in examined.stdout
    desk.environ["GROQ_API_KEY"] = KEY
    desk.serve()
    del desk.environ["GROQ_API_KEY"]
    for words in (("usage",), ("models",), ("run", "Say ok"), ("doctor",)):
        served = desk.call(*words)
        assert served.returncode == 0, served.stderr
    assert "The service that runs may have it" in served.stdout


def test_a_good_test_by_another_process_ends_the_rest_of_an_account_without_money(desk: Desk) -> None:
    folder = ("--data-dir", str(Path(desk.environ["HOME"]) / "kept"))
    with ScriptedUpstream([status(402, "Insufficient balance")], otherwise="ok", models=("coder",)) as poor:
        desk.config.write_text(
            f"server: {{port: {desk.port}}}\nrouter: {{detect_local: false}}\n"
            f"providers:\n  poor: {{base_url: {poor.base_url}, api_key: {KEY}, models: [{{id: coder}}]}}\n"
        )
        desk.serve(*folder)
        assert desk.call("run", "Say ok").returncode == 1
        assert "its account is out of money" in desk.call("models", "--why", "a task").stdout
        assert "✓ poor/default" in desk.call("providers", "test", *folder).stdout
        wait_until(lambda: "the only one" in desk.call("models", "--why", "a task").stdout, PATIENCE)
        assert desk.call("run", "Say ok").returncode == 0
