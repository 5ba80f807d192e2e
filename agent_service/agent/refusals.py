"""What the human said no to since the instruction: it is neither asked again nor gone around."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from langchain_core.messages import AIMessage, AnyMessage, ToolCall

from agent_service.agent.approvals import read_answer
from agent_service.agent.path_patterns import folded
from checkpoints.questions import Question


@dataclass(frozen=True, slots=True)
class Refusals:
    """The noes of one turn, as they stood when its run began: answers only come in between two runs."""

    answers: Mapping[str, str] = field(default_factory=dict)
    """`Question.proposal` -> what the human answered."""
    paths: frozenset[str] = frozenset()
    """The files it was about, folded."""
    asked: frozenset[str] = frozenset()
    """The calls that have a question of their own; its answer is theirs."""

    @classmethod
    def among(cls, questions: Iterable[Question], paths: Mapping[str, str | None]) -> Refusals:
        """Those of the calls of a turn, given as the file that each call is about, if it is about one."""
        asked = [q for q in questions if q.kind == "approval" and q.tool_call_id in paths]
        noes = [q for q in asked if is_no(q)]
        return cls(
            answers={q.proposal: q.answer or "" for q in noes if q.proposal is not None},
            paths=frozenset(folded(path) for q in noes if (path := paths[q.tool_call_id]) is not None),
            asked=frozenset(q.tool_call_id for q in asked),
        )

    def answer_to(self, call_id: str, proposal: str) -> str | None:
        """What the human said when another call proposed the very same; None if it was no no."""
        return None if call_id in self.asked else self.answers.get(proposal)

    def concern(self, path: str | None) -> bool:
        """Whether the human refused a change of that file; then no other is made without asking."""
        return path is not None and folded(path) in self.paths


def is_no(question: Question) -> bool:
    """Whether a human refused an approval."""
    return (
        question.kind == "approval"
        and question.status == "answered"
        and not read_answer(question.answer or "")[0]
    )


def calls_since(message_id: str, messages: Sequence[AnyMessage]) -> list[ToolCall]:
    """The tool calls after that message; none if it is not there."""
    ids = [message.id for message in messages]
    start = ids.index(message_id) if message_id in ids else len(ids)
    return [call for m in messages[start:] if isinstance(m, AIMessage) for call in m.tool_calls]
