"""Who may change which file is decided call by call, and a no is the last word of its turn."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from agent_service.config_file import ConfigError
from tests.service import RunningService
from tests.upstream import ScriptedUpstream, ScriptItem, calls

EXTERNAL_TOOL = '''
from tools.tool import ExternalEffect, ToolContext, ToolResult, tool


@tool(effect="external")
def ring_bell(ctx: ToolContext, times: int) -> ExternalEffect:
    """Ring the bell."""

    async def act() -> ToolResult:
        return ToolResult("rang")

    return ExternalEffect(f"ring {times}", act)
'''

PATHLESS_TOOL = '''
from tools.tool import Effect, ToolContext, ToolResult, tool


@tool(effect="workspace")
def lock_versions(ctx: ToolContext) -> Effect:
    """Write the lock file."""
    return Effect("all.lock", None, b"1", ToolResult("locked"), preview="+1")
'''


def write(path: str, content: str, call_id: str) -> tuple[str, dict[str, str], str]:
    return ("write_file", {"filepath": path, "content": content}, call_id)


def edit(path: str, old: str, new: str, call_id: str) -> tuple[str, dict[str, str], str]:
    return ("edit_file", {"filepath": path, "old_text": old, "new_text": new}, call_id)


def told(upstream: ScriptedUpstream, call_id: str) -> str:
    """What the model was told of a call."""
    [content] = [m["content"] for m in upstream.bodies[-1]["messages"] if m.get("tool_call_id") == call_id]
    return str(content)


def open_calls(response: dict[str, Any]) -> list[str]:
    return [request["tool_call_id"] for request in response["pending_requests"]]


def test_the_path_decides(tmp_path: Path, project: Path) -> None:
    rules = {"**": "auto", "migrations/**": "ask", "*.lock": "deny"}
    script: list[ScriptItem] = [
        calls(
            write("a.txt", "1", "w1"),
            write("Migrations/1.sql", "2", "w2"),
            write("sub/X.LOCK", "3", "w3"),
        ),
        "ok",
    ]
    with (
        ScriptedUpstream(script) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {"write_file": rules}}) as service,
    ):
        paused = service.invoke(project_directory=str(project), thread_id="thread-01").json()
        assert open_calls(paused) == ["w2"]
        assert (project / "a.txt").read_text() == "1"
        assert service.resume("thread-01", "w2", "yes").json()["agent_status"] == "completed"
        assert (project / "Migrations/1.sql").read_text() == "2"
        assert not (project / "sub").exists()
        assert told(upstream, "w3") == "Error: write_file is switched off here for *.lock; do without it"


def test_a_request_makes_it_stricter_and_never_looser(tmp_path: Path, project: Path) -> None:
    own = {"write_file": {"*.lock": "deny", "a.txt": "ask"}}
    wishes = {"write_file": {"**": "auto", "b.txt": "ask"}, "*": "deny", "no_such_tool": "ask"}
    (project / "c.txt").write_text("old")
    script: list[ScriptItem] = [
        calls(
            write("a.txt", "1", "w1"),
            write("b.txt", "2", "w2"),
            write("x.lock", "3", "w3"),
            edit("c.txt", "old", "new", "e1"),
        ),
        calls(edit("c.txt", "old", "new", "e2")),
        "ok",
    ]
    with (
        ScriptedUpstream(script) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": own}) as service,
    ):
        paused = service.invoke(
            project_directory=str(project), thread_id="thread-01", approvals=wishes
        ).json()
        assert open_calls(paused) == ["w1", "w2"]
        assert paused["request_params"]["approvals"] == wishes
        service.resume("thread-01", "w1", "yes")
        service.resume("thread-01", "w2", "yes")
        assert told(upstream, "w3").startswith("Error: write_file is switched off here for *.lock")
        assert told(upstream, "e1") == "Error: edit_file is switched off here; do without it"
        assert (project / "c.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("approvals", "param", "reason"),
    [
        ({"write_file": "maybe"}, "approvals.write_file", "'auto', 'ask' or 'deny'"),
        ({"write_file": {"*.lock": 1}}, "approvals.write_file.*.lock", "'auto', 'ask' or 'deny'"),
        ({"write_file": {"../x": "ask"}}, "approvals.write_file", "'../x' has a `..`"),
        ({"write_file": {}}, "approvals.write_file", "has no rule in it"),
        ({f"t{n}": "ask" for n in range(1000)}, "approvals", "has 1000 rules"),
        ("ask", "approvals", "valid dictionary"),
    ],
)
def test_a_mistake_in_a_request_names_its_field(
    tmp_path: Path, approvals: Any, param: str, reason: str
) -> None:
    with ScriptedUpstream() as upstream, RunningService(tmp_path, upstream) as service:
        refused = service.invoke(approvals=approvals)
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == param
    assert reason in refused.json()["error"]["message"]


def test_a_mistake_in_the_configuration_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line \d+: agent\.approvals\.write_file: .*'/x' is absolute"):
        RunningService(tmp_path, agent={"approvals": {"write_file": {"/x": "ask"}}})


def test_a_rule_for_an_unknown_tool_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, "agent_service"),
        ScriptedUpstream(["ok"]) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {"wirte_file": "deny"}}) as service,
    ):
        assert service.invoke().json()["agent_status"] == "completed"
        health = service.client.get("/health").json()
    doubt = "agent.approvals.wirte_file: there is no such tool; did you mean write_file?"
    assert doubt in health["problems"]
    warnings = [each.getMessage() for each in caplog.records if "approvals" in each.getMessage()]
    assert warnings == [doubt]


def test_a_no_is_not_asked_again_within_the_turn(tmp_path: Path, project: Path) -> None:
    """Also after a restart and further answers; the next instruction may ask anew."""
    script: list[ScriptItem] = [
        calls(write("a.txt", "1", "w1")),
        calls(write("./a.txt", "1", "w2")),
        calls(write("b.txt", "2", "w3")),
        calls(write("a.txt", "1", "w4"), write("b.txt", "3", "w5")),
        "ok",
        calls(write("a.txt", "1", "w6")),
        "ok",
    ]
    again = "Error: the human refused this very thing before and said: in names.md\nDo that instead"
    rules = {"approvals": {"write_file": "ask"}}
    with ScriptedUpstream(script) as upstream:
        with RunningService(tmp_path, upstream, agent=rules) as service:
            service.invoke(project_directory=str(project), thread_id="thread-01")
            paused = service.resume("thread-01", "w1", "in names.md").json()
            assert open_calls(paused) == ["w3"]
            assert told(upstream, "w2").startswith(again)
        with RunningService(tmp_path, upstream, agent=rules) as service:
            paused = service.resume("thread-01", "w3", "no").json()
            assert open_calls(paused) == ["w5"]
            assert service.resume("thread-01", "w5", "yes").json()["agent_status"] == "completed"
            assert told(upstream, "w4").startswith(again)
            assert [path.name for path in project.iterdir()] == ["b.txt"]
            paused = service.invoke("write it now", thread_id="thread-01").json()
            assert open_calls(paused) == ["w6"]
            service.resume("thread-01", "w6", "yes")
            assert (project / "a.txt").read_text() == "1"


def test_a_second_call_of_the_same_answer_hears_the_no_too(tmp_path: Path, project: Path) -> None:
    script: list[ScriptItem] = [calls(write("a.txt", "1", "w1"), write("a.txt", "1", "w2")), "ok"]
    with (
        ScriptedUpstream(script) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {"*": "ask"}}) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01")
        assert service.resume("thread-01", "w1", "no").json()["agent_status"] == "completed"
        assert told(upstream, "w1") == "Error: the human refused this; do not try the same again"
        assert told(upstream, "w2") == (
            "Error: the human refused this very thing before; do not try the same again"
        )


def test_no_other_tool_goes_around_a_no(tmp_path: Path, project: Path) -> None:
    """Editing is free here, but not of the file that the human just refused to change."""
    for name in ("a.txt", "b.txt"):
        (project / name).write_text("old")
    script: list[ScriptItem] = [
        calls(write("a.txt", "new", "w1")),
        calls(edit("a.txt", "old", "new", "e1"), edit("b.txt", "old", "new", "e2")),
        calls(edit("a.txt", "old", "newer", "e3")),
        "ok",
    ]
    with (
        ScriptedUpstream(script) as upstream,
        RunningService(tmp_path, upstream, agent={"approvals": {"write_file": "ask"}}) as service,
    ):
        service.invoke(project_directory=str(project), thread_id="thread-01")
        paused = service.resume("thread-01", "w1", "not yet").json()
        assert told(upstream, "e1").startswith("Error: the human refused this very thing before")
        assert (project / "b.txt").read_text() == "new"
        assert open_calls(paused) == ["e3"]
        assert service.resume("thread-01", "e3", "yes").json()["agent_status"] == "completed"
        assert (project / "a.txt").read_text() == "newer"


def test_a_question_that_is_already_open_keeps_its_own_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bell_of_the_test.py").write_text(EXTERNAL_TOOL)
    monkeypatch.syspath_prepend(tmp_path)
    bell = [("ring_bell", {"times": 3}, call_id) for call_id in ("b1", "b2", "b3")]
    script: list[ScriptItem] = [calls(bell[0], bell[1]), calls(bell[2]), "ok"]
    agent = {"tools": ["bell_of_the_test:ring_bell"], "approvals": {"*": {"**": "auto"}}}
    project = tmp_path / "project"
    project.mkdir()
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream, agent=agent) as service:
        paused = service.invoke(project_directory=str(project), thread_id="thread-01").json()
        assert open_calls(paused) == ["b1", "b2"]
        assert open_calls(service.resume("thread-01", "b1", "too loud").json()) == ["b2"]
        assert service.resume("thread-01", "b2", "yes").json()["agent_status"] == "completed"
        assert told(upstream, "b1").startswith("Error: the human refused this and said: too loud")
        assert told(upstream, "b2") == "rang"
        assert told(upstream, "b3").startswith("Error: the human refused this very thing before")


def test_a_no_counts_although_the_tool_needs_no_approval_any_more(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bell_of_the_test.py").write_text(EXTERNAL_TOOL)
    monkeypatch.syspath_prepend(tmp_path)
    agent: dict[str, Any] = {"tools": ["bell_of_the_test:ring_bell"]}
    with ScriptedUpstream([calls(("ring_bell", {"times": 1}, "b1")), "ok"]) as upstream:
        with RunningService(tmp_path, upstream, agent=agent) as service:
            paused = service.invoke(project_directory=str(project), thread_id="thread-01").json()
            assert open_calls(paused) == ["b1"]
        agent["approvals"] = {"ring_bell": "auto"}
        with RunningService(tmp_path, upstream, agent=agent) as service:
            service.resume("thread-01", "b1", "no")
        assert told(upstream, "b1").startswith("Error: the human refused this")


def test_a_tool_is_judged_by_the_file_it_comes_to(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locker_of_the_test.py").write_text(PATHLESS_TOOL)
    monkeypatch.syspath_prepend(tmp_path)
    agent = {"tools": ["locker_of_the_test:lock_versions"], "approvals": {"*": {"*.lock": "deny"}}}
    script: list[ScriptItem] = [calls(("lock_versions", {}, "l1")), "ok"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream, agent=agent) as service:
        service.invoke(project_directory=str(project))
        assert told(upstream, "l1") == "Error: lock_versions is switched off here for *.lock; do without it"
        assert list(project.iterdir()) == []
