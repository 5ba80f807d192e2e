"""The README is true: its examples are run as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from agent_service.agent.approvals import ApprovalPolicy
from agent_service.settings import Settings, load_settings, routing_config
from tests.service import RunningService
from tests.upstream import ScriptedUpstream, ScriptItem, calls

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
KEYS = {
    "ALICE_KEY": "a" * 32,
    "OPS_KEY": "o" * 32,
    "GROQ_API_KEY": "gsk",
    "GEMINI_WORK_KEY": "gwk",
}
"""What the configuration example reads from the environment."""


def blocks(tag: str) -> list[str]:
    return [text for found, text in BLOCKS if found == tag]


def curl_examples(answered_in: str) -> list[tuple[str, str]]:
    """Each curl command with what is printed below it, of those that are answered in that format."""
    return [
        (command, answer)
        for (tag, command), (next_tag, answer) in pairwise(BLOCKS)
        if tag == "sh" and command.startswith("curl") and next_tag == answered_in
    ]


def contains(actual: Any, shown: Any) -> bool:
    """Whether everything that is shown is there; `...` stands for anything."""
    if isinstance(shown, dict):
        return isinstance(actual, dict) and all(
            k in actual and contains(actual[k], v) for k, v in shown.items()
        )
    if isinstance(shown, list):
        return len(actual) == len(shown) and all(map(contains, actual, shown))
    return bool(shown in (actual, "..."))


def first_events(command: str, number: int) -> list[list[str]]:
    """The lines of so many events of a stream that goes on."""
    events: list[list[str]] = [[]]
    limited = command.replace("curl -sN", "exec curl -sN --max-time 30")
    with subprocess.Popen(["sh", "-c", limited], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        for line in map(str.strip, curl.stdout):
            if line and not line.startswith(":"):
                events[-1].append(line)
            elif events[-1]:
                events.append([])
            if len(events) > number:
                break
        curl.terminate()
    return events[:number]


def test_the_curl_examples(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    project = tmp_path / "greeter"
    project.mkdir()
    script: list[ScriptItem] = [
        calls(("ask_human_for_input", {"question": "Which name should be greeted?"}, "call_1")),
        calls(("write_file", {"filepath": "name.txt", "content": "Orion\n"}, "call_2")),
        "I wrote the name to name.txt.",
        "Hello!",
    ]
    examples = curl_examples("json")
    assert len(examples) == 7
    checkpoints: dict[str, str] = {}
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        for command, printed in examples:
            shown = json.loads(printed)
            here = command.replace("http://127.0.0.1:8000", service.url).replace("/tmp/greeter", str(project))
            for there, actual in checkpoints.items():
                here = here.replace(there, actual)
            ran = subprocess.run(["sh", "-c", here], capture_output=True, text=True, timeout=30, check=True)
            answer = json.loads(ran.stdout)
            for entry, found in zip(
                shown.get("checkpoints", ()), answer.get("checkpoints", ()), strict=False
            ):
                checkpoints[entry.pop("checkpoint_id")] = found["checkpoint_id"]
            assert contains(answer, shown), f"{command}\ngave\n{ran.stdout}"
        [(command, printed)] = curl_examples("text")
        wanted = [event.splitlines() for event in printed.strip().split("\n\n")]
        found = first_events(command.replace("http://127.0.0.1:8000", service.url), len(wanted))
    for (*head, data), (*shown_head, shown_data) in zip(found, wanted, strict=True):
        assert head == shown_head
        abridged = json.loads(shown_data.removeprefix("data: ").replace(",...}", "}"))
        assert contains(json.loads(data.removeprefix("data: ")), abridged), data


def configuration_example(home: Path) -> Settings:
    [text] = blocks("yaml")
    file = home / "config.yaml"
    file.write_text(text)
    return load_settings(file, {}, {"HOME": str(home), **KEYS})


def test_the_configuration_example(tmp_path: Path) -> None:
    settings = configuration_example(tmp_path)
    assert [(key.name, key.admin) for key in settings.server.api_keys] == [("alice", False), ("ops", True)]
    assert settings.server.allowed_hosts == ("agent.example",)
    assert settings.state.keep_checkpoints == 200
    assert settings.agent.allowed_roots == (tmp_path / "src",)
    assert settings.agent.max_run_cost_usd == 2
    assert settings.budgets.model_dump() == {
        "per_day_usd": 5,
        "per_principal_day_usd": 2,
        "per_thread_usd": 1,
    }
    assert settings.notify.command == ("notify-send", "The agent has a question")
    assert [link.provider for link in settings.models["code"]] == ["team", "groq"]
    assert settings.model_groups["quick"].strategy == "latency-based"
    specs = {spec.account_id: spec for spec in routing_config(settings, KEYS).providers}
    assert set(specs) == {"groq", "gemini:work", "team"}
    assert specs["gemini:work"].cap_usd_per_day == 3
    assert specs["gemini:work"].limits.requests_per_day == 1000
    assert specs["team"].models[0].context_window == 131072


def test_the_approvals_of_the_configuration_example(tmp_path: Path) -> None:
    policy = ApprovalPolicy(configuration_example(tmp_path).agent.approvals)
    asked = [
        ("write_file", "a.py"),
        *(("edit_file", path) for path in ("a.py", "migrations/1.sql", "x.lock")),
    ]
    rules = [policy.verdict(tool, "workspace", path).rule for tool, path in asked]
    assert rules == ["ask", "auto", "ask", "deny"]


def test_the_server_of_the_configuration_example_answers_to_its_name(tmp_path: Path) -> None:
    [text] = blocks("yaml")
    server = yaml.safe_load(text)["server"]
    with (
        ScriptedUpstream() as upstream,
        RunningService(tmp_path, upstream, key=KEYS["ALICE_KEY"], environ=KEYS, server=server) as service,
    ):

        def get(host: str, **headers: str) -> httpx.Response:
            return service.client.get("/v1/models", headers={"Host": host, **headers})

        assert get("agent.example").status_code == 200
        assert get("agent.example", Authorization="").status_code == 401
        assert get("other.example").status_code == 421


def test_the_tool_examples(tmp_path: Path, project: Path) -> None:
    [text] = blocks("python")
    (tmp_path / "own_tools_of_the_readme.py").write_text(text)
    script: list[ScriptItem] = [
        calls(  # on one file, so each sees what those before it did
            ("write_file", {"filepath": "a.txt", "content": "two\none and\n"}),
            ("count_words", {"filepath": "a.txt"}),
            ("sort_lines", {"filepath": "./a.txt"}),
        ),
        "ok",
    ]
    own = {"tools": [f"own_tools_of_the_readme:{name}" for name in ("count_words", "sort_lines")]}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream, agent=own) as service:
            assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
            told = [message["content"] for message in upstream.bodies[-1]["messages"][-2:]]
    assert told == ["3 words", "sorted a.txt"]
    assert (project / "a.txt").read_text() == "one and\ntwo\n"


def test_the_routes_are_those_that_there_are(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        paths = service.client.get("/openapi.json").json()["paths"]
        assert service.client.get("/docs").status_code == 200
    named: set[tuple[str, str]] = set()
    for methods, path, query in re.findall(r"`([A-Z]+(?:, [A-Z]+)*) (/[^`? ]*)\??([^`]*)`", README):
        named |= {(method, path) for method in methods.split(", ")}
        known = {each["name"] for each in paths.get(path, {}).get("get", {}).get("parameters", ())}
        assert {part.partition("=")[0] for part in query.split("&") if part} <= known, path
    named -= {("GET", "/docs"), ("GET", "/openapi.json")}
    assert named == {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert not re.findall(r"`(?:\.\.\.)?/(?:\{|v1/|api/)[^`]*`", README), "a route without its method"
