"""The graph: prepare -> call_model -> (one task per tool call) -> call_model -> ... -> end."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send

from agent_service.agent.approvals import rules_for
from agent_service.agent.messages import raw_arguments, unanswered_calls
from agent_service.agent.nodes import call_model, prepare
from agent_service.agent.state import AgentContext, AgentState, ToolTask
from agent_service.agent.tool_node import run_tool
from tools.errors import ToolError
from tools.tool import ToolRegistry

AgentGraph = CompiledStateGraph[AgentState, AgentContext, Any, Any]

QUESTION_OPEN = "not executed: a question to the human was open; call again if still wanted"


def build_graph(tools: ToolRegistry, saver: BaseCheckpointSaver[str]) -> AgentGraph:
    """The compiled graph. Run it with `durability="sync"` and an AgentContext."""

    def next_tasks(state: AgentState) -> list[Send] | str:
        calls = unanswered_calls(state["messages"])
        if not calls:
            return END
        return [Send("run_tool", task) for task in next_wave(calls, state, tools)]

    graph = StateGraph(AgentState, context_schema=AgentContext)
    graph.add_node("prepare", prepare)
    graph.add_node("call_model", call_model)
    graph.add_node("run_tool", run_tool)
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "call_model")
    graph.add_conditional_edges("call_model", next_tasks, ["run_tool", END])
    graph.add_edge("run_tool", "call_model")  # where the tasks of a wave meet
    return graph.compile(checkpointer=saver)


def next_wave(calls: list[dict[str, Any]], state: AgentState, tools: ToolRegistry) -> list[ToolTask]:
    """The calls to carry out now: of those on one path only the first, so that none overtakes another.

    In an answer that asks the human, calls with effects are not carried out: nobody wants a file changed
    while being asked whether to.
    """
    wishes = state["turn"]["approvals"]
    answer = next(m for m in reversed(state["messages"]) if m.type == "ai")
    asks = any(_effect(call["name"], tools) == "human" for call in answer.tool_calls)
    wave: list[ToolTask] = []
    paths: set[str] = set()
    for call in calls:
        arguments = raw_arguments(call["args"])
        waits = asks and _effect(call["name"], tools) in ("workspace", "external")
        withheld = QUESTION_OPEN if waits else None
        path = None if withheld else call_path(call["name"], arguments, tools)
        if path in paths:
            continue
        if path is not None:
            paths.add(path)
        wave.append(
            {
                "id": call["id"],
                "name": call["name"],
                "arguments": arguments,
                "approval": rules_for(wishes, call["name"]),
                "withheld": withheld,
                "model": answer.response_metadata.get("model", ""),
                "task": answer.response_metadata.get("task", "tools"),
            }
        )
    return wave


def _effect(name: str, tools: ToolRegistry) -> str:
    return tools[name].effect if name in tools else "none"


def call_path(name: str, arguments: dict[str, Any] | str, tools: ToolRegistry) -> str | None:
    """What the call is about, if another call of the same answer could be about it too."""
    if name not in tools:
        return None
    try:
        return tools[name].bind(arguments).path
    except ToolError:
        return None
