from __future__ import annotations

from typing import Any

import pytest

from routing.catalogue import known_models, known_providers
from routing.config import Effort, ModelCard, ProviderSpec
from routing.providers.constrained import ignored_fields
from routing.providers.formats import FORMATS
from routing.providers.thinking import EFFORTS, nearest_effort

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def sent(protocol: Any, card: ModelCard, effort: str) -> dict[str, Any]:
    spec = ProviderSpec(name="acme", protocol=protocol, base_url="https://e.com")
    return FORMATS[spec.protocol]().request(spec, card, {**BODY, "reasoning_effort": effort}, stream=False)


@pytest.mark.parametrize(
    ("asked", "known", "expected"),
    [
        ("minimal", ("low", "medium", "high"), "low"),
        ("max", ("low", "medium", "high"), "high"),
        ("none", ("minimal", "low"), "minimal"),
        ("low", ("none", "high"), "high"),
        ("minimal", ("none", "high"), "none"),
        ("xhigh", EFFORTS, "xhigh"),
        (None, EFFORTS, None),
        ("high", (), None),
    ],
)
def test_the_nearest_effort(asked: str | None, known: tuple[Effort, ...], expected: str | None) -> None:
    assert nearest_effort(asked, known) == expected


@pytest.mark.parametrize("effort", ["much", 5, ["high"]])
def test_other_words_are_no_effort(effort: Any) -> None:
    with pytest.raises(ValueError, match="tuple"):
        nearest_effort(effort, EFFORTS)


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-3.8-flash", "none", {"thinkingLevel": "LOW"}),
        ("gemini-3.6-flash", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-4-argon", "xhigh", {"thinkingLevel": "HIGH"}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 1024}),
        ("gemini-2.5-pro", "medium", {"thinkingBudget": 8192}),
        ("gemini-2.5-flash-lite", "max", {"thinkingBudget": 24576}),
    ],
)
def test_gemini_is_told_a_level_or_a_budget(model: str, effort: str, expected: dict[str, Any]) -> None:
    card = next(each for each in known_models("gemini") if each.id == model)
    for protocol in ("gemini", "vertex-ai"):
        assert sent(protocol, card, effort)["generationConfig"]["thinkingConfig"] == expected


def test_each_format_in_its_own_words() -> None:
    card = ModelCard(id="m")
    assert sent("openai-chat", card, "minimal")["reasoning_effort"] == "minimal"
    assert (
        sent("openai-chat", ModelCard(id="m", efforts=("low", "high")), "max")["reasoning_effort"] == "high"
    )
    assert sent("anthropic-messages", card, "minimal")["output_config"] == {"effort": "low"}
    assert sent("cohere-chat", card, "none")["thinking"] == {"type": "disabled"}
    assert sent("cohere-chat", card, "medium")["thinking"] == {"type": "enabled"}


def test_efforts_of_a_shipped_model_stand_in_their_order() -> None:
    for name in known_providers():
        for card in known_models(name):
            if card.efforts:
                assert list(card.efforts) == sorted(card.efforts, key=EFFORTS.index)


@pytest.mark.parametrize(
    ("card", "body", "ignored"),
    [
        (ModelCard(id="m", efforts=()), {"reasoning_effort": "low"}, {"reasoning_effort"}),
        (ModelCard(id="m"), {"reasoning_effort": "low", "tool_choice": "required"}, set()),
        (ModelCard(id="m", forced_tools=False), {"tool_choice": "required"}, {"tool_choice"}),
        (
            ModelCard(id="m", forced_tools=False),
            {"tool_choice": {"function": {"name": "f"}}},
            {"tool_choice"},
        ),
        (ModelCard(id="m", forced_tools=False), {"tool_choice": "none"}, set()),
        (ModelCard(id="m", forced_tools=False), {"tool_choice": "auto"}, set()),
    ],
)
def test_what_a_model_does_not_take_is_named(
    card: ModelCard, body: dict[str, Any], ignored: set[str]
) -> None:
    spec = ProviderSpec(name="acme", base_url="https://e.com")
    assert ignored_fields(spec, card, {**BODY, "tools": [{}], **body}) == ignored
