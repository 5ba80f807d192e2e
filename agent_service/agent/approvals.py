"""Whether a tool call with an effect may happen: by itself, after a yes, or never."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tools.tool import EffectKind

Rule = Literal["auto", "ask", "deny"]
_STRICTNESS: tuple[Rule, ...] = ("auto", "ask", "deny")


class AnswerUnclear(ValueError):
    """An answer to an approval that starts with yes and goes on: it could mean either."""


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """The service's rules per tool name; files are written without asking unless a rule says so."""

    rules: Mapping[str, Rule] = field(default_factory=dict)

    def rule(self, name: str, effect: EffectKind, wish: str | None = None) -> Rule:
        """The rule for one call; a request's `wish` counts only where it is stricter."""
        if effect in ("none", "human"):
            return "auto"
        own: Rule = self.rules.get(name, "ask" if effect == "external" else "auto")
        wished: Rule = "ask" if wish == "ask" else "deny" if wish == "deny" else "auto"
        return max(own, wished, key=_STRICTNESS.index)


def read_answer(text: str) -> tuple[bool, str]:
    """(yes or no, feedback) of an answer to an approval.

    Exactly yes or y (any case) is a yes. Everything else is a no, with the text as feedback unless it is
    just no or n. Raises AnswerUnclear for a longer text that starts with yes: never consent by guess.
    """
    answer = text.strip()
    if re.fullmatch(r"y(es)?", answer, re.IGNORECASE):
        return True, ""
    if re.fullmatch(r"no?", answer, re.IGNORECASE):
        return False, ""
    if re.match(r"y(es)?\b", answer, re.IGNORECASE):
        raise AnswerUnclear(
            "Answer exactly yes or no. For a no with an explanation, start with no; "
            "for a yes with a wish, say yes now and send the wish as a further instruction."
        )
    return False, answer
