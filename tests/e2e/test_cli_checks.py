"""The commands that look at things, and the demo."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.e2e.desk import DIFF, QUESTION, Desk, Screen
from tests.upstream import ScriptedUpstream, calls, status


def test_the_demo_answers_for_those_who_cannot(
    desk: Desk, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.then(
        QUESTION,
        calls(("write_file", {"filepath": "greet.py", "content": 'print("Hello, Orion!")\n'})),
        "Done.",
    )
    done = desk.call("demo", environ={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "answering 'Hello, Orion!' for you" in done.stdout
    assert DIFF in done.stdout
    assert "What to do next" in done.stdout
    assert f"The model    team/coder  at {upstream.base_url}" in done.stdout


def test_a_demo_that_fails_says_what_to_try(desk: Desk, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.then(QUESTION, status(400))
    failed = desk.call("demo", environ={"TMPDIR": str(tmp_path)})
    assert failed.returncode == 1, failed.stdout
    assert "What to do next" not in failed.stdout
    assert "doctor --config" in failed.stdout


def test_doctor_says_what_works_and_never_a_key(desk: Desk, upstream: ScriptedUpstream) -> None:
    healthy = desk.call("doctor")
    assert healthy.returncode == 0, healthy.stdout
    assert "✓ team           key set, 1 model at" in healthy.stdout
    assert "sk-secret" not in healthy.stdout + healthy.stderr
    report = json.loads(desk.call("doctor", "--json").stdout)
    assert report["healthy"] is True


def test_doctor_sees_a_rule_that_protects_nothing(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.configure(upstream, agent="agent: {approvals: {writefile: ask}}")
    told = desk.call("doctor")
    assert told.returncode == 1
    assert "agent.approvals.writefile: there is no such tool; did you mean write_file?" in told.stdout


def test_doctor_fails_without_any_model(desk: Desk) -> None:
    desk.config.write_text(f"router: {{detect_local: false}}\nserver: {{port: {desk.port}}}")
    broken = desk.call("doctor", "--json")
    assert broken.returncode == 1
    found = {check["name"]: check["state"] for check in json.loads(broken.stdout)["checks"]}
    assert found["models"] == "broken"


def test_models_are_ranked_with_reasons(desk: Desk) -> None:
    titles, row = desk.call("models", "--why", "fix a bug").stdout.splitlines()
    assert titles.split("\t") == ["model", "quality", "context", "price", "answer", "why"]
    assert row.startswith("team/coder\t0.80\t131k\t? / ?\t") and "the only one" in row
    screen = Screen(desk.command("models", "--why", "fix a bug"), desk.project, desk.environ)
    assert screen.end() == 0
    assert "price: US dollars" in screen.text
    assert "1 of 1 may be asked now" in screen.text
    rows = json.loads(desk.call("models", "--json").stdout)
    assert [row["model"] for row in rows] == ["coder"]


def test_the_demo_without_a_model_names_the_other_ways_and_downloads_nothing(
    desk: Desk, tmp_path: Path
) -> None:
    desk.config.write_text(f"router: {{detect_local: false}}\nserver: {{port: {desk.port}}}")
    folder = tmp_path / "temporary"
    folder.mkdir()
    declined = desk.call("demo", environ={"TMPDIR": str(folder)})
    assert "GROQ_API_KEY" in declined.stdout
    assert "local install" not in declined.stdout, "that was just declined"
    assert not (tmp_path / "data" / "agent-service" / "models").exists()
    assert not list(folder.glob("agent-demo-*"))
    assert declined.returncode == 1


def test_no_model_at_all_is_told_with_the_ways_out(desk: Desk) -> None:
    desk.config.write_text(f"router: {{detect_local: false}}\nserver: {{port: {desk.port}}}")
    for words in (("models",), ("run", "Anything")):
        refused = desk.call(*words)
        assert refused.returncode == 1
        assert "local install" in refused.stderr
        assert "\n  (2) start a model server" in refused.stderr


def test_doctor_names_what_is_in_the_way(desk: Desk, upstream: ScriptedUpstream) -> None:
    desk.configure(upstream, agent="agent: {tools: ['no_such_module:tool']}")
    with socket.create_server(("127.0.0.1", desk.port)):
        broken = desk.call("doctor", "--data-dir", "/proc/agent")
    assert broken.returncode == 1
    marks = {line.split("  ")[0] for line in broken.stdout.splitlines() if line.startswith("✗")}
    assert marks == {"✗ data folder", "✗ tools", "✗ address"}
    assert f"--port {desk.port + 1}" in broken.stdout


def test_doctor_sets_all_that_is_wrong_with_the_configuration_in_its_column(desk: Desk) -> None:
    desk.config.write_text("server: {port: no-number, nonsense: 1}")
    _, first, second, *_ = desk.call("doctor").stdout.splitlines()
    assert first.startswith("✗ configuration  ") and "server." in first
    assert second.startswith(" " * 17) and "server." in second
