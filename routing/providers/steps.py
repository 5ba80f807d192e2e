"""A conversation read as the steps of a task: which calls were made since the last instruction, and how
they ended. From that, and nothing else, follows what a weak model is offered next.

The three tool names below exist under these names in every version of the agent; requests with other tools
simply have no such guards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from routing.types import ChatMessage

READ, WRITE, EDIT, LIST = "read_file", "write_file", "edit_file", "list_files"
ASK = "ask_human_for_input"

MAX_STEPS = 20
"""Calls in one task after which only an answer is left."""
_MAX_FIRST_READS = 4
_WRITABLE_WHOLE = 4000
"""Characters of a file up to which it is replaced whole: a weak model does not quote a passage exactly."""
_MAX_CHOICES = 40
"""Files up to which the model chooses a path from a list instead of writing it."""
_NAMES_A_FILE = re.compile(r"(?<![\w/.@-])(?:[\w-]+/)*[\w.-]*\w\.[A-Za-z]\w{0,9}(?![\w/])")


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was made, with its result."""

    name: str
    arguments: str
    """As the model wrote them."""
    result: str
    repeated: bool
    """The same call was made before in this task, with the same result, or the same file written: it brought
    nothing."""


@dataclass(frozen=True, slots=True)
class Task:
    """What was asked last, and what has been done about it."""

    text: str
    """The user's words since the last finished answer."""
    done: tuple[Done, ...]
    """All calls since the user's last message."""

    def withheld(self) -> set[str]:
        """Tools that are not offered in the next step.

        A tool whose call was repeated in vain comes back once another call has brought something new, but
        not a second time. The files are listed once, the human is asked one question a task, and passages
        are edited only in files that are too long to be written whole.
        """
        wasted: dict[str, int] = {}
        out: set[str] = set()
        for step in self.done:
            if step.repeated:
                wasted[step.name] = wasted.get(step.name, 0) + 1
                out.add(step.name)
            else:
                out = {name for name in out if wasted[name] > 1}
        if not any(step.name == READ and len(step.result) > _WRITABLE_WHOLE for step in self.done):
            out.add(EDIT)
        return out | {name for name in (LIST, ASK) if any(step.name == name for step in self.done)}

    def unread(self) -> list[str] | None:
        """The listed files that were not read since; None if the files are not known, or are many."""
        first = self.done[0] if self.done else None
        if (
            first is None
            or first.name != LIST
            or first.arguments != "{}"
            or first.result.startswith("Error:")
        ):
            return None
        listed = listed_files(first.result)
        seen = {path_of(step.arguments) for step in self.done if step.name in (READ, WRITE)}
        return [path for path in listed if path not in seen] if len(listed) <= _MAX_CHOICES else None

    @property
    def is_too_long(self) -> bool:
        return len(self.done) >= MAX_STEPS

    def first_look(self, offered: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
        """The calls that come before any choice: list the files, then read those the task names.

        Weak models write before they read; with the named files in front of them they mostly need not
        choose at all. Empty when that was done, or when the tools for it are not there.
        """
        if LIST not in offered:
            return []
        if not self.done:
            return [(LIST, {})]
        if READ not in offered or len(self.done) > 1 or self.done[0].name != LIST:
            return []
        return [(READ, {"filepath": path}) for path in named_files(self.text, self.done[0].result)]


FIRST_LOOK_ARGUMENTS: dict[str, list[str]] = {LIST: [], READ: ["filepath"]}
"""What the tools of the first look may demand; with other demands they are somebody else's tools."""


def read_task(messages: list[ChatMessage]) -> Task:
    """The task that the messages end with."""
    results = {m["tool_call_id"]: text_of(m) for m in messages if m["role"] == "tool" and "tool_call_id" in m}
    words: list[str] = []
    done: list[Done] = []
    seen: dict[tuple[str, str], str] = {}
    written: set[Any] = set()
    answered = False
    for message in messages:
        if message["role"] == "user":
            words = [text_of(message)] if answered else [*words, text_of(message)]
            done, seen, written, answered = [], {}, set(), False
        for call in message.get("tool_calls") or ():
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            result = results.get(call["id"], "")
            key, path = (name, _canonical(arguments)), path_of(arguments) if name == WRITE else None
            repeated = path in written or (key in seen and (name == WRITE or seen[key] == result))
            done.append(Done(name, arguments, result, repeated))
            seen[key] = result
            if path is not None and not result.startswith("Error:"):
                written.add(path)
        answered = answered or (message["role"] == "assistant" and not message.get("tool_calls"))
    return Task("\n\n".join(words), tuple(done))


def listed_files(listing: str) -> list[str]:
    """The paths of files in a listing: one a line, folders with a slash at their end."""
    lines = (line.strip() for line in listing.splitlines())
    return [line for line in lines if line and not line.endswith(("/", ")"))]


def named_files(text: str, listing: str) -> list[str]:
    """The listed paths that the text names, in its order: whole, or by their last part if that is unique."""
    listed = listed_files(listing)
    found: list[str] = []
    for name in _NAMES_A_FILE.findall(text):
        paths = [p for p in listed if p == name] or [p for p in listed if p.endswith("/" + name)]
        if len(paths) == 1 and paths[0] not in found:
            found.append(paths[0])
    return found[:_MAX_FIRST_READS]


def text_of(message: ChatMessage) -> str:
    """The message's text; images and other parts are named, not shown."""
    content = message.get("content")
    if not isinstance(content, list):
        return content or ""
    return "\n".join(part.get("text") or f"({part.get('type', 'part')} left out)" for part in content)


def path_of(arguments: str) -> Any:
    """The `filepath` among a call's arguments; None if there is none."""
    try:
        return json.loads(arguments).get("filepath")
    except (ValueError, AttributeError, RecursionError):
        return None


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
