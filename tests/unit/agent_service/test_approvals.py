"""Consent is a clear yes and nothing else; a request can only make the rules stricter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agent_service.agent.approvals import (
    MAX_RULES,
    AnswerUnclear,
    ApprovalPolicy,
    ApprovalRules,
    Verdict,
    doubts,
    read_answer,
    rules_for,
)
from agent_service.agent.refusals import Refusals
from checkpoints.questions import Question
from tools.filesystem import edit_file, read_file, write_file
from tools.tool import ExternalEffect, ToolContext, ToolRegistry, ToolResult, tool

STRICTNESS = ("auto", "ask", "deny")
BY_PATH = {"**": "auto", "migrations/**": "ask", "*.lock": "deny", "migrations/0000.sql": "auto"}


@pytest.mark.parametrize("text", ["yes", "YES", " y ", "Y\n"])
def test_a_yes(text: str) -> None:
    assert read_answer(text) == (True, "")


@pytest.mark.parametrize(
    ("text", "feedback"),
    [
        ("no", ""),
        ("N", ""),
        ("no, rather b", "no, rather b"),
        ("", ""),
        ("ok", "ok"),
        ("yesterday", "yesterday"),
    ],
)
def test_a_no(text: str, feedback: str) -> None:
    assert read_answer(text) == (False, feedback)


@pytest.mark.parametrize("text", ["yes!", "yes, but later", "y maybe", "Yes please"])
def test_neither(text: str) -> None:
    with pytest.raises(AnswerUnclear):
        read_answer(text)


@pytest.mark.parametrize(
    ("rules", "effect", "wish", "expected"),
    [
        ({}, "workspace", None, "auto"),
        ({}, "external", None, "ask"),
        ({}, "external", "auto", "ask"),
        ({}, "none", "deny", "auto"),
        ({"t": "auto"}, "external", None, "auto"),
        ({"t": "auto"}, "external", "ask", "ask"),
        ({"t": "deny"}, "workspace", "ask", "deny"),
        ({"t": "ask"}, "workspace", "deny", "deny"),
        ({}, "human", "ask", "auto"),
        ({"*": "ask"}, "workspace", None, "ask"),
        ({"*": "deny", "t": "auto"}, "workspace", None, "auto"),
        ({"*": "deny"}, "none", None, "auto"),
        ({"*": "deny"}, "human", None, "auto"),
        ({"t": {"**": "deny"}}, "external", None, "ask"),
        ({"*": "deny", "t": {"x": "deny"}}, "workspace", None, "auto"),
        ({"t": "auto"}, "external", {"**": "deny"}, "ask"),
    ],
)
def test_the_stricter_rule_counts(rules: Any, effect: Any, wish: Any, expected: str) -> None:
    assert ApprovalPolicy(rules).verdict("t", effect, wish=wish) == Verdict(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.py", Verdict("auto", "**")),
        ("migrations/1.sql", Verdict("ask", "migrations/**")),
        ("migrations/deep/x.LOCK", Verdict("deny", "*.lock")),
        ("Migrations/0000.sql", Verdict("auto", "migrations/0000.sql")),
    ],
)
def test_the_last_pattern_that_matches_counts(path: str, expected: Verdict) -> None:
    assert ApprovalPolicy({"t": BY_PATH}).verdict("t", "workspace", path) == expected  # type: ignore[dict-item]
    assert ApprovalPolicy({"*": BY_PATH}).verdict("t", "workspace", path) == expected  # type: ignore[dict-item]


def test_service_and_request_are_compared_for_each_call() -> None:
    policy = ApprovalPolicy({"t": {"a": "ask", "b": "deny"}})
    wish: Any = {"a": "deny", "b": "auto", "c": "ask"}
    verdicts = [policy.verdict("t", "workspace", path, wish) for path in "abcd"]
    assert verdicts == [Verdict("deny", "a"), Verdict("deny", "b"), Verdict("ask", "c"), Verdict("auto")]


RULE = st.sampled_from(STRICTNESS)
ENTRY = RULE | st.dictionaries(st.sampled_from(["**", "a", "a/b", "*.c", "b/"]), RULE, min_size=1)
RULES = st.dictionaries(st.sampled_from(["t", "u", "*"]), ENTRY)
PATH = st.sampled_from([None, "a", "a/b", "x.c", "b/x.c"])


@given(RULES, RULES, st.sampled_from(["workspace", "external"]), PATH)
def test_a_request_never_loosens(own: Any, wishes: Any, effect: Any, path: str | None) -> None:
    policy = ApprovalPolicy(own)
    alone = policy.verdict("t", effect, path).rule
    together = policy.verdict("t", effect, path, rules_for(wishes, "t")).rule
    assert STRICTNESS.index(together) >= STRICTNESS.index(alone)


@pytest.mark.parametrize(
    ("rules", "place", "reason"),
    [
        ({"t": "maybe"}, ("t",), "Input should be 'auto', 'ask' or 'deny'"),
        ({"t": 1}, ("t",), "Input should be 'auto', 'ask' or 'deny'"),
        ({"t": None}, ("t",), "Input should be 'auto', 'ask' or 'deny'"),
        ({"t": {"*.lock": "no"}}, ("t", "*.lock"), "Input should be 'auto', 'ask' or 'deny'"),
        ({"t": {}}, ("t",), "has no rule in it"),
        ({"t": {"": "ask"}}, ("t",), "the pattern '' is empty"),
        ({"t": {"/etc/**": "ask"}}, ("t",), "the pattern '/etc/**' is absolute"),
        ({"t": {"a/../b": "ask"}}, ("t",), "the pattern 'a/../b' has a `..`"),
        ({"t": {f"p{n}": "ask" for n in range(MAX_RULES + 1)}}, (), f"has {MAX_RULES + 1} rules"),
        ({f"t{n}": "ask" for n in range(MAX_RULES + 1)}, (), f"has {MAX_RULES + 1} rules"),
        (["t"], (), "valid dictionary"),
    ],
)
def test_a_mistake_is_named_with_its_place(rules: Any, place: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(ApprovalRules).validate_python(rules)
    [error] = caught.value.errors()
    assert error["loc"] == place
    assert reason in error["msg"]


@tool(effect="external")
def run_command(ctx: ToolContext, command: str) -> ExternalEffect:
    """Run a command."""
    raise NotImplementedError


@tool(effect="none")
def look(ctx: ToolContext) -> ToolResult:
    """Look around."""
    return ToolResult("")


def test_rules_that_cannot_be_meant_so_raise_doubts() -> None:
    tools = ToolRegistry([read_file, write_file, edit_file, run_command, look])
    rules: Any = {"wirte_file": "ask", "x": "deny", "look": "deny", "run_command": {"**": "deny"}}
    assert list(doubts(rules, tools)) == [
        "look: the tool changes nothing, so it is always allowed and this rule is not used.",
        "run_command: the tool is about no file, so no pattern ever matches; give it one rule.",
        "wirte_file: there is no such tool; did you mean write_file?",
        "x: there is no such tool; known here: write_file, edit_file, run_command.",
    ]
    fine: Any = {"*": {"a": "ask"}, "write_file": {"a": "ask"}, "run_command": "ask"}
    assert list(doubts(fine, tools)) == []


def approval(call_id: str, answer: str | None, proposal: str | None) -> Question:
    status: Any = "open" if answer is None else "answered"
    return Question(call_id, "", "approval", "Allow it?", proposal=proposal, status=status, answer=answer)


def test_only_a_no_of_this_turn_is_a_refusal() -> None:
    questions = [
        approval("w1", "no, rather b", "p1"),
        approval("w2", "yes", "p2"),
        approval("w3", None, "p3"),
        approval("earlier", "no", "p4"),
        approval("x1", "no", "p5"),
    ]
    paths = {"w1": "A.txt", "w2": "b.txt", "w3": "c.txt", "x1": None, "new": "a.txt"}
    refusals = Refusals.among(questions, paths)
    answers = [refusals.answer_to("new", proposal) for proposal in ("p1", "p2", "p3", "p4", "p5")]
    assert answers == ["no, rather b", None, None, None, "no"]
    assert refusals.answer_to("w3", "p1") is None
    assert [refusals.concern(path) for path in ("a.TXT", "b.txt", None)] == [True, False, False]
