"""Whether a tool call with an effect may happen: by itself, after a yes, or never."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PlainValidator, TypeAdapter

from agent_service.agent.path_patterns import path_pattern
from tools.tool import EffectKind, Tool, ToolRegistry

Rule = Literal["auto", "ask", "deny"]
_STRICTNESS: tuple[Rule, ...] = ("auto", "ask", "deny")

EVERY_TOOL = "*"
"""Stands, among the rules, for each tool that is not named itself."""
MAX_RULES = 128
"""Rules of one policy or request, those for paths included."""


class AnswerUnclear(ValueError):
    """An answer to an approval that starts with yes and goes on: it could mean either."""


def _checked_patterns(rules: dict[str, Rule]) -> dict[str, Rule]:
    if not rules:  # taken as it stands it would undo a stricter rule for every tool
        raise ValueError("has no rule in it; give auto, ask or deny, or path patterns with one each")
    for text in rules:
        path_pattern(text)
    return rules


def _few(rules: Any) -> Any:
    if isinstance(rules, Mapping):
        count = sum(len(each) if isinstance(each, Mapping) else 1 for each in rules.values())
        if count > MAX_RULES:
            raise ValueError(
                f"has {count} rules, and {MAX_RULES} is the most; a folder's name covers all in it"
            )
    return rules


_RULE: TypeAdapter[Rule] = TypeAdapter(Rule)
_RULES_BY_PATH = TypeAdapter(Annotated[dict[str, Rule], AfterValidator(_checked_patterns)])


def _checked(value: Any) -> Any:
    """Checked as what it looks like, so that an error speaks of that only."""
    return (_RULES_BY_PATH if isinstance(value, Mapping) else _RULE).validate_python(value)


ToolRules = Annotated[
    Rule | dict[str, Rule], PlainValidator(_checked, json_schema_input_type=Rule | dict[str, Rule])
]
"""A rule for every call of a tool, or rules by path pattern, of which the last that matches counts."""
ApprovalRules = Annotated[dict[str, ToolRules], BeforeValidator(_few)]
"""Tool name, or EVERY_TOOL, -> its rules. As a field's type it checks them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rule for one call."""

    rule: Rule
    pattern: str | None = None
    """The path pattern that it comes from, if it comes from one."""


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """The service's rules; files are written without asking unless a rule says so."""

    rules: Mapping[str, ToolRules] = field(default_factory=dict)

    def verdict(
        self, name: str, effect: EffectKind, path: str | None = None, wish: ToolRules | None = None
    ) -> Verdict:
        """The verdict on one call; a request's `wish` for the tool counts only where it is stricter.

        `path` is the file that the call is about, normalised; None, which no pattern matches, if there is
        none or it is not known yet.
        """
        if effect in ("none", "human"):
            return Verdict("auto")
        own = _verdict(rules_for(self.rules, name), effect, path)
        return own if wish is None else stricter(own, _verdict(wish, effect, path))


def rules_for(rules: Mapping[str, ToolRules], name: str) -> ToolRules | None:
    """The rules that hold for a tool: its own, else those for every tool."""
    return rules.get(name, rules.get(EVERY_TOOL))


def stricter(first: Verdict, second: Verdict) -> Verdict:
    """The stricter of the two; the first if they are equally strict."""
    return max(first, second, key=lambda verdict: _STRICTNESS.index(verdict.rule))


def doubts(rules: Mapping[str, ToolRules], tools: ToolRegistry) -> Iterator[str]:
    """What in the rules cannot be meant so: sentences for the operator, each with the tool's name first."""
    for name in sorted(rules.keys() - {EVERY_TOOL}):
        if name not in tools:
            known = [tool.name for tool in tools if tool.effect in ("workspace", "external")]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}."
            yield f"{name}: there is no such tool; {hint}"
        elif tools[name].effect in ("none", "human"):
            yield f"{name}: the tool changes nothing, so it is always allowed and this rule is not used."
        elif isinstance(rules[name], Mapping) and _is_about_no_file(tools[name]):
            yield f"{name}: the tool is about no file, so no pattern ever matches; give it one rule."


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


def _verdict(rules: ToolRules | None, effect: EffectKind, path: str | None) -> Verdict:
    if isinstance(rules, str):
        return Verdict(rules)
    if rules and path is not None:
        for text, rule in reversed(rules.items()):
            if path_pattern(text).matches(path):
                return Verdict(rule, text)
    return Verdict("ask" if effect == "external" else "auto")


def _is_about_no_file(tool: Tool) -> bool:
    # What a tool of the workspace plans names its file even when the arguments do not.
    return tool.effect == "external" and tool.path_parameter is None
