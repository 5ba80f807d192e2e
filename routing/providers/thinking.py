"""How long a model is to think: OpenAI's `reasoning_effort` in the words of the other formats.

An effort that a model does not know becomes the nearest that it knows; of two equally near, the greater.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from routing.config import Effort, ModelCard

EFFORTS: tuple[Effort, ...] = get_args(Effort)
_CLAUDE: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")
"""What `output_config.effort` may say (types of Anthropic's SDK 2.11)."""
_GEMINI: tuple[Effort, ...] = ("low", "medium", "high")
"""The thinking levels that every Gemini since 3.1 has (https://ai.google.dev/gemini-api/docs/thinking)."""
_COUNTS_TOKENS = re.compile(r"gemini-2\.5\b")
"""Models that are given a number of tokens to think with instead of a level."""
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Google's own translation: https://ai.google.dev/gemini-api/docs/openai, section "Thinking", 2026-11."""


def nearest_effort(asked: Any, known: Sequence[Effort]) -> Effort | None:
    """The effort among the known ones that is nearest to what was asked for; None if there is no telling.

    Raises ValueError for what is no effort in OpenAI's words.
    """
    if asked is None or not known:
        return None
    place = EFFORTS.index(asked)
    return min(known, key=lambda each: (abs(EFFORTS.index(each) - place), -EFFORTS.index(each)))


def openai_effort(card: ModelCard, asked: Any) -> Any:
    """What `reasoning_effort` is to say; of a model whose efforts are not known, what was asked for."""
    return nearest_effort(asked, card.efforts) if card.efforts else asked


def claude_effort(card: ModelCard, asked: Any) -> Effort | None:
    """What `output_config.effort` is to say; None = nothing."""
    return nearest_effort(asked, _CLAUDE if card.efforts is None else card.efforts)


def thinking_config(card: ModelCard, asked: Any) -> dict[str, Any] | None:
    """Gemini's `thinkingConfig`; None = none is to be sent."""
    by_tokens = bool(_COUNTS_TOKENS.search(card.id))
    usual = ("minimal", *_GEMINI) if by_tokens else _GEMINI
    effort = nearest_effort(asked, usual if card.efforts is None else card.efforts)
    if effort is None:
        return None
    return {"thinkingBudget": _BUDGETS[effort]} if by_tokens else {"thinkingLevel": effort.upper()}


def cohere_thinking(card: ModelCard, asked: Any) -> dict[str, Any] | None:
    """Cohere's `thinking`, which is on or off (https://docs.cohere.com/docs/reasoning, read 2026-11)."""
    effort = nearest_effort(asked, ("none", "high") if card.efforts is None else card.efforts)
    return None if effort is None else {"type": "disabled" if effort == "none" else "enabled"}
