"""Where each conversation was answered last, while the provider may still have its beginning in a cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from routing.health import Key
from routing.policy import Warm

WARM_SECONDS = 300.0
"""How long providers keep a prompt without it being used again: five minutes is Anthropic's default and the
lower end of OpenAI's."""
LEAST_TOKENS = 1024
"""Shorter prompts are not cached (Anthropic, OpenAI and Gemini begin at 1,024)."""
MOST_THREADS = 10_000
_LOOKED_AT = 1000
"""Characters of a message that tell conversations apart, beside its length."""


@dataclass(frozen=True, slots=True)
class _Visit:
    key: Key
    tokens: int
    at: float


class Affinity:
    """The last visits. One for each router; used from one event loop."""

    def __init__(self) -> None:
        self._visits: OrderedDict[object, _Visit] = OrderedDict()

    def warm(self, thread: object, now: float) -> Warm | None:
        """Where the beginning of that thread's prompt should still be cached."""
        visit = self._visits.get(thread)
        if visit is None or now - visit.at >= WARM_SECONDS:
            return None
        return Warm(visit.key, visit.tokens)

    def visited(self, thread: object, key: Key, tokens: int, now: float) -> None:
        """The thread was answered there, for a prompt of so many tokens."""
        if tokens < LEAST_TOKENS:
            return
        self._visits[thread] = _Visit(key, tokens, now)
        self._visits.move_to_end(thread)
        if len(self._visits) > MOST_THREADS:
            self._visits.popitem(last=False)


def thread_of(body: Mapping[str, Any], name: str | None) -> object:
    """What stands for the conversation: its name if it has one, else how it begins.

    That is its messages up to the first of the user's, which stay the same while it grows.
    """
    if name is not None:
        return name
    begin = []
    for message in body.get("messages") or ():
        if not isinstance(message, Mapping):
            break  # the provider will say so
        role, text = str(message.get("role")), _text(message.get("content"))
        begin.append((role, len(text), text[:_LOOKED_AT]))
        if role == "user":
            break
    return hash(tuple(begin))


def _text(content: Any) -> str:
    """The text, or the first of several parts that is one: images are not looked at."""
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, Mapping))
        content = next((text for text in texts if isinstance(text, str)), None)
    return content if isinstance(content, str) else ""
