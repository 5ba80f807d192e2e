"""Asking the human: what is asked, and what came back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tools.tool import ToolContext, ToolResult, tool


@dataclass(frozen=True, slots=True)
class HumanRequest:
    """A question that pauses the run until somebody answers it."""

    question: str
    kind: Literal["question", "approval"] = "question"
    options: tuple[str, ...] = ()
    preview: str | None = None
    """For an approval: what would happen, as a unified diff or a command line."""
    proposal: str | None = None
    """For an approval: fingerprint of the effect that was shown (`Effect.fingerprint`)."""


@dataclass(frozen=True, slots=True)
class HumanReply:
    """The answer, as the human gave it."""

    text: str
    proposal: str | None = None
    """The request's `proposal`, so that a changed effect is noticed after the pause."""


@tool(effect="human")
async def ask_human_for_input(
    ctx: ToolContext, question: str, options: list[str] | None = None
) -> ToolResult:
    """Ask the human one question and wait for the answer. Use it for decisions only they can make.

    Args:
        question: The question, complete in itself.
        options: Suggested answers, if there are only a few sensible ones.
    """
    if not question.strip():
        return ToolResult.error("the question is empty; ask one complete question")
    reply = ctx.ask(HumanRequest(question=question, options=tuple(options or ())))
    return ToolResult(content=reply.text, summary="answered")
