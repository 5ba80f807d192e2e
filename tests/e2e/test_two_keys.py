"""Two keys in the environment and no file: both are used, a dead one is passed over, and it is told why."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service import wait_until
from tests.upstream import ScriptedUpstream

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30
FIRST, SECOND = "sk-first-0123456789abcdef", "sk-second-0123456789abcd"
TOOL = {"type": "function", "function": {"name": "read_file", "parameters": {"type": "object"}}}


class Home:
    """A home folder without a file in it, two upstreams, and the command with nothing but their keys."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._first = ExitStack()
        self.first = self._first.enter_context(
            ScriptedUpstream(api_key=FIRST, otherwise="from the first", models=("gpt-4o",))
        )
        stack.callback(self.stop_first)
        self.second = stack.enter_context(
            ScriptedUpstream(api_key=SECOND, otherwise="from the second", models=("spare",))
        )
        self.folder = folder
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "OPENAI_API_KEY": FIRST,
            "OPENAI_BASE_URL": self.first.base_url,
            "LITELLM_PROXY_API_KEY": SECOND,
            "LITELLM_URL": self.second.base_url,
            "AGENT_SERVICE_ROUTER__EXPLORATION": "0",
        }

    def stop_first(self) -> None:
        self._first.close()

    def serve(self, stack: ExitStack) -> httpx.Client:
        """A client of the service, once that has said that it is ready."""
        process = subprocess.Popen(
            [*self._command("serve"), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environ,
        )
        stack.callback(process.communicate)
        stack.callback(process.kill)
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        self.environ["AGENT_SERVICE_URL"] = found[0]
        client = httpx.Client(base_url=found[0], timeout=PATIENCE, trust_env=False)
        return stack.enter_context(client)

    def call(self, *words: str) -> str:
        """What the finished command printed."""
        done = subprocess.run(
            self._command(*words),
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environ,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "agent_service", *words]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ask(service: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"model": "auto", "model_quality": "best_quality", "tools": [TOOL], **fields}
    return service.post(
        "/v1/chat/completions", json={**body, "messages": [{"role": "user", "content": "hello"}]}
    )


def test_two_keys_route_over_both_and_a_dead_provider_is_passed_over(
    tmp_path: Path, stack: ExitStack
) -> None:
    home = Home(tmp_path, stack)
    service = home.serve(stack)
    ids = [each["id"] for each in service.get("/v1/models").json()["data"]]
    assert ids[:2] == ["openai/gpt-4o", "litellm_proxy/spare"]
    for model, words in (("openai/gpt-4o", "first"), ("litellm_proxy/spare", "second")):
        assert ask(service, model=model).json()["choices"][0]["message"]["content"] == f"from the {words}"
    best = ask(service)
    assert best.headers["x-router-provider"] == "openai"
    before = home.call("models", "--why", "fix a bug")
    assert re.search(r"openai/gpt-4o\s.*the highest quality", before), before

    home.stop_first()
    answer = ask(service)
    assert answer.json()["choices"][0]["message"]["content"] == "from the second"
    assert answer.headers["x-router-provider"] == "litellm_proxy"
    assert int(answer.headers["x-router-attempts"]) > 1

    def told() -> str | None:
        """What the command says while the first one rests; on a slow machine its rest may be over by then."""
        ask(service)
        shown = home.call("models", "--why", "fix a bug")
        return shown if "it failed several times in a row (openai could not be reached)" in shown else None

    after = wait_until(told, 3 * PATIENCE)
    assert re.search(r"^litellm_proxy/spare\s.*\n(.*\n)*openai/gpt-4o", after, re.MULTILINE), after
    wait_until(lambda: ask(service).headers["x-router-attempts"] == "1")  # it is left alone
    up = {"openai": False, "litellm_proxy": True}
    wait_until(lambda: ask(service).is_success and service.get("/health").json()["providers"] == up)
    rows = {row["name"]: row for row in json.loads(home.call("providers", "list", "--json"))["data"]}
    assert {name: row["accounts"][0]["key_from"] for name, row in rows.items()} == {
        "openai": "OPENAI_API_KEY",
        "litellm_proxy": "LITELLM_PROXY_API_KEY",
    }
    shown = before + after + home.call("providers", "list")
    assert FIRST not in shown and SECOND not in shown


def test_a_second_key_of_the_same_provider_is_another_account(tmp_path: Path, stack: ExitStack) -> None:
    home = Home(tmp_path, stack)
    home.environ |= {"OPENAI_API_KEY": "sk-revoked-0123456789", "OPENAI_API_KEY_2": FIRST}
    service = home.serve(stack)
    answer = ask(service, model="openai/gpt-4o")
    assert answer.json()["choices"][0]["message"]["content"] == "from the first"
    assert (answer.headers["x-router-account"], answer.headers["x-router-attempts"]) == ("2", "2")
    listed = home.call("providers", "list")
    assert re.search(r"openai\s+paid\s+default\s.*OPENAI_API_KEY\s+its key was refused", listed), listed
    assert re.search(r"openai\s+paid\s+2\s.*OPENAI_API_KEY_2\s+ready", listed), listed
    why = home.call("models", "--why", "fix a bug")
    assert re.search(r"openai/gpt-4o\s+2\s.*the highest quality", why), why
    assert re.search(r"openai/gpt-4o\s+default\s.*its key was refused", why), why
