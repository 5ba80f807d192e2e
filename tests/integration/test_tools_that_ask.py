"""Tools of the user's own that ask the human: once in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.service import RunningService
from tests.upstream import ScriptedUpstream, ScriptItem, calls

TOOLS = '''
from tools.human import HumanRequest
from tools.tool import ExternalEffect, ToolContext, ToolResult, tool


@tool(effect="human")
async def ask_twice(ctx: ToolContext) -> ToolResult:
    """Ask for two things."""
    one = ctx.ask(HumanRequest("First?"))
    return ToolResult(one.text + ctx.ask(HumanRequest("Second?")).text)


@tool(effect="external")
def ask_and_ring(ctx: ToolContext) -> ExternalEffect:
    """Ask how often, then ring."""
    times = ctx.ask(HumanRequest("How often?")).text

    async def act() -> ToolResult:
        return ToolResult(f"rang {times} times")

    return ExternalEffect(f"ring {times} times", act)
'''


@pytest.mark.parametrize(
    ("name", "rule", "told"),
    [
        ("ask_twice", "ask", "Error: a tool may ask the human once"),
        ("ask_and_ring", "ask", "Error: a tool may ask the human once"),
        ("ask_and_ring", "auto", "rang 3 times"),
    ],
)
def test_a_second_question_of_one_call_is_refused_and_the_thread_goes_on(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, name: str, rule: str, told: str
) -> None:
    (tmp_path / "asking_tools_of_the_test.py").write_text(TOOLS)
    monkeypatch.syspath_prepend(tmp_path)
    agent: dict[str, Any] = {
        "tools": [f"asking_tools_of_the_test:{name}"],
        "approvals": {"ask_and_ring": rule},
    }
    script: list[ScriptItem] = [calls((name, {}, "a1")), "one", "two"]
    with ScriptedUpstream(script) as upstream, RunningService(tmp_path, upstream, agent=agent) as service:
        paused = service.invoke(project_directory=str(project), thread_id="thread-01").json()
        assert [q["tool_call_id"] for q in paused["pending_requests"]] == ["a1"]
        assert service.resume("thread-01", "a1", "3").json()["agent_status"] == "completed"
        [answer] = [m["content"] for m in upstream.bodies[-1]["messages"] if m["role"] == "tool"]
        assert answer.startswith(told)
        assert service.invoke(thread_id="thread-01").json()["explanation"] == "two"
