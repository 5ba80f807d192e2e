"""What the model is told before it starts. Short: on a small machine every token here is waited for."""

from __future__ import annotations

from agent_service.agent.contract import CodeAgentRequest

_WITH_PROJECT = (
    "You are a coding agent. You work in the project folder of a person, through tools; paths are relative "
    "to that folder. Read a file before you change it, and change no more than the task needs. "
    "If a decision belongs to the person, or the task tells you to ask, call ask_human_for_input and use the "
    "answer; otherwise do not ask. When the work is done, stop calling tools and say in a few sentences what "
    "you did."
)
_WITHOUT_PROJECT = (
    "You are a coding assistant. There is no project folder, so answer with the code itself, in one "
    "fenced block with its language, and a short explanation. If a decision belongs to the person, or the "
    "task tells you to ask, call ask_human_for_input and use the answer; otherwise do not ask."
)


def system_prompt(*, has_project: bool) -> str:
    """The same for every call of a thread, so that the provider's prompt cache stays warm."""
    return _WITH_PROJECT if has_project else _WITHOUT_PROJECT


def instruction_text(request: CodeAgentRequest) -> str:
    """The person's message: the instruction, then language and material if there are any."""
    parts = [request.instruction]
    if request.language:
        parts.append(f"Language: {request.language}")
    if request.context:
        parts.append(f"Context:\n{request.context}")
    return "\n\n".join(parts)
