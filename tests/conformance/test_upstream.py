"""The scripted upstream judges histories as the strictest providers do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.history import objection


def call(call_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}


def asks(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "done"}


USER = {"role": "user", "content": "go"}
SYSTEM = {"role": "system", "content": "be good"}
ANSWER = {"role": "assistant", "content": "done"}


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [SYSTEM, USER, ANSWER, USER],
        [USER, asks(call("a"), call("b")), result("b"), result("a")],
        [USER, asks(call("a")), result("a"), asks(call("b")), result("b"), ANSWER, USER],
        [{"role": "user", "content": [{"type": "text", "text": "go"}]}],
    ],
)
def test_sound_histories(messages: list[dict[str, Any]]) -> None:
    assert objection({"model": "m", "messages": messages}) is None


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "not empty"),
        ([USER, asks(call("a"))], "without an answer"),
        ([USER, asks(call("a"), call("b")), result("a"), USER], "without an answer"),
        ([USER, result("a")], "no open tool call"),
        ([USER, asks(call("a")), result("a"), result("a")], "no open tool call"),
        ([USER, asks(call("a")), result("a"), asks(call("a")), result("a")], "used twice"),
        ([USER, asks(call("a"), call("a")), result("a")], "used twice"),
        ([USER, asks(call("")), result("")], "not allowed"),
        ([USER, asks(call("a" * 65)), USER], "not allowed"),
        ([USER, asks(call("a", "{")), result("a")], "not JSON"),
        ([USER, asks(call("a", "[]")), result("a")], "not a JSON object"),
        ([{"role": "robot", "content": "x"}], "unknown role"),
        ([{"role": "user", "content": ""}], "must not be empty"),
        ([{"role": "user", "content": None}], "string or a list"),
        ([USER, ANSWER], "last message"),
        ([USER, {"role": "assistant", "content": "x", "tool_calls": []}, USER], "with calls"),
    ],
)
def test_unsound_histories(messages: list[dict[str, Any]], reason: str) -> None:
    assert reason in (objection({"model": "m", "messages": messages}) or "")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": ""}, "model"),
        ({"api_base": "http://x"}, "api_base"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"parameters": {"type": "array"}}}]}, "object"),
    ],
)
def test_unsound_requests(fields: dict[str, Any], reason: str) -> None:
    assert reason in (objection({"model": "m", "messages": [USER], **fields}) or "")
