"""Consent is a clear yes and nothing else; a request can only make the rules stricter."""

from __future__ import annotations

from typing import Any

import pytest

from agent_service.agent.approvals import AnswerUnclear, ApprovalPolicy, read_answer


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
    ],
)
def test_the_stricter_rule_counts(rules: Any, effect: Any, wish: str | None, expected: str) -> None:
    assert ApprovalPolicy(rules).rule("t", effect, wish) == expected
