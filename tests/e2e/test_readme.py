"""The README is true: its examples are run as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_service.settings import load_settings
from tests.service import RunningService
from tests.upstream import ScriptedUpstream, ScriptItem, calls

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(tag: str) -> list[str]:
    return [text for found, text in BLOCKS if found == tag]


def curl_examples() -> list[tuple[str, Any]]:
    """Each curl command with the JSON printed below it."""
    examples = []
    for (tag, command), (next_tag, answer) in pairwise(BLOCKS):
        if tag == "sh" and command.startswith("curl") and next_tag == "json":
            examples.append((command, json.loads(answer)))
    return examples


def contains(actual: Any, shown: Any) -> bool:
    """Whether everything that is shown is there."""
    if isinstance(shown, dict):
        return isinstance(actual, dict) and all(
            k in actual and contains(actual[k], v) for k, v in shown.items()
        )
    if isinstance(shown, list):
        return len(actual) == len(shown) and all(map(contains, actual, shown))
    return bool(actual == shown)


def test_the_curl_examples(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    project = tmp_path / "greeter"
    project.mkdir()
    script: list[ScriptItem] = [
        calls(("ask_human_for_input", {"question": "Which name should be greeted?"}, "call_1")),
        calls(("write_file", {"filepath": "name.txt", "content": "Orion\n"})),
        "I wrote the name to name.txt.",
        "Hello!",
    ]
    examples = curl_examples()
    assert len(examples) == 7
    checkpoints: dict[str, str] = {}
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream) as service:
        for command, shown in examples:
            here = command.replace("http://127.0.0.1:8000", service.url).replace("/tmp/greeter", str(project))
            for printed, actual in checkpoints.items():
                here = here.replace(printed, actual)
            ran = subprocess.run(["sh", "-c", here], capture_output=True, text=True, timeout=30, check=True)
            answer = json.loads(ran.stdout)
            for entry, found in zip(
                shown.get("checkpoints", ()), answer.get("checkpoints", ()), strict=False
            ):
                checkpoints[entry.pop("checkpoint_id")] = found["checkpoint_id"]
            assert contains(answer, shown), f"{command}\ngave\n{ran.stdout}"


def test_the_configuration_example(tmp_path: Path) -> None:
    [text] = blocks("yaml")
    file = tmp_path / "config.yaml"
    file.write_text(text)
    environ = {
        "HOME": str(tmp_path),
        "ALICE_KEY": "a" * 32,
        "OPS_KEY": "o" * 32,
        "GROQ_API_KEY": "gsk",
        "GEMINI_WORK_KEY": "gwk",
    }
    settings = load_settings(file, {}, environ)
    assert set(settings.providers) == {"groq", "gemini", "team"}
    assert settings.agent.max_steps == yaml.safe_load(text)["agent"]["max_steps"]
    assert settings.agent.allowed_roots == (tmp_path / "src",)


def test_the_tool_example(tmp_path: Path, project: Path) -> None:
    [text] = blocks("python")
    (tmp_path / "own_tool_of_the_readme.py").write_text(text)
    (project / "a.txt").write_text("one two three")
    script: list[ScriptItem] = [calls(("count_words", {"filepath": "a.txt"})), "ok"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        own = {"tools": ["own_tool_of_the_readme:count_words"]}
        with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream, agent=own) as service:
            assert service.invoke(project_directory=str(project)).json()["agent_status"] == "completed"
            assert upstream.bodies[-1]["messages"][-1]["content"] == "3 words"


def test_every_route_that_is_named_exists(tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        paths = service.client.get("/openapi.json").json()["paths"]
    for named in set(re.findall(r"(?:POST|GET|DELETE) (/[\w/{}-]+)", README)):
        assert named.replace("{id}", "{thread_id}") in paths, named


def test_the_picture_is_there() -> None:
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (Path(__file__).parents[2] / picture).stat().st_size > 1000
