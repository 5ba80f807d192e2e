"""Names of the configuration: chains, groups with a strategy, and the router's own strategy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent_service.config_file import ConfigError
from agent_service.settings import load_settings, routing_config
from routing.config import ChainLink, ModelCard, ModelGroup, RouterConfig, RoutingConfig, Strategy
from routing.errors import ProviderNotFound, ProviderUnavailable
from routing.types import ChatRequest
from tests.unit.routing.room import Memory, Room, ask, memory, rated, room

DOWN = ProviderUnavailable("a", "a answered 500", 500)


def links(*names: str) -> tuple[ChainLink, ...]:
    return tuple(ChainLink(provider=name, model="m") for name in names)


def chosen(at: Room, request: ChatRequest) -> str:
    return asyncio.run(at.router.complete(request)).decision.provider


def priced(name: str, price: float, speed: float, quality: float) -> Memory:
    card = ModelCard(id="m", quality=quality, input_price=price, output_price=price, tokens_per_second=speed)
    return memory(name, models=[card])


def three() -> list[Memory]:
    return [priced("a", 9, 90, 0.7), priced("b", 1, 10, 0.8), priced("c", 5, 50, 0.9)]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("in-order", "bbb"),
        ("least-cost", "bbb"),
        ("latency-based", "aaa"),
        ("by-quality", "ccc"),
        ("usage-based", "cba"),  # each in its turn, because what was just used comes last
        ("simple-shuffle", "ccc"),  # the lots of the test room are all the same, and quality breaks the tie
        (None, "ccc"),
    ],
)
def test_a_group_chooses_by_its_strategy(strategy: Strategy | None, expected: str) -> None:
    group = ModelGroup(of=links("b", "a", "c"), strategy=strategy)
    at = room(*three(), config=RoutingConfig(groups={"team": group}))
    assert "".join(chosen(at, ask(model="team")) for _ in range(3)) == expected


@pytest.mark.parametrize(("strategy", "expected"), [("least-cost", "b"), ("in-order", "a")])
def test_the_routers_own_strategy(strategy: Strategy, expected: str) -> None:
    group = ModelGroup(of=links("c", "b"))
    config = RoutingConfig(groups={"team": group}, router=RouterConfig(strategy=strategy))
    at = room(*three(), config=config)
    assert chosen(at, ask()) == expected == chosen(at, ask(model="fast"))
    assert chosen(at, ask(model="team")) == {"least-cost": "b", "in-order": "c"}[strategy]


def test_a_group_falls_over_within_itself_only() -> None:
    a, b, c = rated("a", 0.9, DOWN), rated("b", 0.8), rated("c", 0.99)
    at = room(a, b, c, config=RoutingConfig(groups={"team": ModelGroup(of=links("a", "b", "gone"))}))
    assert chosen(at, ask(model="team")) == "b"
    b.script[0] = DOWN
    with pytest.raises(ProviderUnavailable):
        chosen(at, ask(model="team"))
    assert not c.asked
    with pytest.raises(ProviderNotFound, match="gone"):
        chosen(
            room(a, config=RoutingConfig(groups={"lost": ModelGroup(of=links("gone"))})), ask(model="lost")
        )


def test_the_configuration_may_say_what_auto_means() -> None:
    at = room(*three(), config=RoutingConfig(aliases={"auto": links("a")}))
    assert chosen(at, ask()) == "a" and chosen(at, ask(provider="b")) == "b"


def test_exploration_leaves_explicit_names_alone() -> None:
    config = RoutingConfig(
        aliases={"chain": links("a", "b")},
        groups={"group": ModelGroup(of=links("a", "b"))},
        router=RouterConfig(exploration=0.5),
    )
    for request, expected in [
        (ask(), "b"),
        (ask(model="code"), "b"),
        (ask(model="chain"), "a"),
        (ask(model="group"), "a"),
        (ask(model="a/m"), "a"),
        (ask(model="m"), "a"),
        (ask(provider="a"), "a"),
    ]:
        at = room(rated("a", 0.9, tools=True), rated("b", 0.9, tools=True), config=config)
        at.router._random = lambda: 0.0
        assert chosen(at, request) == expected
    at = room(rated("a", 0.9), rated("b", 0.9), config=RoutingConfig(router=RouterConfig(exploration=0)))
    at.router._random = lambda: 0.0
    assert chosen(at, ask()) == "a"


# ---- as YAML -----------------------------------------------------------------------------------------

GROUP = "of: [{provider: groq, model: m}, {provider: openai, model: n}]"


def configured(tmp_path: Path, yaml: str) -> RoutingConfig:
    file = tmp_path / "config.yaml"
    file.write_text(f"providers: {{groq: {{api_key: none}}, openai: {{api_key: none}}}}\n{yaml}")
    return routing_config(load_settings(file, {}, {"HOME": str(tmp_path)}), {})


def test_groups_and_strategies_are_configured(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        f"model_groups: {{team: {{strategy: usage-based, {GROUP}}}}}\n"
        "models: {code: [{provider: groq, model: m}]}\n"
        "router: {strategy: least-cost, exploration: 0}",
    )
    assert config.groups["team"].strategy == "usage-based"
    assert [link.model for link in config.groups["team"].of] == ["m", "n"]
    assert config.router.strategy == "least-cost" and config.router.exploration == 0


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        (f"model_groups: {{x: {{stratgy: least-cost, {GROUP}}}}}", "no such key; did you mean strategy?"),
        (f"model_groups: {{x: {{strategy: cheapest, {GROUP}}}}}", "Input should be 'by-quality', 'in-order'"),
        ("model_groups: {x: {of: []}}", "model_groups.x.of: "),
        ("model_groups: {x: [{provider: a, model: b}]}", "x is no group; give `strategy` and `of`"),
        (f"models: {{x: {{strategy: least-cost, {GROUP}}}}}", "put it under model_groups"),
        ("models: {x: []}", "x is no chain"),
        (
            f"models: {{x: [{{provider: a, model: b}}]}}\nmodel_groups: {{x: {{{GROUP}}}}}",
            "under models, too",
        ),
        ("router: {strategy: fastest}", "router.strategy: Input should be 'by-quality'"),
        ("router: {exploration: 0.9}", "router.exploration: "),
    ],
)
def test_mistakes_are_told(tmp_path: Path, yaml: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, yaml)
    assert expected in str(caught.value) and "line" in str(caught.value)
